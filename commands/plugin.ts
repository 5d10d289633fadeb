/**
 * `camsink plugin add`, `list`, `info` and `remove`: the approvals of sinks that others wrote.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import process from "node:process";
import { getNodeValue } from "jsonc-parser";
import { findConfig } from "../core/config/load.ts";
import { parseText } from "../core/config/jsonc.ts";
import { sinkFields } from "../core/config/sink_fields.ts";
import { EXIT, type ExitCode, withExitCode } from "../core/exit_codes.ts";
import { getLog } from "../core/log.ts";
import {
  type Approval,
  type Approvals,
  approvalsPath,
  describePlugin,
  type PluginAbout,
  PluginError,
  type PluginGraph,
  readApprovals,
  readPluginGraph,
  rightsOf,
  writeApprovals,
} from "../core/plugins/mod.ts";
import { builtinSinks } from "../sinks/mod.ts";
import type { CommandContext } from "./context.ts";
import type { PluginArguments } from "./plugin_arguments.ts";
import { styles } from "./terminal.ts";
import { plainText } from "./text_layout.ts";

type AddArguments = PluginArguments & { command: "plugin add" };

/** Runs `camsink plugin …`. */
export async function plugin(args: PluginArguments, context: CommandContext): Promise<ExitCode> {
  try {
    // The approvals stand beside the configuration, also where that is still to be written.
    const configPath = await findConfig({ explicit: args.config }) ??
      join(process.cwd(), "camsink.jsonc");
    switch (args.command) {
      case "plugin add":
        return await add(args, { configPath, context });
      case "plugin list":
        return await list(args, { configPath, context });
      case "plugin info":
        return await info(args, { configPath, context });
      case "plugin remove":
        return await remove(args, { configPath, context });
    }
  } catch (error) {
    throw error instanceof PluginError ? withExitCode(error, EXIT.config) : error;
  }
}

interface Surroundings {
  readonly configPath: string;
  readonly context: CommandContext;
}

/** What stands at `sinks` in the file; nothing where it cannot be read, which is told elsewhere. */
async function sinksOf(configPath: string): Promise<Record<string, Record<string, unknown>>> {
  try {
    const text = await readFile(configPath, "utf8");
    const file: unknown = getNodeValue(parseText(text, configPath));
    const sinks: unknown = Object.getOwnPropertyDescriptor(file ?? {}, "sinks")?.value;
    return Object.fromEntries(
      Object.entries(sinks ?? {}).filter(([, sink]) => typeof sink === "object" && sink !== null),
    );
  } catch {
    return {};
  }
}

/** The keys of a sink that are not its plugin's. */
const COMMON = new Set(["type", ...Object.keys(sinkFields)]);

async function add(args: AddArguments, { configPath, context }: Surroundings): Promise<ExitCode> {
  const { terminal, clock } = context;
  const folder = dirname(configPath);
  // Typed here, but kept relative to the configuration, so that both can be moved together.
  const typed = args.from.startsWith("npm:") ? args.from : resolve(args.from);
  const inner = relative(folder, typed);
  const from = args.from.startsWith("npm:") || isAbsolute(inner) || inner.startsWith("..")
    ? typed
    : `./${inner.replaceAll("\\", "/")}`;
  const graph = await readPluginGraph(from, { folder, signal: context.stop });
  const log = getLog("plugin");
  const about = await describePlugin({ graph, log, clock });
  const name = args.as ?? about.name;
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(name)) {
    throw new PluginError(
      `the plugin is called ${JSON.stringify(name)}; expected lower-case letters, digits and ` +
        "dashes: name it with --as NAME",
    );
  }
  if (Object.hasOwn(builtinSinks, name)) {
    throw new PluginError(`"${name}" is a sink of Camsink's own; name the plugin with --as NAME`);
  }
  const approvals = await readApprovals(configPath);
  const former = approvals[name];
  if (former !== undefined && packageOf(former.from) !== packageOf(graph.from)) {
    throw new PluginError(
      `"${name}" is already ${former.from}; remove that with: camsink plugin remove ${name}, or name ` +
        "this one with --as NAME",
    );
  }
  const granted = {
    hosts: joined(former?.hosts, args.hosts),
    run: joined(former?.run, args.run),
    read: joined(former?.read, args.read.map((path) => resolve(path))),
    write: joined(former?.write, args.write.map((path) => resolve(path))),
    scratch: former?.scratch === true || args.scratch,
  };
  const wanted: Wanted = { named: new Set(), hosts: new Set(granted.hosts), others: new Map() };
  collect(about, { wanted, granted, options: {} });
  const sinks = Object.entries(await sinksOf(configPath)).filter(([, { type }]) => type === name);
  const problems: string[] = [];
  for (const [sink, entry] of sinks) {
    const options = Object.fromEntries(Object.entries(entry).filter(([key]) => !COMMON.has(key)));
    const found = await describePlugin({ graph, options, name: sink, log, clock });
    for (const { path, message } of found.issues) {
      problems.push(`sinks.${[sink, ...path].join(".")}: ${message}`);
    }
    collect(found, { wanted, granted, options });
  }
  const approval: Approval = {
    from: graph.from,
    ...(about.version ?? graph.version ? { version: about.version ?? graph.version } : {}),
    sha256: graph.sha256,
    hosts: [...wanted.hosts].sort(),
    run: joined(granted.run, [...wanted.others.get("run") ?? []]),
    read: joined(granted.read, [...wanted.others.get("read") ?? []]),
    write: joined(granted.write, [...wanted.others.get("write") ?? []]),
    scratch: granted.scratch || wanted.others.has("scratch"),
    schema: { ...about.schema },
  };
  const style = styles(terminal.color);
  for (const line of portrait(name, { approval, graph, former, named: wanted.named })) {
    terminal.err(shown(line));
  }
  for (const problem of problems) terminal.err(`${style.yellow("note:")} ${plainText(problem)}`);
  if (!args.yes && !await agrees(context)) {
    terminal.err("Nothing was changed.");
    return EXIT.failure;
  }
  await writeApprovals(configPath, { ...approvals, [name]: approval });
  terminal.err(
    `Approved in ${approvalsPath(configPath)}.` +
      (sinks.length > 0
        ? " Next: camsink check"
        : ` Next: add a sink with "type": "${name}", and run this again if it needs more rights.`),
  );
  return EXIT.ok;
}

/** A line that cannot forge another one, with its indentation and columns. */
function shown(line: string): string {
  return line.split(/( {2,})/).map((part) => part.trim() === "" ? part : plainText(part)).join("");
}

/** `npm:x@1.2.3` → `npm:x`: another version of a package is the same plugin. */
function packageOf(from: string): string {
  return from.replace(/^(npm:.[^@]*)@.*$/, "$1");
}

function joined(former: readonly string[] = [], more: readonly string[]): string[] {
  return [...new Set([...former, ...more])].sort();
}

interface Wanted {
  /** Hosts that the configuration names anyway. */
  readonly named: Set<string>;
  readonly hosts: Set<string>;
  readonly others: Map<"run" | "read" | "write" | "scratch", Set<string>>;
}

function collect(
  about: PluginAbout,
  { wanted, granted, options }: {
    readonly wanted: Wanted;
    readonly granted: Parameters<typeof rightsOf>[1]["granted"];
    readonly options: unknown;
  },
): void {
  const { rights } = rightsOf(about, { granted, options });
  for (const host of rights.hosts) wanted.named.add(host);
  const texts = (value: unknown) =>
    Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
  for (const host of texts(about.hosts)) {
    if (!rights.hosts.includes(host) && /^[\w.:[\]-]{1,253}$/.test(host)) wanted.hosts.add(host);
  }
  for (const kind of ["run", "read", "write"] as const) {
    for (const one of texts(about.needs?.[kind])) {
      wanted.others.set(kind, (wanted.others.get(kind) ?? new Set()).add(one));
    }
  }
  if (about.needs?.scratch === true) wanted.others.set("scratch", new Set());
}

/** What the user is asked to approve. */
function portrait(
  name: string,
  { approval, graph, former, named }: {
    readonly approval: Approval;
    readonly graph: PluginGraph;
    readonly former: Approval | undefined;
    readonly named: ReadonlySet<string>;
  },
): string[] {
  const rights: string[] = [];
  const right = (what: string, values: readonly string[]) => {
    for (const value of values) rights.push(`  ${what} ${value}`);
  };
  right("reach", [...named].filter((host) => !approval.hosts.includes(host)));
  right("reach (not named in the configuration)", approval.hosts);
  right("run (a program is not isolated: it can do what you can)", approval.run);
  right("read", approval.read);
  right("write", approval.write);
  if (approval.scratch) rights.push("  keep temporary files in a folder of its own");
  const changed = former === undefined
    ? "new"
    : former.sha256 === approval.sha256
    ? "approved before"
    : `changed; approved was ${former.sha256.slice(0, 16)}…`;
  return [
    `${name}${approval.version === undefined ? "" : ` ${approval.version}`}  ${approval.from}`,
    `hash ${approval.sha256} (${changed})`,
    `${graph.files.length} ${graph.files.length === 1 ? "file" : "files"}${
      graph.packages.length === 0 ? "" : `, packages: ${graph.packages.join(", ")}`
    }`,
    "It may:",
    ...rights.length > 0 ? rights : ["  reach the hosts that its sink in the configuration names"],
    "and nothing else: no other host, no file, no program, no environment.",
  ];
}

async function agrees({ terminal, stop }: CommandContext): Promise<boolean> {
  if (!process.stdin.isTTY) {
    throw withExitCode(
      new Error(
        "nobody can be asked here: look at what is shown above, and give --yes to approve it",
      ),
      EXIT.usage,
    );
  }
  terminal.err("");
  const { confirm, isCancel } = await import("@clack/prompts");
  const answer = await confirm({ message: "Approve this?", initialValue: false, signal: stop });
  return !isCancel(answer) && answer;
}

function lookUp(approvals: Approvals, name: string): Approval {
  const found = Object.hasOwn(approvals, name) ? approvals[name] : undefined;
  if (found !== undefined) return found;
  const known = Object.keys(approvals).join(", ");
  throw new PluginError(
    `there is no plugin "${name}"; ${known === "" ? "none was added" : `added were: ${known}`}`,
  );
}

async function list(
  args: PluginArguments & { command: "plugin list" },
  { configPath, context: { terminal } }: Surroundings,
): Promise<ExitCode> {
  const approvals = await readApprovals(configPath);
  if (args.json) {
    terminal.out(JSON.stringify({ event: "plugins", path: approvalsPath(configPath), approvals }));
    return EXIT.ok;
  }
  const lines = Object.entries(approvals).map(([name, { version = "", from, sha256 }]) =>
    `${name.padEnd(16)} ${version.padEnd(10)} ${sha256.slice(0, 12)}  ${from}`
  );
  for (const line of lines) terminal.out(shown(line));
  if (lines.length === 0) {
    terminal.err("No plugin was added; add one with: camsink plugin add PATH");
  }
  return EXIT.ok;
}

async function info(
  args: PluginArguments & { command: "plugin info" },
  { configPath, context: { terminal, stop } }: Surroundings,
): Promise<ExitCode> {
  const approval = lookUp(await readApprovals(configPath), args.name);
  const graph = await readPluginGraph(approval.from, { folder: dirname(configPath), signal: stop });
  const isChanged = graph.sha256 !== approval.sha256;
  if (args.json) {
    terminal.out(JSON.stringify({ event: "plugin", name: args.name, isChanged, ...approval }));
  } else {
    const lines = portrait(args.name, { approval, graph, former: approval, named: new Set() });
    for (const line of lines) terminal.out(shown(line));
    terminal.out("Options:");
    const { properties = {}, required = [] } = approval.schema as {
      properties?: Record<string, { description?: string; type?: string; title?: string }>;
      required?: string[];
    };
    for (const [key, { description = "", title, type = "" }] of Object.entries(properties)) {
      const must = required.includes(key) ? "required" : "";
      terminal.out(
        shown(
          `  ${key.padEnd(16)} ${(title ?? type).padEnd(8)} ${must.padEnd(8)} ${description}`,
        ),
      );
    }
    if (isChanged) {
      terminal.err(
        `It was changed since and is not run; approve it with: camsink plugin add ${approval.from}`,
      );
    }
  }
  return isChanged ? EXIT.failure : EXIT.ok;
}

async function remove(
  args: PluginArguments & { command: "plugin remove" },
  { configPath, context: { terminal } }: Surroundings,
): Promise<ExitCode> {
  const approvals = await readApprovals(configPath);
  lookUp(approvals, args.name);
  await writeApprovals(
    configPath,
    Object.fromEntries(Object.entries(approvals).filter(([name]) => name !== args.name)),
  );
  const used = Object.entries(await sinksOf(configPath))
    .filter(([, { type }]) => type === args.name).map(([name]) => name);
  terminal.err(
    `Removed ${args.name}.` +
      (used.length > 0
        ? ` The configuration still names it, so it cannot be used until these sinks are taken out: ${
          used.join(", ")
        }`
        : ""),
  );
  return EXIT.ok;
}
