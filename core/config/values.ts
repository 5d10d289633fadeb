/**
 * The values that configurations are made of, as valibot schemas that sources, sinks and the
 * top-level schema share: durations (`"60s"`), sizes (`"20GB"`), secrets by reference. Each accepts
 * what a person would write and yields one unit.
 *
 * @module
 */
import * as v from "valibot";
import type { Secret } from "../types.ts";
import { createKeyVaults, KEY_VAULT_FORM, parseKeyVaultReference } from "./key_vault.ts";

/** What is wrong with a text, as valibot tells it. */
export interface TextIssue {
  /** Valibot's. */
  readonly kind: "schema" | "validation" | "transformation";
  /** Valibot's. */
  readonly type: string;
  /** What was given. */
  readonly input: unknown;
  /** Valibot's. */
  readonly expected: string | null;
  /** Valibot's. */
  readonly received: string;
  /** For the user. */
  readonly message: string;
  /** Where it is; the options that the text stands in are on it. */
  readonly path?: [TextIssuePlace, ...TextIssuePlace[]];
}

/** A step of the way to what is wrong. */
export interface TextIssuePlace {
  /** Valibot's. */
  readonly type: "unknown";
  /** Valibot's. */
  readonly origin: "key" | "value";
  /** What was given here. */
  readonly input: unknown;
  /** Name or index. */
  readonly key: unknown;
  /** What stands there. */
  readonly value: unknown;
}

/**
 * A valibot schema of a text that stands for something else. It is spelt out, since a plugin's author
 * reads it as part of the SDK, whose documentation names no type that it does not have.
 */
export interface TextSchema<Output> {
  /** Valibot's. */
  readonly kind: "schema";
  /** Valibot's. */
  readonly type: string;
  /** Valibot's. */
  readonly reference: (...options: readonly unknown[]) => TextSchema<unknown>;
  /** Valibot's. */
  readonly expects: string;
  /** Valibot's. */
  readonly async: false;
  /** See https://standardschema.dev. */
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: "valibot";
    readonly validate: (value: unknown) => { readonly value: Output };
    readonly types?: { readonly input: string; readonly output: Output } | undefined;
  };
  /** Valibot's; a failure has other fields, which only valibot looks at. */
  readonly "~run": (
    dataset: unknown,
    config: unknown,
  ) => { readonly typed: true; value: Output; readonly issues?: undefined };
  /** Valibot's. */
  readonly "~types"?:
    | { readonly input: string; readonly output: Output; readonly issue: TextIssue }
    | undefined;
}

/** Narrows a schema's type to what authors see of it. */
function textSchema<Output>(schema: v.GenericSchema<string, Output>): TextSchema<Output> {
  return schema as unknown as TextSchema<Output>;
}

const DURATION_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Parses `"1h30m"`, `"60s"`, `"500ms"`; `undefined` if it is none. Yields ms. */
export function parseDurationMs(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|min|m|h|d))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, value, , unit] of text.matchAll(/(\d+(\.\d+)?)(ms|min|s|m|h|d)/g)) {
    ms += Number(value) * (DURATION_MS[unit ?? ""] ?? NaN);
  }
  return Number.isFinite(ms) ? ms : undefined;
}

/**
 * What kind of text a schema stands for, as valibot metadata. The loader finds secrets and paths by
 * it, and the published JSON Schema gets its pattern from it.
 */
export interface ValueMark {
  readonly camsink: "secret" | "path" | "duration" | "size" | "rate" | "url" | "rtsp-url";
}

/** A duration such as `"60s"` or `"1h30m"`; yields ms. */
export function duration(
  limits: { minMs?: number; maxMs?: number } = {},
): TextSchema<number> {
  return textSchema(v.pipe(
    v.string('expected a duration such as "60s", "5m" or "1h30m"'),
    v.metadata({ camsink: "duration" }),
    v.check(
      (text) => parseDurationMs(text) !== undefined,
      'expected a duration such as "60s", "5m" or "1h30m"',
    ),
    v.transform((text) => parseDurationMs(text) ?? NaN),
    v.check(
      (ms) => ms >= (limits.minMs ?? 0) && ms <= (limits.maxMs ?? Infinity),
      limits.maxMs === undefined
        ? `expected a duration of at least ${formatDuration(limits.minMs ?? 0)}`
        : `expected a duration between ${formatDuration(limits.minMs ?? 0)} and ${
          formatDuration(limits.maxMs)
        }`,
    ),
  ));
}

/** A whole number from `min` to `max`, called so in messages. */
export function wholeNumber(
  min: number,
  max: number,
  called: string = `a whole number from ${min} to ${max}`,
) {
  const message = `expected ${called}`;
  return v.pipe(
    v.number(message),
    v.integer(message),
    v.minValue(min, message),
    v.maxValue(max, message),
  );
}

/** `90000` → `"1m30s"`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const seconds = Math.round(ms / 1000);
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [seconds % 60, "s"],
  ] as const;
  return parts.filter(([value]) => value > 0).map(([value, unit]) => `${value}${unit}`).join("");
}

const SIZE_BYTES: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Parses `"20GB"`, `"512MiB"`; `undefined` if it is none. Yields bytes. */
export function parseSizeBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s?([kKMGT]i?B|B)$/.exec(text);
  const factor = SIZE_BYTES[match?.[2] ?? "-"];
  return match && factor ? Math.round(Number(match[1]) * factor) : undefined;
}

/** A size such as `"20GB"` or `"512MiB"`; yields bytes. */
export function size(): TextSchema<number> {
  const message = 'expected a size such as "500MB", "20GB" or "512MiB"';
  return textSchema(v.pipe(
    v.string(message),
    v.metadata({ camsink: "size" }),
    v.check((text) => parseSizeBytes(text) !== undefined, message),
    v.transform((text) => parseSizeBytes(text) ?? NaN),
  ));
}

/** A rate such as `"2MB/s"`; yields bytes per second. */
export function rate(): TextSchema<number> {
  const message = 'expected bytes per second, such as "500kB/s" or "2MB/s"';
  const parse = (text: string) =>
    text.endsWith("/s") ? parseSizeBytes(text.slice(0, -"/s".length)) : undefined;
  return textSchema(v.pipe(
    v.string(message),
    v.metadata({ camsink: "rate" }),
    v.check((text) => (parse(text) ?? 0) > 0, message),
    v.transform((text) => parse(text) ?? NaN),
  ));
}

/** A time of day such as `"08:00"`; yields minutes since midnight. */
export function timeOfDay() {
  const message = 'expected a time of day such as "08:00" or "22:30"';
  const parse = (text: string) => {
    const [, hours, minutes] = /^([01]?\d|2[0-4]):([0-5]\d)$/.exec(text) ?? [];
    return minutes === undefined ? NaN : Number(hours) * 60 + Number(minutes);
  };
  return v.pipe(
    v.string(message),
    v.check((text) => parse(text) <= 1440, message),
    v.transform(parse),
  );
}

/** `1234567` → `"1.2 MB"`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = bytes;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/**
 * Every secret revealed in this process, so that the log can take them out of whatever it prints.
 * Values shorter than six characters are left alone: they would blank out ordinary words.
 */
export const revealedSecrets: Set<string> = new Set();

/** Reads what a secret's text refers to. */
let readElsewhere: ((text: string) => Promise<string>) | undefined;

/**
 * From now on secrets are read by `read`, which gets their text as the configuration has it: for a
 * process that may read neither environment nor files and has to ask.
 */
export function readSecretsWith(read: (text: string) => Promise<string>): void {
  readElsewhere = read;
}

const keyVaults = createKeyVaults();

/**
 * Makes a {@linkcode Secret} of what a configuration holds: `env:NAME`, `file:PATH`, `keyvault:URL`
 * or a literal.
 */
export function makeSecret(text: string): Secret {
  const [, scheme, rest] = /^(env|file|keyvault):(.+)$/s.exec(text) ?? [];
  const reference = scheme ? text : "literal";
  const read = async (options?: { readonly maxAgeMs?: number }): Promise<string> => {
    if (readElsewhere !== undefined) return await readElsewhere(text);
    if (scheme === "keyvault") return await keyVaults(rest ?? "", options);
    if (scheme === "env") return Deno.env.get(rest ?? "") ?? "";
    if (scheme === "file") return await Deno.readTextFile(rest ?? "");
    return text;
  };
  return {
    reference,
    reveal: async (options) => {
      let value: string;
      try {
        value = (await read(options)).trim();
      } catch (cause) {
        if (scheme === "keyvault") throw cause; // it says all
        throw new Error(`cannot read the secret ${reference}: ${String(cause)}`, { cause });
      }
      if (value === "") {
        throw new Error(
          scheme === "env"
            ? `the secret ${reference} is not set: set the environment variable ${rest}`
            : `the secret ${reference} is empty`,
        );
      }
      if (value.length >= 6) revealedSecrets.add(value);
      return value;
    },
  };
}

/** A secret by reference (`env:NAME`, `file:PATH`, `keyvault:URL`); a literal is accepted, and warned about. */
export function secret(): TextSchema<Secret> {
  const message = 'expected a secret by reference, such as "env:NAME" or "file:/path"';
  return textSchema(v.pipe(
    v.string(message),
    v.metadata({ camsink: "secret" }),
    v.nonEmpty(message),
    v.check(
      (text) => !/^(vault|secret):/.test(text),
      'expected "env:NAME", "file:PATH" or "keyvault:URL"; no other kind of secret reference is known',
    ),
    v.check(
      (text) =>
        !text.startsWith("keyvault:") ||
        parseKeyVaultReference(text.slice("keyvault:".length)) !== undefined,
      `expected ${JSON.stringify(KEY_VAULT_FORM)}, with "/VERSION" behind it for a certain one`,
    ),
    v.transform(makeSecret),
  ));
}

/** An `http:` or `https:` URL without credentials in it. */
export function httpUrl(): TextSchema<string> {
  return textSchema(v.pipe(
    v.string("expected a URL that starts with http:// or https://"),
    v.metadata({ camsink: "url" }),
    v.check((text) => {
      if (!URL.canParse(text)) return false;
      const { protocol } = new URL(text);
      return protocol === "http:" || protocol === "https:";
    }, "expected a URL that starts with http:// or https://"),
    v.check(
      (text) => !URL.canParse(text) || new URL(text).username === "",
      'a URL must not hold credentials: give "username" and "password" beside it',
    ),
  ));
}

/**
 * The path of a file or folder. A relative one stands relative to the folder of the configuration
 * file, and `~/` for the home folder: the loader makes it absolute before the schema sees it.
 */
export function filePath(): TextSchema<string> {
  const message = "expected the path of a file or folder";
  return textSchema(v.pipe(
    v.string(message),
    v.metadata({ camsink: "path" }),
    v.nonEmpty(message),
    v.check((text) => !text.includes("\0"), "a path cannot hold a NUL character"),
  ));
}
