/**
 * Clips in memory for the tests of one sink: what the conformance kit's own do not show.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Clip, PutOptions } from "../../core/types.ts";
import { noise } from "../../kit/clips.ts";

export { noise };

/** A clip with these bytes. */
export function clipOf(data: Uint8Array<ArrayBuffer>, change: Partial<Clip> = {}): Clip {
  return {
    key: "yard/2026/08/21/20260821T140500Z.mp4",
    camera: "yard",
    start: new Date("2026-08-21T14:05:00.000Z"),
    end: new Date("2026-08-21T14:06:00.000Z"),
    bytes: data.length,
    sha256: createHash("sha256").update(data).digest("hex"),
    contentType: "video/mp4",
    open: (fromByte = 0) => chunked(data.subarray(fromByte)),
    ...change,
  };
}

/** What delivery hands to a put. */
export function putOptions(change: Partial<PutOptions> = {}): PutOptions {
  return { signal: new AbortController().signal, attempt: 1, progress: () => {}, ...change };
}

/** A stream of uneven chunks, as files give them. */
function chunked(data: Uint8Array<ArrayBuffer>): ReadableStream<Uint8Array<ArrayBuffer>> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= data.length) return controller.close();
      const size = 1 + (at * 7 + 60_000) % 70_000;
      controller.enqueue(data.slice(at, at + size));
      at += size;
    },
  }, { highWaterMark: 0 });
}

/** Whether two byte arrays are equal, without the endless difference of an assertion. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
