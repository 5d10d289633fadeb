/**
 * The schema of the whole configuration file. The kinds of accounts, cameras and sinks come in as
 * visible tables ({@linkcode ConfigTables}), each with the schema of its own options; this file adds
 * what every kind has in common and the sections `clip`, `encoder` and `spool`.
 *
 * There are two views of the same parts. {@linkcode configSchema} validates and yields a
 * {@linkcode Config}, handing each entry to the schema of its type. {@linkcode configShape} is the
 * plain structure (`type` and all keys of a kind in one object) that the published JSON Schema, the
 * reference page and the search for secrets and paths read.
 *
 * @module
 */
import * as v from "valibot";
import type { ConfigSchema, Secret } from "../types.ts";
import { type EventAlertsConfig, eventAlertsField } from "./event_alerts.ts";
import { type EventsConfig, eventsField } from "./events.ts";
import { type TimelapseConfig, timelapseField } from "./timelapse.ts";
import { DEFAULT_SPOOL } from "./find.ts";
import { enabled, sinkConfig, sinkFields } from "./sink_fields.ts";
import { duration, filePath, httpUrl, makeSecret, secret, size, wholeNumber } from "./values.ts";

/** A kind of account or camera: the schema of its options, without `type` and the common keys. */
export interface TypeWithOptions {
  readonly options: v.GenericSchema;
  /** What becomes of the options, where that is not just what the schema yields. */
  readonly yields?: (found: { readonly input: unknown; readonly output: unknown }) => unknown;
}

/** A kind of sink, as a sink plugin has it. */
export interface TypeWithConfig {
  // A plugin for one `Config` is one for `unknown` here: only its validator is called.
  readonly config: ConfigSchema<unknown>;
}

/** Kinds by the name that `type` gives. */
export type TypeTable = Readonly<Record<string, TypeWithOptions | TypeWithConfig>>;

/** Every kind of account, camera and sink that a configuration may name. */
export interface ConfigTables {
  readonly accountTypes: TypeTable;
  readonly cameraTypes: TypeTable;
  readonly sinkTypes: TypeTable;
}

/** An account, as validated. */
export interface AccountConfig {
  readonly type: string;
  readonly enabled: boolean;
  /** Of each of its cameras; absent where they are recorded all the time. */
  readonly events?: EventsConfig;
  /** Of each of its cameras. */
  readonly timelapse?: TimelapseConfig;
  /** Which of its cameras to record, by name or id. */
  readonly cameras: "all" | readonly string[];
  /** What the schema of this type yielded. */
  readonly options: unknown;
}

/** A single camera, as validated. */
export interface CameraConfig {
  readonly type: string;
  readonly enabled: boolean;
  /** Absent where it is recorded all the time. */
  readonly events?: EventsConfig;
  readonly timelapse?: TimelapseConfig;
  /** What it is called; its key in the file where no `name` is given. */
  readonly name: string;
  /** What the schema of this type yielded. */
  readonly options: unknown;
}

/** A sink, as validated. */
export interface SinkConfig {
  readonly type: string;
  readonly enabled: boolean;
  /** Whether a clip stays on the spool until this sink has it. */
  readonly required: boolean;
  /** Most bytes per UTC day. */
  readonly perDayBytes?: number;
  /** Most bytes per second, always or in parts of the day (local time, minutes since midnight). */
  readonly bytesPerSecond?:
    | number
    | readonly {
      readonly fromMinute: number;
      readonly toMinute: number;
      readonly bytesPerSecond: number;
    }[];
  /** What the sink may hold; the rest is removed from it, oldest first. */
  readonly retain?: { readonly ageMs?: number; readonly sizeBytes?: number };
  /** Clips on their way at once. */
  readonly concurrency?: number;
  /** What the schema of this type yielded. */
  readonly options: unknown;
}

/** A whole configuration, as validated; every section is there, with its defaults. */
export interface Config {
  readonly accounts: Readonly<Record<string, AccountConfig>>;
  readonly cameras: Readonly<Record<string, CameraConfig>>;
  readonly clip: { readonly lengthMs: number };
  readonly encoder: {
    readonly use: "auto" | "wasm" | "system";
    /** The ffmpeg program to use, absolute. */
    readonly path?: string;
    readonly quality: "low" | "standard" | "high";
    /** How many in-process encoders run at the same time. */
    readonly workers?: number;
  };
  readonly spool: {
    /** Absolute. */
    readonly path: string;
    readonly limitBytes?: number;
    readonly keepMs?: number;
    readonly reserveBytes?: number;
    readonly whenFull: "stop" | "drop-oldest";
  };
  readonly sinks: Readonly<Record<string, SinkConfig>>;
  /** Whom to tell of trouble. The addresses are secrets: who knows one can speak as this machine. */
  readonly alerts: {
    readonly webhook?: Secret;
    readonly heartbeat?: Secret;
    readonly events?: EventAlertsConfig;
  };
}

/** The entries of an object schema, or none where the schema is not one. */
export function entriesOf(schema: unknown): Readonly<Record<string, v.GenericSchema>> | undefined {
  if (typeof schema !== "object" || schema === null || !("entries" in schema)) return undefined;
  return schema.entries as Readonly<Record<string, v.GenericSchema>>;
}

/** Whether this is one of valibot's own schemas, whose inside can be read. */
export function isValibotSchema(schema: unknown): schema is v.GenericSchema {
  return typeof schema === "object" && schema !== null && "kind" in schema &&
    schema.kind === "schema" && "~run" in schema;
}

type Fields = Readonly<Record<string, v.GenericSchema>>;
type Entry = (types: TypeTable, common: Fields, what: string) => v.GenericSchema;

const accountFields: Fields = {
  enabled,
  events: eventsField,
  timelapse: timelapseField,
  cameras: v.pipe(
    v.optional(
      v.union(
        [v.literal("all"), v.array(v.pipe(v.string(), v.nonEmpty()))],
        'expected "all" or a list of camera names or ids',
      ),
      "all",
    ),
    v.description('Which cameras to record: "all", or a list of their names or ids.'),
  ),
};

const cameraFields: Fields = {
  enabled,
  events: eventsField,
  timelapse: timelapseField,
  name: v.pipe(
    v.optional(v.pipe(v.string("expected a name"), v.nonEmpty("expected a name"))),
    v.description("What the camera is called; without it, its key in this file."),
  ),
};

/** The address of somebody to tell; given in the file, or by reference since many hold a token. */
function calledUrl() {
  const message =
    'expected a URL that starts with http:// or https://, or a reference to one such as "env:NAME"';
  return v.pipe(
    v.union(
      [v.pipe(secret(), v.check((value) => value.reference !== "literal", message)), httpUrl()],
      message,
    ),
    v.transform((value) => typeof value === "string" ? makeSecret(value) : value),
  );
}

function optionsOf(
  type: TypeWithOptions | TypeWithConfig,
): v.GenericSchema | ConfigSchema<unknown> {
  return "options" in type ? type.options : type.config;
}

/** The plain structure of an entry: one object per type. */
const shapeOfEntry: Entry = (types, common) =>
  v.variant(
    "type",
    Object.entries(types).map(([name, type]) => {
      const options = optionsOf(type);
      const own = entriesOf(options);
      const about = isValibotSchema(options) ? v.getDescription(options) : undefined;
      const fields = {
        type: v.pipe(v.literal(name), v.description(about ?? "")),
        ...common,
        ...own,
      };
      const isOpen = own === undefined ||
        isValibotSchema(options) && options.type === "loose_object";
      return isOpen ? v.looseObject(fields) : v.strictObject(fields);
    }),
  );

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Where an issue is. Only the keys count: values are looked up in the file itself. */
function pathOf(...keys: [unknown, ...unknown[]]): [v.IssuePathItem, ...v.IssuePathItem[]] {
  const item = (key: unknown): v.IssuePathItem => ({
    type: "unknown",
    origin: "value",
    input: undefined,
    key,
    value: undefined,
  });
  const [first, ...more] = keys;
  return [item(first), ...more.map(item)];
}

/**
 * Validates an entry: the common keys here, the rest by the schema of its type. A common key that
 * the type declares too is the type's.
 */
const validatedEntry: Entry = (types, common, what) =>
  v.pipe(
    v.custom<Record<string, unknown>>(isObject, `expected an object, such as ${what}`),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      const input = dataset.value;
      const type = typeof input.type === "string" && Object.hasOwn(types, input.type)
        ? types[input.type]
        : undefined;
      if (type === undefined) {
        const known = Object.keys(types).map((name) => JSON.stringify(name));
        addIssue({
          message: `expected ${known.length > 1 ? "one of " : ""}${known.join(", ")}`,
          path: pathOf("type"),
        });
        return NEVER;
      }
      const options = optionsOf(type);
      const own = entriesOf(options) ?? {};
      const yielded: Record<string, unknown> = {};
      let failed = false;
      const report = (issue: Pick<v.BaseIssue<unknown>, "message" | "path" | "expected">) => {
        failed = true;
        addIssue({
          message: issue.message,
          ...(issue.expected === null ? {} : { expected: issue.expected }),
          ...(issue.path === undefined ? {} : { path: issue.path }),
        });
      };
      for (const [key, field] of Object.entries(common)) {
        if (Object.hasOwn(own, key)) continue;
        const result = v.safeParse(field, input[key]);
        if (result.success) {
          if (result.output !== undefined) yielded[key] = result.output;
        } else {
          for (const issue of result.issues) {
            report({ ...issue, path: [...pathOf(key), ...(issue.path ?? [])] });
          }
        }
      }
      const rest = Object.fromEntries(
        Object.entries(input).filter(([key]) =>
          key !== "type" && (!Object.hasOwn(common, key) || Object.hasOwn(own, key))
        ),
      );
      const result = validateOptions(options, rest);
      result.issues.forEach(report);
      if (failed) return NEVER;
      const output = isObject(result.output) ? result.output : {};
      for (const key of Object.keys(common)) {
        if (Object.hasOwn(own, key)) yielded[key] = output[key];
      }
      const found = "options" in type && type.yields
        ? type.yields({ input: rest, output: result.output })
        : result.output;
      return { ...yielded, type: input.type, options: found };
    }),
  );

type FoundIssue = Pick<v.BaseIssue<unknown>, "message" | "path" | "expected">;

function validateOptions(
  options: v.GenericSchema | ConfigSchema<unknown>,
  input: unknown,
): { output: unknown; issues: readonly FoundIssue[] } {
  if (isValibotSchema(options)) {
    const result = v.safeParse(options, input);
    return { output: result.output, issues: result.issues ?? [] };
  }
  // Any other library that speaks Standard Schema: https://standardschema.dev
  const result = options["~standard"].validate(input);
  if (result instanceof Promise) {
    throw new TypeError("a sink's config schema must validate at once, but it gave a promise");
  }
  if (isObject(result) && Array.isArray(result.issues)) {
    return { output: undefined, issues: result.issues.map(foreignIssue) };
  }
  return { output: isObject(result) ? result.value : undefined, issues: [] };
}

function foreignIssue(issue: unknown): FoundIssue {
  const found = isObject(issue) ? issue : {};
  const keys = (Array.isArray(found.path) ? found.path : []).map((part: unknown) =>
    isObject(part) ? part.key : part
  );
  const [first, ...more] = keys;
  return {
    message: typeof found.message === "string" ? found.message : "not valid",
    expected: null,
    ...(first === undefined ? {} : { path: pathOf(first, ...more) }),
  };
}

/** The sections of the file, with their entries made by `entry`. */
function sections(tables: ConfigTables, entry: Entry) {
  const byName = (types: TypeTable, common: Fields, key: string, what: string) =>
    v.optional(
      v.record(
        v.pipe(v.string(), v.nonEmpty("expected a name")),
        entry(types, common, what),
        `expected an object of ${key} by name`,
      ),
      {},
    );
  return {
    $schema: v.pipe(
      v.optional(v.string("expected the path or URL of the JSON Schema")),
      v.description("The JSON Schema of this file, for completion in editors."),
    ),
    accounts: v.pipe(
      byName(tables.accountTypes, accountFields, "accounts", '{ "type": "nest", … }'),
      v.description("Logins that bring many cameras, by a name of your choice."),
    ),
    cameras: v.pipe(
      byName(tables.cameraTypes, cameraFields, "cameras", '{ "type": "snapshot", … }'),
      v.description("Single cameras, by name."),
    ),
    clip: v.pipe(
      v.optional(
        v.strictObject({
          length: v.optional(
            v.pipe(
              duration({ minMs: 1000, maxMs: 86_400_000 }),
              v.description(
                "How long a clip is. Clips are cut at wall-clock multiples of it (UTC).",
              ),
            ),
            "60s",
          ),
        }, "expected an object"),
        {},
      ),
      v.description("How the recording is cut into clips."),
    ),
    encoder: v.pipe(
      v.optional(
        v.strictObject({
          use: v.pipe(
            v.optional(v.picklist(["auto", "wasm", "system"]), "auto"),
            v.description(
              'Which encoder turns pictures into video: "wasm" runs inside Camsink and needs ' +
                'nothing, "system" is the ffmpeg of this machine, "auto" takes wasm and changes ' +
                "to system where wasm fails or cannot keep up.",
            ),
          ),
          path: v.optional(
            v.pipe(
              filePath(),
              v.description("The ffmpeg program to use; without it, the one on PATH."),
            ),
          ),
          quality: v.pipe(
            v.optional(v.picklist(["low", "standard", "high"]), "standard"),
            v.description("How faithful the video is to the pictures, against its size."),
          ),
          workers: v.optional(
            v.pipe(
              wholeNumber(1, 64),
              v.description(
                "How many in-process encoders run at the same time; without it, by the number of " +
                  "cores.",
              ),
            ),
          ),
        }, "expected an object"),
        {},
      ),
      v.description(
        "How cameras that give pictures are encoded. Video that comes encoded is never encoded again.",
      ),
    ),
    spool: v.pipe(
      v.optional(
        v.strictObject({
          path: v.optional(
            v.pipe(
              filePath(),
              v.description("The folder where clips wait for delivery."),
            ),
            DEFAULT_SPOOL,
          ),
          limit: v.optional(
            v.pipe(size(), v.description("How much the spool may hold; without it, the disk.")),
          ),
          keep: v.optional(
            v.pipe(
              duration(),
              v.description(
                "How long a clip stays after every sink has it; without it, no longer.",
              ),
            ),
          ),
          reserve: v.optional(
            v.pipe(
              size(),
              v.description(
                "Free disk space that the spool leaves alone; without it, 5 % of the disk or 1 GiB.",
              ),
            ),
          ),
          whenFull: v.pipe(
            v.optional(v.picklist(["stop", "drop-oldest"]), "stop"),
            v.description(
              'What to do when the spool is full of clips that no sink has yet: "stop" recording, ' +
                'or "drop-oldest" and lose those.',
            ),
          ),
        }, "expected an object"),
        {},
      ),
      v.description("Where clips are kept until every sink has them."),
    ),
    sinks: v.pipe(
      byName(tables.sinkTypes, sinkFields, "sinks", '{ "type": "local-folder", … }'),
      v.description("Where clips go, by a name of your choice. Every clip goes to every sink."),
    ),
    alerts: v.pipe(
      v.optional(
        v.strictObject({
          webhook: v.optional(
            v.pipe(
              calledUrl(),
              v.description(
                "Gets a POST with JSON when trouble begins and when it ends: a camera is silent, " +
                  "recording stops, clips pile up, a sink is parked, the disk runs low.",
              ),
            ),
          ),
          heartbeat: v.optional(
            v.pipe(
              calledUrl(),
              v.description(
                "Is fetched every minute, but only while every camera is being recorded: a service " +
                  "that expects it notices also a machine that is off.",
              ),
            ),
          ),
          events: eventAlertsField,
        }, "expected an object"),
        {},
      ),
      v.description("Whom to tell of trouble. It is always in the log and in `camsink status`."),
    ),
  };
}

/** The plain structure of the whole file: for reading it, not for validating with it. */
export function configShape(tables: ConfigTables): v.GenericSchema {
  return v.strictObject(sections(tables, shapeOfEntry));
}

/** The schema that validates a whole file and yields a {@linkcode Config}. */
export function configSchema(tables: ConfigTables): v.GenericSchema<unknown, Config> {
  return v.pipe(
    v.custom<Record<string, unknown>>(isObject, "expected an object: { … }"),
    v.strictObject(sections(tables, validatedEntry)),
    v.check(
      ({ accounts, cameras }) => Object.keys({ ...accounts, ...cameras }).length > 0,
      'nothing to record: expected at least one entry in "accounts" or "cameras"',
    ),
    v.rawCheck(({ dataset, addIssue }) => {
      if (!dataset.typed) return;
      const { alerts } = dataset.value;
      if (alerts.events !== undefined && alerts.webhook === undefined) {
        addIssue({
          message: 'expected "webhook" beside it: there is nobody to tell of events',
          path: pathOf("alerts", "events"),
        });
      }
      // Two cameras of one name would be one in the log and one folder in the sinks.
      const seen = new Map<string, string>();
      for (const [key, entry] of Object.entries(dataset.value.cameras)) {
        const name = (entry as Partial<CameraConfig>).name ?? key;
        const other = seen.get(name.toLowerCase());
        if (other === undefined) seen.set(name.toLowerCase(), key);
        else {
          addIssue({
            message: `expected a name of its own, but ${JSON.stringify(other)} has it already`,
            path: pathOf("cameras", key, "name"),
          });
        }
      }
    }),
    v.transform((file): Config => ({
      accounts: file.accounts as Config["accounts"],
      cameras: Object.fromEntries(
        Object.entries(file.cameras as Config["cameras"]).map(([key, camera]) => [
          key,
          { ...camera, name: camera.name ?? key },
        ]),
      ),
      clip: { lengthMs: file.clip.length },
      encoder: {
        use: file.encoder.use,
        quality: file.encoder.quality,
        ...(file.encoder.path === undefined ? {} : { path: file.encoder.path }),
        ...(file.encoder.workers === undefined ? {} : { workers: file.encoder.workers }),
      },
      spool: {
        path: file.spool.path,
        whenFull: file.spool.whenFull,
        ...(file.spool.limit === undefined ? {} : { limitBytes: file.spool.limit }),
        ...(file.spool.keep === undefined ? {} : { keepMs: file.spool.keep }),
        ...(file.spool.reserve === undefined ? {} : { reserveBytes: file.spool.reserve }),
      },
      sinks: Object.fromEntries(
        Object.entries(file.sinks).map(([name, entry]) => [name, sinkConfig(entry)]),
      ),
      alerts: file.alerts,
    })),
  );
}
