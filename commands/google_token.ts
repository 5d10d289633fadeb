/**
 * `camsink google-token`: makes the long-lived token that an account of type `google-home` logs in
 * with, out of the cookie that Google's set-up page leaves, and keeps it in a private file.
 *
 * @module
 */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import process from "node:process";
import { text as readText } from "node:stream/consumers";
import { revealedSecrets } from "../core/config/values.ts";
import { EXIT, type ExitCode } from "../core/exit_codes.ts";
import { masterToken } from "../core/sources/google_home/android_auth.ts";
import { googleHomeEndpoints } from "../core/sources/google_home/options.ts";
import type { GoogleTokenArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { terminalPrompter, usageError } from "./prompter.ts";
import { writeConfigFile } from "./write_config.ts";

const HOW = [
  "1. Open https://accounts.google.com/EmbeddedSetup in a private window and log in.",
  '2. Click "I agree". The page then waits for ever: ignore that.',
  "3. In the developer tools, under Storage or Application, copy the value of the cookie oauth_token",
  '   (it begins with "oauth2_4/"). It is good for one try, within a few minutes.',
].join("\n");

/** Runs `camsink google-token`. */
export async function googleToken(
  args: GoogleTokenArguments,
  { terminal, clock, random, stop }: CommandContext,
): Promise<ExitCode> {
  const oauthToken = await askForCookie();
  if (!/^oauth2_4\/\S+$/.test(oauthToken)) {
    throw usageError('the cookie oauth_token: expected a value that begins with "oauth2_4/"');
  }
  revealedSecrets.add(oauthToken);
  const androidId = args.androidId ??
    Array.from({ length: 16 }, () => Math.floor(random() * 16).toString(16)).join("");
  const endpoints = args.endpoint === undefined ? {} : { android: args.endpoint };
  const token = await masterToken({
    endpoint: googleHomeEndpoints({ endpoints }).android,
    clock,
    signal: stop,
  }, { email: args.email, androidId, oauthToken });
  revealedSecrets.add(token);
  await mkdir(dirname(args.out), { recursive: true, mode: 0o700 });
  await writeConfigFile(args.out, { text: token, force: args.force });
  const entry = {
    type: "google-home",
    masterToken: `file:${args.out}`,
    email: args.email,
    androidId,
  };
  terminal.out(`"accounts": ${JSON.stringify({ google: entry }, null, 2)}`);
  terminal.err(
    `The token is in ${args.out}, which only you can read. Put the lines above into camsink.jsonc, ` +
      "then: camsink check",
  );
  return EXIT.ok;
}

/** Asked for on a terminal, read from stdin elsewhere: a flag could be seen by others. */
async function askForCookie(): Promise<string> {
  if (!process.stdin.isTTY) return (await readText(process.stdin)).trim();
  const prompter = await terminalPrompter();
  prompter.note("How to get the cookie", HOW);
  return (await prompter.password({ flag: "stdin", message: "The cookie oauth_token" })).trim();
}
