/** Making a Google Home login out of the set-up page's cookie, with the real program. */
import assert from "node:assert/strict";
import { startGoogleHomeSimulator } from "../../simulators/mod.ts";
import { CLI_COMMAND, inTempFolder } from "../support/run_cli.ts";

Deno.test("google-token keeps the token in a private file and prints the account without it", () =>
  inTempFolder(async (cwd) => {
    await using home = await startGoogleHomeSimulator({
      cameras: [],
      footage: () => new Uint8Array(),
    });
    const { email, androidId, oauthToken, masterToken } = home.credentials;
    const run = async (cookie: string) => {
      const args = ["--email", email, "--android-id", androidId];
      const child = new Deno.Command("sh", {
        args: ["-c", 'printf %s "$COOKIE" | "$@"', "sh", Deno.execPath(), ...cliArguments(args)],
        cwd,
        env: { COOKIE: cookie, NO_COLOR: "1" },
      });
      const { code, stdout, stderr } = await child.output();
      const decoder = new TextDecoder();
      return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
    };
    const cliArguments = (args: readonly string[]) => [
      ...CLI_COMMAND,
      ...["google-token", ...args, "--endpoint", home.endpoints.android],
    ];
    const wrong = await run("SIDCC=1");
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /oauth2_4/);
    const made = await run(oauthToken);
    assert.equal(made.code, 0, made.stderr);
    assert.ok(!(made.stdout + made.stderr).includes(masterToken));
    const { google } = JSON.parse(made.stdout.replace('"accounts": ', ""));
    assert.equal(google.androidId, androidId);
    const path = `${cwd}/camsink.secrets/google-home`;
    assert.equal((await Deno.readTextFile(path)).trim(), masterToken);
    assert.equal(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o600);
    const again = await run(oauthToken);
    assert.equal(again.code, 77);
    assert.match(again.stderr, /good for one try/);
  }));
