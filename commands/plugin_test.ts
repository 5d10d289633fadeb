/**
 * `camsink plugin test`: the conformance kit for authors. Says of each case that fails what was seen,
 * why it matters and how to mend it.
 *
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { parse as parseJsonc } from "jsonc-parser";
import { makeSecret } from "../core/config/values.ts";
import { denoPath } from "../core/program.ts";
import { PluginError } from "../core/plugins/mod.ts";
import { EXIT, type ExitCode, withExitCode } from "../core/exit_codes.ts";
import type { SinkPlugin } from "../core/types.ts";
import {
  type CaseReport,
  inProcess,
  isolated,
  type KitReport,
  runKit,
  type SinkHost,
  type SinkTest,
} from "../kit/mod.ts";
import { builtinSinks } from "../sinks/mod.ts";
import type { CommandContext } from "./context.ts";
import type { PluginTestArguments } from "./plugin_author_arguments.ts";
import { styles, type Terminal } from "./terminal.ts";

/** Runs `camsink plugin test`. */
export async function pluginTest(
  args: PluginTestArguments,
  { terminal, stop, clock }: CommandContext,
): Promise<ExitCode> {
  const { host, folder } = await openHost(args, stop);
  await using _ = host;
  const test = args.config === undefined ? await loadTest(folder) : await configTest(args.config);
  const reason = await test.unavailable?.();
  if (reason !== undefined) {
    throw withExitCode(new Error(`this plugin cannot be tried here: ${reason}`), EXIT.unavailable);
  }
  const report = await runKit({
    host,
    test,
    signal: stop,
    clock,
    ...(args.only.length > 0 ? { only: args.only } : {}),
    ...(args.patience === undefined ? {} : { soonMs: args.patience }),
    ...(args.json ? {} : { onCase: (one: CaseReport) => tell(one, terminal) }),
  });
  if (args.json) terminal.out(JSON.stringify(report));
  else sumUp(report, terminal);
  return report.ok ? EXIT.ok : EXIT.failure;
}

function fail(message: string): never {
  throw withExitCode(new Error(message), EXIT.config);
}

/**
 * A plugin by path or package, run as it is for its users; or a built-in sink by its type, which runs
 * in this process for everybody.
 */
async function openHost(
  { path, inProcess: isInProcess, patience }: PluginTestArguments,
  signal: AbortSignal,
): Promise<{ readonly host: SinkHost; readonly folder: string }> {
  const isPackage = path.startsWith("npm:");
  const full = resolve(path);
  const info = isPackage ? undefined : await stat(full).catch(() => undefined);
  if (info === undefined && !isPackage) {
    if (Object.hasOwn(builtinSinks, path)) {
      return { host: inProcess(builtinSinks[path as keyof typeof builtinSinks]), folder: "" };
    }
    fail(
      `there is no plugin ${path}: give its file or folder, npm:NAME, or the type of a built-in sink`,
    );
  }
  if (isInProcess || denoPath() === undefined) return await loadHere(path);
  try {
    return {
      host: await isolated(isPackage ? path : full, {
        folder: process.cwd(),
        signal,
        ...(patience === undefined
          ? {}
          : { limits: { startMs: Math.max(60_000, patience), stopMs: patience } }),
      }),
      folder: isPackage ? "" : info?.isDirectory() === true ? full : dirname(full),
    };
  } catch (error) {
    throw error instanceof PluginError ? withExitCode(error, EXIT.config) : error;
  }
}

async function loadHere(
  path: string,
): Promise<{ readonly host: SinkHost; readonly folder: string }> {
  const { plugin, folder } = await importPlugin(path);
  return { host: inProcess(plugin), folder };
}

async function importPlugin(path: string): Promise<{ plugin: SinkPlugin; folder: string }> {
  const full = resolve(path);
  const isPackage = path.startsWith("npm:");
  const isFolder = !isPackage && (await stat(full)).isDirectory();
  const file = isPackage ? path : isFolder ? join(full, await mainOf(full)) : full;
  let loaded: Record<string, unknown>;
  try {
    loaded = await import(isPackage ? path : pathToFileURL(file).href);
  } catch (error) {
    fail(`cannot load ${file}: ${error instanceof Error ? error.message : error}`);
  }
  const plugin = loaded.default;
  if (
    typeof plugin !== "object" || plugin === null || !("open" in plugin) || !("api" in plugin)
  ) {
    fail(`${file} exports no sink: expected "export default defineSink({ … })"`);
  }
  if (plugin.api !== 1) {
    fail(`${file} is for api ${plugin.api}, and this program speaks api 1: take another version`);
  }
  return { plugin: plugin as SinkPlugin, folder: isPackage ? "" : isFolder ? full : dirname(file) };
}

async function mainOf(folder: string): Promise<string> {
  const text = await readFile(join(folder, "deno.json"), "utf8").catch(() => "{}");
  const settings: unknown = parseJsonc(text);
  return typeof settings === "object" && settings !== null && "exports" in settings &&
      typeof settings.exports === "string"
    ? settings.exports
    : "mod.ts";
}

async function loadTest(folder: string): Promise<SinkTest> {
  const file = join(folder, "camsink.test.ts");
  if (folder === "" || !await stat(file).then(() => true, () => false)) {
    fail(
      folder === ""
        ? "a package or a built-in sink has no test beside it: give --config FILE with its options"
        : `there is no ${file}: write one (docs/writing-a-sink.md), or give --config FILE`,
    );
  }
  const { default: test } = await import(pathToFileURL(file).href) as { default?: unknown };
  if (typeof test !== "object" || test === null || !("start" in test)) {
    fail(`${file} exports no test: expected "export default { start: … } satisfies SinkTest"`);
  }
  return test as SinkTest;
}

/**
 * Options for a server of the user's own: where they hold an address, the proxy comes before it, and
 * what is given by reference is a secret.
 */
async function configTest(path: string): Promise<SinkTest> {
  const problems: import("jsonc-parser").ParseError[] = [];
  const text = await readFile(path, "utf8").catch((error) => fail(`cannot read ${path}: ${error}`));
  const options: unknown = parseJsonc(text, problems);
  if (problems.length > 0 || typeof options !== "object" || options === null) {
    fail(`${path} is not a JSON object with the sink's options`);
  }
  const plain: Record<string, unknown> = {};
  const secrets: Record<string, string> = {};
  let address: [key: string, url: string] | undefined;
  for (const [key, value] of Object.entries(options)) {
    if (key === "type" || key === "from") continue;
    if (typeof value === "string" && /^(env|file):/.test(value)) {
      secrets[key] = await makeSecret(value).reveal();
      continue;
    }
    plain[key] = value;
    if (address === undefined && typeof value === "string" && /^https?:\/\//.test(value)) {
      address = [key, value];
    }
  }
  return {
    start: () =>
      Promise.resolve({
        ...(address === undefined ? {} : { url: address[1] }),
        config: (url) => address === undefined ? plain : { ...plain, [address[0]]: url },
        secrets,
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  };
}

function tell(report: CaseReport, terminal: Terminal): void {
  const { id, title, outcome, detail, why, fix, tookMs } = report;
  const style = styles(terminal.dataColor);
  const took = style.dim(tookMs >= 100 ? `  ${(tookMs / 1000).toFixed(1)} s` : "");
  if (outcome === "passed") {
    terminal.out(`${style.green("✓")} ${title}${took}`);
    if (detail !== undefined) terminal.out(style.dim(`    note: ${detail}`));
  } else if (outcome === "not-applicable") {
    terminal.out(style.dim(`– ${title}`));
    terminal.out(style.dim(`    does not apply: ${detail}`));
  } else {
    terminal.out(`${style.red("✗")} ${style.bold(title)}${took}`);
    terminal.out(`    what failed:    ${detail}`);
    terminal.out(`    why it matters: ${why}`);
    terminal.out(`    how to mend it: ${fix}`);
    terminal.out(style.dim(`    this case alone: --only ${id}`));
  }
}

function sumUp({ sink, how, cases, tookMs }: KitReport, terminal: Terminal): void {
  const count = (outcome: CaseReport["outcome"]) =>
    cases.filter((one) => one.outcome === outcome).length;
  terminal.out("");
  terminal.out(
    `${sink}, ${how}: ${count("passed")} passed, ${count("failed")} failed, ` +
      `${count("not-applicable")} do not apply · ${(tookMs / 1000).toFixed(1)} s`,
  );
}
