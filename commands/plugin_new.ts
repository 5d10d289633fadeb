/**
 * `camsink plugin new`: writes a small sink plugin with a test that passes, to begin from.
 *
 * @module
 */
import { mkdir, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { EXIT, type ExitCode, withExitCode } from "../core/exit_codes.ts";
import type { CommandContext } from "./context.ts";
import type { PluginNewArguments } from "./plugin_author_arguments.ts";
import { templateFiles } from "./plugin_templates.ts";

/** Runs `camsink plugin new`. */
export async function pluginNew(
  { name, template }: PluginNewArguments,
  { terminal }: CommandContext,
): Promise<ExitCode> {
  if (!/^[a-z][a-z0-9-]{1,40}$/.test(name)) {
    throw withExitCode(
      new Error(
        `${JSON.stringify(name)} cannot be a plugin's name: expected lower-case letters, digits ` +
          "and dashes, such as my-store",
      ),
      EXIT.usage,
    );
  }
  const folder = resolve(name);
  if (await stat(folder).then(() => true, () => false)) {
    throw withExitCode(
      new Error(`${folder} is there already: choose another name, or remove it`),
      EXIT.config,
    );
  }
  for (const [path, text] of Object.entries(templateFiles(name, template))) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
    terminal.err(`wrote ${join(name, path)}`);
  }
  terminal.err(`Next: camsink plugin test ${name}`);
  return EXIT.ok;
}
