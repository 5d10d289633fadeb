/**
 * The text of a new configuration: what was answered, and a comment where a newcomer would want to
 * change something.
 *
 * @module
 */
import type { SinkAnswers, SourceAnswers } from "./init_answers.ts";

/** Renders a configuration file with comments. */
export function renderConfig(
  { source, sinks }: {
    readonly source?: SourceAnswers;
    readonly sinks: readonly SinkAnswers[];
  },
): string {
  const sections = [
    `  "$schema": "./camsink.schema.json"`,
    ...(source === undefined ? [] : [sourceSection(source)]),
    `  // Clips are cut at wall-clock multiples of this.
  "clip": { "length": "60s" }`,
    `  // Clips wait here until every sink has proved that it holds them.
  "spool": { "path": "./spool" }`,
    `  "sinks": {\n${
      sinks.map(({ name, ...options }) => `    ${entry(name, options)}`).join(",\n")
    }\n  }`,
  ];
  return `// Camsink's configuration. Try it: camsink check. Record: camsink capture.
// Every key: docs/configuration.md. Secrets stay outside: "env:NAME" or "file:PATH".
{
${sections.join(",\n")}
}
`;
}

function sourceSection({ name, ...source }: SourceAnswers): string {
  if (source.type !== "nest" && source.type !== "google-sdm") {
    return `  // Single cameras by name; add as many as you like.
  "cameras": {\n    ${entry(name, { ...source })}\n  }`;
  }
  const { type, credentials, endpoints } = source;
  const options = {
    type,
    ...(type === "google-sdm" ? { projectId: source.projectId, clientId: source.clientId } : {}),
    ...credentials,
    cameras: "all",
    ...(type === "nest" ? { width: source.width, fps: source.fps } : {}),
    ...(Object.keys(endpoints).length > 0 ? { endpoints } : {}),
  };
  return `  // An account brings all its cameras; "cameras": ["Front Door"] chooses (camsink cameras).
  "accounts": {\n    ${entry(name, options)}\n  }`;
}

/** `"name": { … }`, on one line if it fits. */
function entry(name: string, options: Readonly<Record<string, unknown>>): string {
  const fields = Object.entries(options).map(([key, value]) =>
    `${JSON.stringify(key)}: ${inline(value)}`
  );
  const short = `${JSON.stringify(name)}: { ${fields.join(", ")} }`;
  return short.length <= 90
    ? short
    : `${JSON.stringify(name)}: {\n${fields.map((field) => `      ${field}`).join(",\n")}\n    }`;
}

function inline(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{ ${
    Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${inline(item)}`).join(", ")
  } }`;
}
