/**
 * How long pictures wait until they are in a file on the spool, seen from outside: the open clips are
 * looked at many times a second, and where one has grown, the times of its pictures, which are those of
 * their arrival, are compared with when it was written last: many grow at the same moment, and reading
 * them takes longer than writing them. Looking costs CPU time and so is no part of a window in
 * which that is measured.
 *
 * @module
 */
import { join } from "node:path";
import { recoverTornClip } from "../commands/recording.ts";

/** Between two looks, ms. */
const LOOK_MS = 20;

/** Of each fragment that appeared within `forMs`: how old its first picture was then, ms. */
export async function watchSpool(
  spool: string,
  { forMs }: { readonly forMs: number },
): Promise<readonly number[]> {
  const ages: number[] = [];
  /** Of each clip: its bytes, and what the pictures in them cover, ms. */
  const seen = new Map<string, { bytes: number; coversMs: number | undefined }>();
  const endMs = performance.now() + forMs;
  while (performance.now() < endMs) {
    for (const { name } of Deno.readDirSync(join(spool, "open"))) {
      if (!name.endsWith(".mp4.part")) continue;
      const before = seen.get(name) ?? { bytes: 0, coversMs: undefined };
      const found = await coverage(join(spool, "open", name), before.bytes);
      if (found === undefined) continue;
      // What was there at the first look came at an unknown time.
      if (before.coversMs !== undefined && found.coversMs > before.coversMs) {
        ages.push(found.writtenMs - (found.startMs + before.coversMs));
      }
      seen.set(name, { bytes: found.bytes, coversMs: found.coversMs });
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return ages;
}

/** What the whole fragments of a clip cover, if it has grown. */
async function coverage(path: string, beforeBytes: number) {
  try {
    const { size, mtime } = Deno.statSync(path);
    if (size === beforeBytes) return undefined;
    using file = await Deno.open(path);
    const read = async (offset: number, length: number) => {
      const bytes = new Uint8Array(Math.max(0, Math.min(length, size - offset)));
      file.seekSync(offset, Deno.SeekMode.Start);
      let done = 0;
      while (done < bytes.length) done += await file.read(bytes.subarray(done)) ?? bytes.length;
      return bytes;
    };
    const found = await recoverTornClip({ size, read });
    if (found.state === "empty" || found.startMs === undefined) return undefined;
    return {
      bytes: size,
      coversMs: found.durationMs,
      startMs: found.startMs,
      writtenMs: mtime?.getTime() ?? NaN,
    };
  } catch {
    return undefined; // finished a moment ago
  }
}
