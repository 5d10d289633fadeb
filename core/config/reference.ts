/**
 * The reference page of the configuration, `docs/configuration.md`, rendered from the published JSON
 * Schema, so that page, editors and validation cannot disagree.
 *
 * @module
 */
import { configJsonSchema, type JsonSchema } from "./json_schema.ts";
import type { ConfigTables } from "./schema.ts";

/** The example that opens the page: every section, as most people use it. */
export const EXAMPLE = `{
  "$schema": "./camsink.schema.json",
  // An account brings many cameras.
  "accounts": {
    "home": {
      "type": "nest",
      "accessToken": "env:NEST_TOKEN",
      "cameras": "all",
      "width": 1280,
      "fps": 2
    }
  },
  // Single cameras by name.
  "cameras": {
    "yard": { "type": "snapshot", "url": "http://cam.local/snap.jpg", "fps": 5 }
  },
  // Cut at wall-clock multiples.
  "clip": { "length": "60s" },
  // auto, wasm or system
  "encoder": { "use": "auto" },
  "spool": { "path": "./spool" },
  "sinks": {
    "azure": {
      "type": "azure-blob",
      "account": "mystorage",
      "sasToken": "env:AZURE_SAS",
      "container": "{camera}"
    },
    "local": { "type": "local-folder", "path": "./clips" }
  }
}
`;

const INTRODUCTION = `# Configuration

<!-- Made from the schema by \`deno task docs\`: change the descriptions there, not here. -->

Camsink reads one file, \`camsink.jsonc\` or \`camsink.json\`: JSON in which comments and trailing
commas are allowed. It takes the first that there is of

1. the file named by \`--config\`,
2. the file named by the environment variable \`CAMSINK_CONFIG\`,
3. \`camsink.jsonc\`, then \`camsink.json\`, in the working directory,
4. the same in \`$XDG_CONFIG_HOME/camsink/\` (\`~/.config/camsink/\`; on Windows \`%APPDATA%\\camsink\\\`).

\`camsink init\` writes one by asking, \`camsink check\` tries everything in it against the real thing,
and \`camsink config import foggycam FILE\` makes one from foggycam's. Mistakes are told all at once,
each with its path, its value and what was expected; the exit code is then 78.

\`camsink config schema > camsink.schema.json\` writes the JSON Schema: with the \`$schema\` key of the
example, editors complete and check the file.

`;

const VALUES = `
## Values

- **Durations** are a number with a unit, or several: \`"500ms"\`, \`"60s"\`, \`"5m"\`, \`"1h30m"\`, \`"7d"\`.
- **Sizes** are a number with a unit: \`"500MB"\`, \`"20GB"\` (powers of 1000), \`"512MiB"\` (of 1024).
- **Paths** that are relative stand relative to the folder that the file is in, not to the working
  directory; \`~/\` is the home folder.
- **Secrets** are given by reference and read when they are used, so that a new value is taken up
  without a restart:
  - \`"env:NAME"\`: the environment variable NAME;
  - \`"file:PATH"\`: the content of a file, without blanks at its ends. It must be readable by its owner
    alone (\`chmod 600\`), else it is refused. Files below \`/run/secrets\` and \`$CREDENTIALS_DIRECTORY\`
    and in a volume of Kubernetes are excepted, since a container runtime or systemd keeps others
    out. \`CAMSINK_ALLOW_OPEN_SECRETS=1\` makes a warning of the refusal.
  - \`"keyvault:https://NAME.vault.azure.net/secrets/X"\` (or with \`/VERSION\`): a secret of Azure Key
    Vault. The login is what the surroundings offer: \`AZURE_TENANT_ID\`, \`AZURE_CLIENT_ID\` and
    \`AZURE_CLIENT_SECRET\`, a workload identity, the machine's managed identity, or \`az login\`. It
    needs the role Key Vault Secrets User. A new value is noticed within 5 minutes, and within
    seconds where the old one is refused.
  - A secret that stands in the file itself works, with a warning that says how to move it. The same
    rule then holds for the configuration file: one that others can read is refused.
`;

type Part = JsonSchema["items"];

function isJsonSchema(part: Part | boolean): part is JsonSchema {
  return typeof part === "object" && part !== null && !Array.isArray(part);
}

function code(value: unknown): string {
  return `\`${JSON.stringify(value)}\``;
}

/** What may stand there, in a few words. */
function valueOf(schema: JsonSchema): string {
  if (schema.const !== undefined) return code(schema.const);
  if (schema.enum) return schema.enum.map(code).join(", ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) {
    return [...new Set(choices.filter(isJsonSchema).map(valueOf))].join(" or ");
  }
  if (schema.type === "string") return schema.title ?? "text";
  if (schema.type === "number" || schema.type === "integer") {
    const { minimum, maximum } = schema;
    const range = minimum !== undefined && maximum !== undefined
      ? `, ${minimum} to ${maximum}`
      : "";
    return `${schema.type === "integer" ? "whole number" : "number"}${range}`;
  }
  if (schema.type === "boolean") return "`true` or `false`";
  if (schema.type === "array") {
    const items = schema.items;
    return `list of ${isJsonSchema(items) ? `${valueOf(items)}s` : "values"}`;
  }
  if (isJsonSchema(schema.additionalProperties ?? false)) {
    const inner = schema.additionalProperties;
    return `object of ${isJsonSchema(inner) ? valueOf(inner) : "values"} by name`;
  }
  return "object";
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("\n", " ");
}

/** A row for each key; the keys of an object within follow it with their path. */
function rowsOf(schema: JsonSchema, prefix = ""): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, part]) => {
    if (!isJsonSchema(part) || key === "type" && prefix === "") return [];
    const isRequired = schema.required?.includes(key) === true;
    const { default: standard } = part;
    const isPlain = standard === undefined || typeof standard === "object";
    const meaning = `${isRequired ? "**Required.** " : ""}${part.description ?? ""}`;
    const row = [
      `\`${prefix}${key}\``,
      valueOf(part),
      isPlain ? "" : code(standard),
      meaning,
    ];
    return [
      `| ${row.map(cell).join(" | ")} |`,
      ...(part.properties ? rowsOf(part, `${prefix}${key}.`) : []),
    ];
  });
}

function tableOf(schema: JsonSchema): string {
  const rows = rowsOf(schema);
  return rows.length === 0 ? "" : `
| Key | Value | Default | Meaning |
|--|--|--|--|
${rows.join("\n")}
`;
}

function sectionOf(name: string, schema: JsonSchema): string {
  const title = `\n## \`${name}\`\n\n${schema.description ?? ""}\n`;
  const entries = schema.additionalProperties;
  const types = isJsonSchema(entries ?? false) && isJsonSchema(entries) ? entries.oneOf : undefined;
  if (!types) return title + tableOf(schema);
  return title + types.filter(isJsonSchema).map((type) => {
    const kind = type.properties?.type;
    const about = isJsonSchema(kind) ? kind : {};
    return `
### \`"type": ${JSON.stringify(about.const)}\`

${about.description ?? ""}
${tableOf(type)}`;
  }).join("");
}

/** The page as Markdown. */
export function configReference(tables: ConfigTables): string {
  const schema = configJsonSchema(tables);
  const sections = Object.entries(schema.properties ?? {}).map(([name, part]) =>
    isJsonSchema(part) && name !== "$schema" ? sectionOf(name, part) : ""
  );
  return (INTRODUCTION + "```jsonc\n" + EXAMPLE + "```\n" + VALUES + sections.join(""))
    .replace(/\n{3,}/g, "\n\n");
}
