/**
 * What the user approved: a file `camsink.plugins.json` beside the configuration, with each plugin's
 * hash, its rights beyond what the configuration itself names, and the schema of its options. It is
 * made by `camsink plugin add` and belongs into version control with the configuration.
 *
 * @module
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { PluginError } from "./graph.ts";

const texts = v.optional(v.array(v.string()), []);

const schema = v.object({
  version: v.literal(1),
  plugins: v.record(
    v.pipe(v.string(), v.regex(/^[a-z][a-z0-9-]{0,63}$/)),
    v.object({
      from: v.string(),
      version: v.optional(v.string()),
      sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
      hosts: texts,
      run: texts,
      read: texts,
      write: texts,
      scratch: v.optional(v.boolean(), false),
      schema: v.record(v.string(), v.unknown()),
    }),
  ),
});

/** One plugin that was approved. */
export type Approval = v.InferOutput<typeof schema>["plugins"][string];

/** By the `type` that the configuration names. */
export type Approvals = Readonly<Record<string, Approval>>;

/** Where the approvals for a configuration stand. */
export function approvalsPath(configPath: string): string {
  return join(dirname(configPath), "camsink.plugins.json");
}

/**
 * Reads them; none where there is no file.
 *
 * @throws {PluginError} if the file is damaged
 */
export async function readApprovals(configPath: string): Promise<Approvals> {
  const path = approvalsPath(configPath);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return {};
    throw new PluginError(`cannot read ${path}: ${String(error)}`, { cause: error });
  }
  try {
    return v.parse(schema, JSON.parse(text)).plugins;
  } catch (cause) {
    throw new PluginError(
      `${path} is damaged; take it from a backup, or remove it and approve the plugins again: ` +
        "camsink plugin add …",
      { cause },
    );
  }
}

/** Writes them; the file is replaced as a whole. */
export async function writeApprovals(configPath: string, plugins: Approvals): Promise<void> {
  const path = approvalsPath(configPath);
  const sorted = Object.fromEntries(Object.entries(plugins).sort(([a], [b]) => a < b ? -1 : 1));
  await writeFile(`${path}.part`, `${JSON.stringify({ version: 1, plugins: sorted }, null, 2)}\n`);
  await rename(`${path}.part`, path);
}
