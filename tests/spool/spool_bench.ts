/**
 * A spool on a real disk with clips of a toy format: what its tests share.
 *
 * @module
 */
import { openSpool, type Spool, type SpooledClip } from "../../core/spool/mod.ts";
import type { SpoolOptions } from "../../core/spool/mod.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import {
  recoverToyClip,
  TOY_HEADER,
  TOY_PATCH,
  TOY_TAIL,
  toyFragment,
} from "../support/toy_clip.ts";

export const START_MS = Date.UTC(2026, 7, 21, 14, 5, 0);
export const payload = (seed: number, length = 100) =>
  Uint8Array.from({ length }, (_, index) => (seed * 31 + index) % 256);

export interface Bench extends AsyncDisposable {
  readonly path: string;
  readonly clock: FakeClock;
  readonly messages: string[];
  open(more?: Partial<SpoolOptions>): Promise<Spool>;
}

/** A folder of its own for one test. */
export async function bench(): Promise<Bench> {
  const path = await Deno.makeTempDir({ prefix: "spool-test-" });
  const clock = createFakeClock(START_MS);
  const messages: string[] = [];
  const note = (message: string) => void messages.push(message);
  return {
    path,
    clock,
    messages,
    open: (more) =>
      openSpool({
        path: `${path}/spool`,
        clock,
        log: { debug: note, info: note, warn: note, error: note },
        sinks: ["a", "b"],
        recover: recoverToyClip,
        reserveBytes: 0,
        ...more,
      }),
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

export interface Shot {
  readonly startMs?: number;
  readonly seconds?: number;
  readonly camera?: string;
}

/** Begins a clip of the camera "Yard" with some fragments. */
export async function begin(
  spool: Spool,
  { startMs = START_MS, seconds = 2, camera = "Yard" }: Shot = {},
) {
  const open = await spool.begin({
    camera,
    slug: camera.toLowerCase(),
    start: new Date(startMs),
    contentType: "video/mp4",
  });
  await open.append([TOY_HEADER]);
  for (let second = 0; second < seconds; second++) await open.append(toyFragment(payload(second)));
  return open;
}

/** Records a whole clip. */
export async function record(spool: Spool, shot: Shot = {}): Promise<SpooledClip> {
  const { startMs = START_MS, seconds = 2 } = shot;
  const open = await begin(spool, shot);
  return await open.finish({
    end: new Date(startMs + seconds * 1000),
    tail: [TOY_TAIL],
    patch: TOY_PATCH,
    frames: seconds,
  });
}

export const bytesOf = async (clip: SpooledClip, fromByte?: number) =>
  new Uint8Array(await new Response(clip.open(fromByte)).arrayBuffer());
export const stored = { state: "stored" } as const;
