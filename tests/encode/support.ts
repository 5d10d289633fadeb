/**
 * What the encoder tests share: cameras that show the simulated scene, engines that pretend, and
 * a decoder of what comes out.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Engine, Gop, GopOptions, GopResult, Lane } from "../../core/encode/engine.ts";
import { joinAnnexB, splitLengthPrefixed } from "../../core/media/annexb.ts";
import { parseAvcConfig } from "../../core/media/h264.ts";
import type { AccessUnit, EncodeOptions, Encoder, Log } from "../../core/types.ts";
import { createScene } from "../../simulators/scene/scene.ts";
import { readStrip, type Strip } from "../../simulators/scene/strip.ts";
import { decodeLuma } from "../support/ffmpeg.ts";

/** A multiple of every GOP length used here. */
export const START_MS = Date.UTC(2026, 7, 21, 14, 5, 0);

/** The pictures of a camera, as units. */
export function pictures(options: {
  readonly count: number;
  readonly everyMs?: number;
  readonly startMs?: number;
  readonly widthPx?: number;
  readonly heightPx?: number;
  readonly name?: string;
}): AccessUnit[] {
  const { count, everyMs = 100, startMs = START_MS, name = "yard" } = options;
  const { widthPx = 320, heightPx = 180 } = options;
  const scene = createScene({ name, widthPx, heightPx });
  return Array.from({ length: count }, (_, counter) => {
    // Not quite even, as polled pictures are.
    const takenAtMs = startMs + Math.round(counter * everyMs + (counter % 3) * everyMs / 20);
    return unitOf(scene.frame({ counter, takenAtMs }), takenAtMs);
  });
}

/** A JPEG as the unit of a session. */
export function unitOf(data: Uint8Array, capturedAtMs: number): AccessUnit {
  const ptsUs = (capturedAtMs - START_MS) * 1000 + 7;
  return { trackId: 1, data, ptsUs, dtsUs: ptsUs, isKey: true, capturedAtMs };
}

/** The units one after the other; `after` is awaited at the end, for a camera that stays silent. */
export async function* stream(
  units: Iterable<AccessUnit>,
  after?: Promise<unknown>,
): AsyncGenerator<AccessUnit> {
  yield* units;
  await after;
}

/** Encodes all of it. */
export async function encodeAll(
  encoder: Encoder,
  units: Iterable<AccessUnit> | AsyncIterable<AccessUnit>,
  options: Partial<EncodeOptions> = {},
): Promise<AccessUnit[]> {
  const input = Symbol.asyncIterator in units ? units : stream(units);
  const coded: AccessUnit[] = [];
  const signal = new AbortController().signal;
  for await (
    const unit of encoder.encode(input, { signal, camera: "yard", gopMs: 2000, ...options })
  ) {
    coded.push(unit);
  }
  return coded;
}

/** Asserts that each picture comes out before the next one is given. */
export async function assertNoDelay(encoder: Encoder, count: number): Promise<void> {
  const out = { count: 0, wake: () => {} };
  async function* oneByOne() {
    for (const [index, unit] of pictures({ count }).entries()) {
      yield unit;
      while (out.count <= index) await new Promise<void>((resolve) => out.wake = resolve);
    }
  }
  const signal = new AbortController().signal;
  const output = encoder.encode(oneByOne(), { signal, camera: "yard", gopMs: 2000 });
  for await (const _ of output) {
    out.count++;
    out.wake();
  }
  assert.equal(out.count, count);
}

/** The H.264 stream in Annex B form, which any decoder takes. */
export function asAnnexB(units: readonly AccessUnit[]): Uint8Array {
  const nals: Uint8Array[] = [];
  for (const unit of units) {
    if (unit.track?.kind === "video") {
      const { sps, pps } = parseAvcConfig(unit.track.config);
      nals.push(...sps, ...pps);
    }
    nals.push(...splitLengthPrefixed(unit.data));
  }
  return joinAnnexB(nals);
}

/** What the pictures in a coded stream say about themselves, in order of display. */
export async function readStrips(
  units: readonly AccessUnit[],
  size: { readonly widthPx: number; readonly heightPx: number } = { widthPx: 320, heightPx: 180 },
): Promise<(Strip | undefined)[]> {
  const frames = await decodeLuma(asAnnexB(units), { format: "h264", ...size });
  return frames.map((luma) => readStrip(luma, size.widthPx));
}

/** Asserts that the coded pictures are exactly these, with their times. */
export async function assertSamePictures(
  coded: readonly AccessUnit[],
  originals: readonly AccessUnit[],
  size?: { readonly widthPx: number; readonly heightPx: number },
): Promise<void> {
  assert.deepEqual(
    coded.map(({ ptsUs, dtsUs, capturedAtMs }) => ({ ptsUs, dtsUs, capturedAtMs })),
    originals.map(({ ptsUs, dtsUs, capturedAtMs }) => ({ ptsUs, dtsUs, capturedAtMs })),
  );
  const strips = await readStrips(coded, size);
  assert.deepEqual(
    strips.map((strip) => strip?.takenAtMs),
    originals.map((unit) => unit.capturedAtMs),
  );
}

/** A log that remembers. */
export function createTestLog(): Log & { readonly lines: string[] } {
  const lines: string[] = [];
  const say = (level: string) => (message: string) => void lines.push(`${level}: ${message}`);
  return {
    lines,
    debug: say("debug"),
    info: say("info"),
    warn: say("warn"),
    error: say("error"),
  };
}

/** A GOP in an engine that only pretends: the test decides what comes out. */
export interface FakeGop {
  readonly options: GopOptions;
  readonly jpegs: Uint8Array[];
  readonly ended: boolean;
  /** Gives out the picture of this index. */
  code(index: number, isKey?: boolean): void;
  finish(): void;
  fail(error: Error): void;
}

/** An engine whose GOPs a test works by hand, or which codes at once (`auto`). */
export function createFakeEngine(
  name: Engine["name"],
  { auto = true, gathers = false }: { readonly auto?: boolean; readonly gathers?: boolean } = {},
): Engine & { readonly gops: FakeGop[]; readonly openLanes: number } {
  const gops: FakeGop[] = [];
  let openLanes = 0;
  const openGop = (options: GopOptions): Gop => {
    const { promise, resolve, reject } = Promise.withResolvers<GopResult>();
    promise.catch(() => {});
    const jpegs: Uint8Array[] = [];
    let ended = false;
    const fake: FakeGop = {
      options,
      jpegs,
      get ended() {
        return ended;
      },
      code: (index, isKey = index === 0) =>
        options.onCoded({ index, isKey, data: Uint8Array.of(index), config: Uint8Array.of(1) }),
      finish: () => resolve({ busyMs: 100 }),
      fail: reject,
    };
    gops.push(fake);
    return {
      finished: promise,
      push(jpeg) {
        jpegs.push(jpeg);
        if (auto) fake.code(jpegs.length - 1);
        return Promise.resolve();
      },
      end() {
        ended = true;
        if (auto) fake.finish();
      },
    };
  };
  return {
    name,
    description: `fake ${name}`,
    gops,
    get openLanes() {
      return openLanes;
    },
    openLane(): Lane {
      openLanes++;
      return {
        gathers,
        openGop,
        flush: () => {},
        [Symbol.asyncDispose]: () => {
          openLanes--;
          return Promise.resolve();
        },
      };
    },
    openSound: () => {
      throw new Error("this engine has no sound");
    },
    openPictures: () => {
      throw new Error("this engine decodes nothing");
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
