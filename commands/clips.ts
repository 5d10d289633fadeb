/**
 * `camsink clips`: what was recorded and where it is; copies clips out of the spool, has them
 * delivered again, keeps them from retention. It looks at the spool from beside, so it works while
 * a recording runs.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { formatBytes, formatDuration } from "../core/config/values.ts";
import { EXIT, type ExitCode } from "../core/exit_codes.ts";
import {
  type ClipFilter,
  type Delivery,
  openSpoolView,
  type SpooledClip,
  type SpoolView,
} from "../core/spool/mod.ts";
import type { Clock } from "../core/types.ts";
import type { ClipsArguments } from "./clips_arguments.ts";
import type { CommandContext } from "./context.ts";
import type { Moment } from "./grammar.ts";
import { loadUserConfig } from "./rooms.ts";
import { styles } from "./terminal.ts";
import { layOutTable, plainText } from "./text_layout.ts";

const DEFAULT_LIMIT = 100;

/** Runs `camsink clips …`. */
export async function clips(args: ClipsArguments, context: CommandContext): Promise<ExitCode> {
  const path = args.spool ?? (await loadUserConfig(args.config)).config.spool.path;
  using view = await openSpoolView(path, context.clock);
  const { terminal } = context;
  switch (args.command) {
    case "clips":
      list(args, { view, context });
      return EXIT.ok;
    case "clips export":
      await Deno.mkdir(args.out, { recursive: true });
      return await forEach(args.keys, context, async (key) => {
        terminal.out(await exportClip(key, { view, folder: args.out, signal: context.stop }));
      });
    case "clips redeliver": {
      const sinks = args.sink === undefined ? view.sinks() : [args.sink];
      if (sinks.length === 0) throw new Error("the spool has no sink to deliver to");
      const exitCode = await forEach(args.keys, context, (key) => {
        for (const sink of sinks) view.redeliver(sink, key);
        terminal.out(`${key} waits for ${sinks.join(", ")}`);
      });
      terminal.err("A running recording delivers it within a minute or so, else the next one.");
      return exitCode;
    }
    case "clips keep":
    case "clips unkeep": {
      const isKept = args.command === "clips keep";
      return await forEach(args.keys, context, async (key) => {
        await view.setPinned(key, isKept);
        terminal.out(`${key} is ${isKept ? "kept" : "not kept any more"}`);
      });
    }
  }
}

/** A moment of the command line as wall time, ms. */
export function momentMs(moment: Moment, clock: Clock): number {
  return "agoMs" in moment ? clock.now() - moment.agoMs : moment.atMs;
}

/** Does something with every key; one that fails is told, and the others are done. */
async function forEach(
  keys: readonly string[],
  { terminal, stop }: CommandContext,
  work: (key: string) => void | Promise<void>,
): Promise<ExitCode> {
  let failed = 0;
  for (const key of new Set(keys)) {
    stop.throwIfAborted();
    try {
      await work(key);
    } catch (error) {
      stop.throwIfAborted();
      failed++;
      const reason = error instanceof Error ? error.message : String(error);
      terminal.err(`${styles(terminal.color).red("camsink:")} ${reason}`);
    }
  }
  return failed === 0 ? EXIT.ok : EXIT.failure;
}

type ListArguments = Extract<ClipsArguments, { command: "clips" }>;

function list(
  args: ListArguments,
  { view, context: { terminal, clock } }: {
    readonly view: SpoolView;
    readonly context: CommandContext;
  },
): void {
  const limit = args.limit ?? (args.json ? Number.MAX_SAFE_INTEGER : DEFAULT_LIMIT);
  const newest = view.list({
    ...filterOf(args, clock),
    newestFirst: true,
    limit: limit < Number.MAX_SAFE_INTEGER ? limit + 1 : limit,
  });
  const listed = newest.slice(0, limit).reverse()
    .map((clip) => ({ clip, deliveries: view.deliveries(clip.key) }));
  if (args.json) {
    terminal.out(JSON.stringify(listed.map(({ clip, deliveries }) => asData(clip, deliveries))));
    return;
  }
  if (listed.length === 0) {
    terminal.err("camsink: no clip fits; without flags, camsink clips lists the newest of all");
    return;
  }
  const style = styles(terminal.dataColor);
  const lines = layOutTable(
    [
      { title: "KEY" },
      { title: "CAMERA", dropOrder: 1 },
      { title: "LENGTH", align: "right", dropOrder: 2 },
      { title: "SIZE", align: "right", dropOrder: 3 },
      { title: "SPOOL" },
      { title: "TAGS", dropOrder: 5 },
      { title: "KEPT", dropOrder: 4 },
      { title: "SINKS" },
    ],
    listed.map(({ clip, deliveries }) => [
      { text: clip.key },
      { text: plainText(clip.camera) },
      { text: formatDuration(clip.end.getTime() - clip.start.getTime()) },
      { text: formatBytes(clip.bytes) },
      { text: clip.state, ...(clip.state === "lost" ? { style: style.red } : {}) },
      { text: plainText(clip.tags.join(", ")) || "-" },
      { text: clip.pinned ? "yes" : "no" },
      { text: deliveries.map(({ sink, state }) => `${sink}: ${word(state)}`).join(", ") || "-" },
    ]),
    // A pipe has no width: nothing is left out of data.
    { width: terminal.isTerminal ? terminal.size().columns : 1000, titleStyle: style.dim },
  );
  for (const line of lines) terminal.out(line);
  if (newest.length > limit) {
    terminal.err(`The newest ${limit} of more clips; --limit NUMBER shows others.`);
  }
}

function filterOf(args: ListArguments, clock: Clock): ClipFilter {
  const { camera, since, until, state, sink } = args;
  const ofSpool = state === "here" || state === "gone" || state === "lost";
  // What is here and in a sink, say, is both: a state of the spool with a sink that has stored it.
  const delivery = state === "put-aside"
    ? "quarantined" as const
    : state !== undefined && !ofSpool
    ? state
    : sink === undefined
    ? undefined
    : "stored" as const;
  return {
    state: ofSpool ? state : "any",
    ...(camera === undefined ? {} : { camera }),
    ...(since === undefined ? {} : { fromMs: momentMs(since, clock) }),
    ...(until === undefined ? {} : { toMs: momentMs(until, clock) }),
    ...(args.kept ? { pinned: true } : {}),
    ...(delivery === undefined
      ? {}
      : { delivery: { state: delivery, ...(sink === undefined ? {} : { sink }) } }),
  };
}

const word = (state: Delivery["state"]) => state === "quarantined" ? "put-aside" : state;

/** A clip for `--json`. */
function asData(clip: SpooledClip, deliveries: readonly Delivery[]) {
  const { key, camera, start, end, bytes, frames, sha256, state, pinned, recovered } = clip;
  return {
    key,
    camera,
    start,
    end,
    bytes,
    frames,
    sha256,
    state,
    kept: pinned,
    recovered,
    contentType: clip.contentType,
    tags: clip.tags,
    ...(state === "here" ? { path: clip.path } : {}),
    sinks: deliveries.map(({ sink, state, atMs, reason, receipt }) => ({
      sink,
      state: word(state),
      at: new Date(atMs),
      ...(reason === undefined ? {} : { reason }),
      ...(receipt === undefined ? {} : { receipt }),
    })),
  };
}

/** Copies a clip and proves that the copy is the clip. Gives the copy's path. */
async function exportClip(
  key: string,
  { view, folder, signal }: {
    readonly view: SpoolView;
    readonly folder: string;
    readonly signal: AbortSignal;
  },
): Promise<string> {
  const clip = view.get(key);
  if (clip?.state !== "here") {
    const holders = view.deliveries(key).filter(({ state }) => state === "stored");
    throw new Error(
      clip
        ? `the clip ${key} is not on the spool any more; ` +
          (holders.length > 0
            ? `it is in ${holders.map(({ sink }) => sink).join(", ")}`
            : "no sink has it")
        : `there is no clip ${key}; camsink clips lists those that there are`,
    );
  }
  // Keys differ in their first part and their last: the folders between only repeat the date.
  const target = join(folder, `${key.slice(0, key.indexOf("/"))}-${basename(key)}`);
  const hash = createHash("sha256");
  const file = await create(target);
  try {
    await clip.open()
      .pipeThrough(
        new TransformStream({
          transform: (chunk, controller) => {
            hash.update(chunk);
            controller.enqueue(chunk);
          },
        }),
      )
      .pipeTo(file.writable, { signal });
    const sha256 = hash.digest("hex");
    if (sha256 !== clip.sha256) {
      throw new Error(
        `the clip ${key} is damaged on the spool: its SHA-256 is ${sha256}, expected ` +
          `${clip.sha256}; nothing was exported, camsink verify tells more`,
      );
    }
  } catch (error) {
    await Deno.remove(target);
    throw error;
  }
  return target;
}

/** Nothing is ever overwritten. */
async function create(path: string): Promise<Deno.FsFile> {
  try {
    return await Deno.open(path, { write: true, createNew: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    throw new Error(`${path} is there already; remove it, or choose another folder with --out`, {
      cause: error,
    });
  }
}
