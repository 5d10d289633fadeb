/**
 * A clip's bytes as a stream, read as they are asked for.
 *
 * @module
 */
import { asSpoolError } from "./errors.ts";
import type { SpoolFile, SpoolFs } from "./fs.ts";

/** How much is read at once: few calls, and no more memory than one of them per reader. */
const READ_BYTES = 256 * 1024;

/** A file's bytes from a place on. It is opened when the first of them is asked for. */
export function readStream(
  fs: SpoolFs,
  path: string,
  fromByte: number,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let file: SpoolFile | undefined;
  let atByte = fromByte;
  return new ReadableStream({
    async pull(controller) {
      try {
        file ??= await fs.open(path, "read");
        const bytes = new Uint8Array(READ_BYTES); // its own each time: the reader keeps it
        const read = await file.read(bytes, atByte);
        if (read === 0) {
          file.close();
          controller.close();
        } else {
          atByte += read;
          controller.enqueue(read < bytes.length ? bytes.subarray(0, read) : bytes);
        }
      } catch (error) {
        file?.close();
        throw asSpoolError(error, `read the clip ${path}`);
      }
    },
    cancel() {
      file?.close();
    },
  }, { highWaterMark: 0 });
}
