/**
 * `camsink init`: asks for cameras and sinks, tries every answer against the real thing while it can
 * still be corrected, and writes `camsink.jsonc`. Nothing is written before all of it holds, except
 * for secrets that the user pasted, which go into files of their own.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { chmod, mkdir } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { type Config, ConfigError, parseConfig } from "../core/config/load.ts";
import { configJsonSchemaText } from "../core/config/json_schema.ts";
import { makeSecret } from "../core/config/values.ts";
import { discoverOnvif } from "../core/sources/onvif/discovery.ts";
import { sdmEndpoints } from "../core/sources/google/options.ts";
import { EXIT, type ExitCode, withExitCode } from "../core/exit_codes.ts";
import type { InitArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { type AskOptions, askSinks, askSource } from "./init_answers.ts";
import { googleConsent } from "./google_consent.ts";
import { renderConfig } from "./init_config.ts";
import { type Finding, probeAccount, probeCamera, probeSink } from "./probes.ts";
import { flagsOnly, type Prompter, terminalPrompter } from "./prompter.ts";
import { configTables, openAccount, openCamera, openSink } from "./rooms.ts";
import { styles } from "./terminal.ts";
import { whereOf } from "./where.ts";
import { writeConfigFile } from "./write_config.ts";

/** The folder, beside the configuration, of secrets that were pasted. */
const SECRETS = "camsink.secrets";

/** Runs `camsink init`. */
export async function init(
  args: InitArguments,
  context: CommandContext & {
    readonly prompter?: Prompter;
    /** Looks for cameras on the local network. */
    readonly discover?: AskOptions["discover"];
  },
): Promise<ExitCode> {
  const { terminal } = context;
  const path = resolve(args.out ?? "camsink.jsonc");
  if (!args.force && existsSync(path)) {
    throw withExitCode(
      new Error(`${path} exists and was left as it is; --force replaces it`),
      EXIT.config,
    );
  }
  const asks = !args.yes && terminal.isTerminal && Deno.stdin.isTerminal();
  const prompter = context.prompter ?? (asks ? await terminalPrompter() : flagsOnly(terminal.err));
  const ask: AskOptions = {
    args,
    prompter,
    keepSecret: (name, value) => keepSecret(dirname(path), name, value),
    discover: context.discover ??
      (() =>
        discoverOnvif({ clock: context.clock, signal: context.stop }).catch((error: unknown) => {
          if (context.stop.aborted) throw error;
          return []; // no network that could be asked
        })),
    reveal: async (reference) => {
      const [, file] = /^file:(.+)$/.exec(reference) ?? [];
      const secret = file === undefined ? reference : `file:${resolve(dirname(path), file)}`;
      return await makeSecret(secret).reveal();
    },
    consent: ({ endpoints, ...client }) =>
      googleConsent({
        ...client,
        endpoints: sdmEndpoints({ endpoints }),
        prompter,
        clock: context.clock,
        random: context.random,
        signal: context.stop,
      }),
  };
  const tried: TryOptions = { path, prompter, context, skip: args.skipTests };

  const source = await untilItHolds(tried, ask, async (answers) => {
    const source = await askSource(answers);
    const text = renderConfig({ source, sinks: [] });
    return { answer: source, text, probe: probeSources };
  });
  const sinks = await untilItHolds(tried, ask, async (answers) => {
    const sinks = await askSinks(answers);
    return { answer: sinks, text: renderConfig({ source, sinks }), probe: probeSinks };
  });

  await writeConfigFile(path, { text: renderConfig({ source, sinks }), force: args.force });
  const schemaPath = join(dirname(path), "camsink.schema.json");
  if (args.force || !existsSync(schemaPath)) {
    await writeConfigFile(schemaPath, { text: configJsonSchemaText(configTables), force: true });
    // Nothing in it is secret, and editors of other users may want it.
    await chmod(schemaPath, 0o644).catch(() => {});
  }
  const shown = relative(Deno.cwd(), path) || path;
  const named = shown === "camsink.jsonc" ? "" : ` --config ${shown}`;
  prompter.done(
    `Wrote ${shown}. Next: camsink check${named}, then camsink capture${named}`,
  );
  return EXIT.ok;
}

interface TryOptions {
  readonly path: string;
  readonly prompter: Prompter;
  readonly context: CommandContext;
  readonly skip: boolean;
}

interface Attempt<T> {
  readonly answer: T;
  /** A configuration that holds these answers. */
  readonly text: string;
  readonly probe: (config: Config, context: CommandContext) => Promise<readonly Finding[]>;
}

/**
 * Asks, tries the answers, and asks again where they failed and somebody is there to ask. The second
 * time the flags no longer answer: they were wrong.
 */
async function untilItHolds<T>(
  { path, prompter, context, skip }: TryOptions,
  ask: AskOptions,
  attempt: (ask: AskOptions) => Promise<Attempt<T>>,
): Promise<T> {
  const style = styles(context.terminal.color);
  for (let answers = ask;; answers = withoutFlags(ask)) {
    const { answer, text, probe } = await attempt(answers);
    // What the flags say is held to the same rules as a file.
    const { config } = await parseConfig(text, {
      path,
      tables: configTables,
      requireSecrets: !skip,
    }).catch((error: unknown) => {
      if (!(error instanceof ConfigError)) throw error;
      // There is no file yet whose lines could be named.
      const problems = error.problems.map((problem) => problem.text).join("\n  ");
      throw withExitCode(new Error(problems, { cause: error }), EXIT.config);
    });
    if (skip) return answer;
    const findings = await prompter.busy("Trying it", () => probe(config, context));
    for (const { ok, what, name, detail, fix } of findings) {
      context.terminal.err(
        `${ok ? style.green("✓") : style.red("✗")} ${what} ${name}: ${detail}` +
          (fix === undefined ? "" : `\n    ${style.yellow("fix:")} ${fix}`),
      );
    }
    const failed = findings.find(({ ok }) => !ok);
    if (failed === undefined) return answer;
    if (!prompter.interactive) {
      throw withExitCode(
        new Error(
          `${failed.what} ${failed.name} does not work, so nothing was written; ` +
            "--skip-tests writes the file all the same",
        ),
        failed.exitCode ?? EXIT.unavailable,
      );
    }
    const next = await prompter.choose({
      flag: "--skip-tests",
      message: "That did not work. What now?",
      choices: [
        { value: "again", label: "Answer again" },
        { value: "keep", label: "Keep the answers all the same" },
      ],
    });
    if (next === "keep") return answer;
  }
}

/** Only what is never asked for: all other flags may be what was wrong. */
function withoutFlags(ask: AskOptions): AskOptions {
  const { command, yes, force, skipTests, debug, noColor } = ask.args;
  const { endpoints, width, azureContainer } = ask.args;
  return {
    ...ask,
    args: {
      command,
      yes,
      force,
      skipTests,
      debug,
      noColor,
      endpoints,
      width,
      azureContainer,
      sinks: [],
    },
  };
}

async function probeSources(
  config: Config,
  context: CommandContext,
): Promise<readonly Finding[]> {
  const options = { signal: context.stop, clock: context.clock };
  const findings: Finding[] = [];
  for (const [name, account] of Object.entries(config.accounts)) {
    await using opened = await openAccount(name, { config: account, context });
    const { finding, cameras } = await probeAccount(name, { account: opened, ...options });
    findings.push(finding);
    // One picture proves the way; a camera that is switched off now is no mistake in the answers.
    const camera = cameras.find(({ state }) => state === "online") ?? cameras[0];
    if (camera !== undefined) {
      findings.push(await probeCamera(camera.name, { camera, ...options }));
    }
  }
  for (const camera of Object.values(config.cameras)) {
    const source = openCamera({ config: camera, context });
    findings.push(await probeCamera(camera.name, { camera: { source }, ...options }));
  }
  return findings;
}

async function probeSinks(config: Config, context: CommandContext): Promise<readonly Finding[]> {
  return await Promise.all(
    Object.entries(config.sinks).map(async ([name, sink]) =>
      await probeSink(name, {
        open: () => openSink(name, { config: sink }),
        where: await whereOf(sink),
        signal: context.stop,
        clock: context.clock,
      })
    ),
  );
}

/** Keeps a pasted secret in a file of its own; the reference is relative to the configuration. */
async function keepSecret(folder: string, name: string, value: string): Promise<string> {
  await mkdir(join(folder, SECRETS), { recursive: true, mode: 0o700 });
  await writeConfigFile(join(folder, SECRETS, name), { text: value, force: true });
  return `file:./${SECRETS}/${name}`;
}
