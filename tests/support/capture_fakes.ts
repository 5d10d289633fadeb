/**
 * What stands around a recorder in its tests: a spool in memory that can be made to fail, cameras
 * whose units a test feeds by hand, and an encoder that only relabels pictures.
 *
 * @module
 */
import type { RecorderOptions } from "../../core/capture/recorder.ts";
import type {
  ClipEnd,
  JournalOwner,
  JournalPicture,
  NewClip,
  OpenClip,
  Spool,
  SpooledClip,
} from "../../core/spool/mod.ts";
import type { CameraStatus } from "../../core/status/board.ts";
import type {
  AccessUnit,
  Clock,
  EncodeOptions,
  Encoder,
  Log,
  Session,
  Source,
  Track,
  VideoTrack,
} from "../../core/types.ts";

/** A clip in a {@linkcode createMemorySpool}. */
export interface MemoryClip extends NewClip {
  readonly key: string;
  bytes: Uint8Array<ArrayBuffer>;
  state: "open" | "finished" | "torn" | "discarded";
  end?: ClipEnd;
  /** What a recovered clip would have. */
  tagsMeanwhile?: readonly string[];
}

/** A spool that keeps clips in memory, with the contract's promises about failures. */
export interface MemorySpool extends Pick<Spool, "begin" | "list" | "tag" | "journal"> {
  readonly clips: MemoryClip[];
  /** What the next start would find. */
  readonly journals: { readonly owner: JournalOwner; pictures: JournalPicture[] }[];
  readonly finished: MemoryClip[];
  /** Called before each operation; what it throws is the operation's failure. */
  fail: (operation: "begin" | "append" | "finish", clip: MemoryClip) => void;
}

/** Makes an empty one. */
export function createMemorySpool(): MemorySpool {
  const clips: MemoryClip[] = [];
  const journals: MemorySpool["journals"] = [];
  const spool: MemorySpool = {
    clips,
    journals,
    journal(owner) {
      const journal = { owner, pictures: [] as JournalPicture[] };
      journals.push(journal);
      return {
        append: (pictures) => attempt(() => void journal.pictures.push(...pictures)),
        settle: (untilUs) =>
          attempt(() => {
            journal.pictures = journal.pictures.filter(({ ptsUs }) => ptsUs > untilUs);
          }),
        end: ({ keep = false } = {}) =>
          attempt(() => {
            if (!keep) journals.splice(journals.indexOf(journal), 1);
          }),
      };
    },
    get finished() {
      return clips.filter(({ state }) => state === "finished");
    },
    fail: () => {},
    list: ({ camera, fromMs = 0, toMs = Infinity } = {}) =>
      spool.finished
        .filter((clip) => camera === undefined || clip.camera === camera)
        .map((clip) => spooled(clip, clip.end ?? { end: clip.start, tail: [], frames: 0 }))
        .filter(({ start, end }) => end.getTime() > fromMs && start.getTime() < toMs),
    tag: (key, tags) =>
      attempt(() => {
        const clip = clips.find((clip) => clip.key === key);
        if (!clip?.end) return;
        clip.end = { ...clip.end, tags: [...new Set([...clip.end.tags ?? [], ...tags])] };
      }),
    begin(options) {
      return attempt(() => {
        const nth = clips.filter(({ start }) => start.getTime() === options.start.getTime()).length;
        const key = `${options.slug}/${options.start.toISOString()}${nth ? `-${nth}` : ""}`;
        const clip: MemoryClip = {
          ...options,
          ...{ key, bytes: new Uint8Array(), state: "open", tagsMeanwhile: options.tags ?? [] },
        };
        spool.fail("begin", clip);
        clips.push(clip);
        return openClip(clip);
      });
    },
  };

  function openClip(clip: MemoryClip): OpenClip {
    const add = (chunks: readonly Uint8Array[]) => {
      for (const chunk of chunks) {
        const longer = new Uint8Array(clip.bytes.length + chunk.length);
        longer.set(clip.bytes);
        longer.set(chunk, clip.bytes.length);
        clip.bytes = longer;
      }
    };
    const whileOpen = <T>(operation: "append" | "finish", work: () => T): Promise<T> =>
      attempt(() => {
        if (clip.state !== "open") throw new Error(`the clip ${clip.key} is ${clip.state}`);
        spool.fail(operation, clip);
        return work();
      });
    return {
      key: clip.key,
      get bytes() {
        return clip.bytes.length;
      },
      get durableBytes() {
        return clip.bytes.length;
      },
      append: (chunks) => whileOpen("append", () => add(chunks)),
      finish: (end) =>
        whileOpen("finish", () => {
          add(end.tail);
          if (end.patch) clip.bytes.set(end.patch.bytes, end.patch.offset);
          clip.end = end;
          clip.state = "finished";
          return spooled(clip, end);
        }).catch((error) => {
          clip.state = "torn";
          throw error;
        }),
      tag: (tags) =>
        attempt(() => {
          clip.tagsMeanwhile = [...new Set([...clip.tagsMeanwhile ?? [], ...tags])];
        }),
      discard: () =>
        attempt(() => {
          clip.state = "discarded";
        }),
    };
  }
  return spool;
}

function attempt<T>(work: () => T): Promise<T> {
  return new Promise((resolve) => resolve(work()));
}

function spooled(clip: MemoryClip, { end, frames, tags = [] }: ClipEnd): SpooledClip {
  const { key, camera, start, contentType, bytes } = clip;
  return {
    ...{ key, camera, start, end, contentType, frames, tags, bytes: bytes.length },
    ...{ sha256: "", md5: "", path: "", recovered: false, pinned: false, state: "here" },
    open: () => new Blob([bytes]).stream(),
  };
}

/** A camera that has not begun. */
export function newStatus(name = "Yard"): CameraStatus {
  return {
    ...{ name, slug: "yard", state: "connecting", framesCaptured: 0, framesDropped: 0 },
    ...{ framesRecorded: 0, fps: 0, openClipBytes: 0, clipsFinished: 0, bytesFinished: 0 },
    gaps: { count: 0, totalMs: 0 },
  };
}

/** A log that keeps its lines, as `level message`. */
export function createNotes(): Log & { readonly lines: string[] } {
  const lines: string[] = [];
  const note = (level: string) => (message: string) => void lines.push(`${level} ${message}`);
  return {
    lines,
    debug: note("debug"),
    info: note("info"),
    warn: note("warn"),
    error: note("error"),
  };
}

/** JPEG pictures, as cameras give them. */
export const JPEG_TRACK: VideoTrack = {
  ...{ id: 1, kind: "video", codec: "jpeg", widthPx: 320, heightPx: 180 },
  config: new Uint8Array(),
};
/** Coded video; its configuration record is that of a 320x180 baseline stream. */
export const VIDEO_TRACK: VideoTrack = {
  ...JPEG_TRACK,
  codec: "h264",
  config: Uint8Array.of(
    ...[1, 0x42, 0xc0, 0x0c, 0xff, 0xe1, 0, 10, 0x67, 0x42, 0xc0, 0x0c, 0xda, 0x05, 0x06, 0x79],
    ...[0xe7, 0x40, 1, 0, 4, 0x68, 0xce, 0x3c, 0x80],
  ),
};
/** 48 kHz stereo AAC. */
export const SOUND_TRACK: Track = {
  ...{ id: 2, kind: "audio", codec: "aac", sampleRateHz: 48_000, channels: 2 },
  config: Uint8Array.of(0x11, 0x90),
};

/** A video unit whose only byte of payload is `mark`. */
export function videoUnit(
  ms: number,
  options: Partial<AccessUnit> & { readonly mark?: number } = {},
): AccessUnit {
  const { mark = 0, ...rest } = options;
  const isKey = rest.isKey ?? true;
  return {
    trackId: 1,
    data: Uint8Array.of(0, 0, 0, 2, isKey ? 0x65 : 0x41, mark),
    ptsUs: ms * 1000,
    dtsUs: ms * 1000,
    isKey,
    capturedAtMs: ms,
    ...rest,
  };
}

/** A camera that does as a test says. */
export interface FakeCamera extends Source {
  /** A session is open. */
  readonly isOpen: boolean;
  /** How often it was opened. */
  opens: number;
  /** A picture, taken now. */
  picture(unit?: Partial<AccessUnit>): void;
  /** Ends the session, quietly or with an error. */
  end(error?: unknown): void;
  /** What opening throws, if anything. */
  openError: unknown;
  /** It does not answer: neither when opened nor when told to end. */
  deaf: boolean;
  tracks: readonly Track[];
}

/** Makes one. */
export function createFakeCamera(clock: Clock, tracks: readonly Track[] = [JPEG_TRACK]) {
  let feed: { put(unit: AccessUnit): void; end(error?: unknown): void } | undefined;
  const camera: FakeCamera = {
    opens: 0,
    openError: undefined,
    deaf: false,
    tracks,
    get isOpen() {
      return feed !== undefined;
    },
    picture(unit = {}) {
      const atMs = clock.monotonic();
      feed?.put(videoUnit(atMs, { capturedAtMs: clock.now(), ...unit }));
    },
    end(error) {
      feed?.end(error);
    },
    open({ signal }) {
      camera.opens++;
      if (camera.openError !== undefined) return Promise.reject(camera.openError);
      if (camera.deaf) return new Promise(() => {});
      const units: AccessUnit[] = [];
      let ended: { readonly error?: unknown } | undefined;
      let wake = () => {};
      const end = (error?: unknown) => {
        ended ??= { error };
        wake();
      };
      const own = {
        put: (unit: AccessUnit) => {
          units.push(unit);
          wake();
        },
        end,
      };
      feed = own;
      signal.addEventListener("abort", () => !camera.deaf && end(), { once: true });
      const session: Session = {
        tracks: camera.tracks,
        async *[Symbol.asyncIterator]() {
          while (true) {
            const unit = units.shift();
            if (unit) yield unit;
            else if (ended?.error !== undefined) throw ended.error;
            else if (ended) return;
            else await new Promise<void>((resolve) => wake = resolve);
          }
        },
        [Symbol.asyncDispose]: () => {
          if (camera.deaf) return new Promise(() => {});
          if (feed === own) feed = undefined;
          return Promise.resolve();
        },
      };
      return Promise.resolve(session);
    },
  };
  return camera;
}

/** Passes every picture on as a key unit of H.264. */
export const relabel: Encoder = {
  async *encode(units: AsyncIterable<AccessUnit>, _options: EncodeOptions) {
    let first = true;
    for await (const unit of units) {
      yield first ? { ...unit, track: VIDEO_TRACK } : unit;
      first = false;
    }
  },
};

/** A recorder's options around a camera. */
export function recorderOptions(
  clock: Clock,
  options: Pick<RecorderOptions, "source"> & Partial<RecorderOptions>,
): RecorderOptions & {
  readonly status: CameraStatus;
  readonly log: ReturnType<typeof createNotes>;
} {
  return {
    camera: "Yard",
    slug: "yard",
    encoder: () => Promise.resolve(relabel),
    spool: createMemorySpool(),
    status: newStatus(),
    clipMs: 10_000,
    product: "test",
    stallMs: 10_000,
    clock,
    random: () => 0.5,
    ...options,
    log: createNotes(),
  };
}
