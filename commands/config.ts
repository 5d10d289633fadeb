/**
 * `camsink config`: the JSON Schema for editors, the list of what is wrong with a configuration, and
 * the import of another program's.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { ConfigError, findConfig, loadConfig } from "../core/config/load.ts";
import { type FoggycamImport, importFoggycam } from "../core/config/foggycam_import.ts";
import { configJsonSchemaText } from "../core/config/json_schema.ts";
import { EXIT, type ExitCode, withExitCode } from "../core/exit_codes.ts";
import type { ConfigArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { configTables, loadUserConfig, tablesBeside } from "./rooms.ts";
import { styles } from "./terminal.ts";
import { writeConfigFile } from "./write_config.ts";

/** Runs `camsink config schema`, `config validate` or `config import`. */
export async function config(args: ConfigArguments, context: CommandContext): Promise<ExitCode> {
  switch (args.command) {
    case "config schema":
      context.terminal.out(configJsonSchemaText(await knownTables()).trimEnd());
      return EXIT.ok;
    case "config validate":
      return await validate(args, context);
    case "config import":
      return await importFrom(args, context);
  }
}

/** With the plugins of the configuration that would be read now, if there is one. */
async function knownTables() {
  const path = await findConfig();
  return path === undefined ? configTables : await tablesBeside(path);
}

async function validate(
  args: ConfigArguments & { command: "config validate" },
  { terminal }: CommandContext,
): Promise<ExitCode> {
  try {
    const path = await findConfig({ explicit: args.config });
    const { warnings, path: found } = path === undefined
      ? await loadUserConfig(args.config)
      // Whether the secrets are at hand is for `camsink check` to say: a file may be checked
      // on another machine than the one that records.
      : await loadConfig(path, { tables: await tablesBeside(path), requireSecrets: false });
    if (args.json) {
      terminal.out(JSON.stringify({ ok: true, path: found, problems: [], warnings }));
    } else {
      for (const warning of warnings) {
        terminal.err(`${styles(terminal.color).yellow("warning:")} ${warning}`);
      }
      terminal.out(`${found} is valid`);
    }
    return EXIT.ok;
  } catch (error) {
    if (!args.json || !(error instanceof ConfigError)) throw error;
    terminal.out(
      JSON.stringify({
        ok: false,
        problems: error.problems.map(({ path, text, line, column }) => ({
          path: path.join("."),
          message: text,
          line,
          column,
        })),
        warnings: [],
      }),
    );
    return EXIT.config;
  }
}

async function importFrom(
  args: ConfigArguments & { command: "config import" },
  { terminal }: CommandContext,
): Promise<ExitCode> {
  let json: unknown;
  try {
    json = JSON.parse((await readFile(args.file, "utf8")).replace(/^\uFEFF/, ""));
  } catch (cause) {
    // The parser's own message would quote the file, and with it a secret.
    const reason = cause instanceof SyntaxError
      ? "it is not valid JSON"
      : cause instanceof Error && "code" in cause && cause.code === "ENOENT"
      ? "there is no such file"
      : cause instanceof Error
      ? cause.message
      : String(cause);
    throw withExitCode(
      new Error(`cannot read ${args.file}: ${reason}; give the config.json of foggycam 1.x`),
      EXIT.config,
    );
  }
  const imported = importOf(json, args.file);
  const style = styles(terminal.color);
  for (const note of imported.notes) terminal.err(`${style.yellow("note:")} ${note}`);
  if (args.out === undefined) {
    terminal.out(imported.config.trimEnd());
  } else {
    await writeConfigFile(args.out, { text: imported.config, force: args.force });
    terminal.err(`Wrote ${args.out}. Next: camsink check --config ${args.out}`);
  }
  return EXIT.ok;
}

function importOf(json: unknown, file: string): FoggycamImport {
  try {
    return importFoggycam(json);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw withExitCode(new Error(`cannot import ${file}: ${reason}`, { cause }), EXIT.config);
  }
}
