/**
 * For tests of sinks whose server keeps its objects as files: the store seen as a folder.
 *
 * @module
 */
import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { Readable } from "node:stream";
import type { SinkTestObject } from "./contract.ts";

/** Every file below a folder, hidden and half-made ones too. */
export async function objectsInFolder(folder: string): Promise<SinkTestObject[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => {
    const path = join(entry.parentPath, entry.name);
    return {
      name: relative(folder, path),
      read: () => Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array>,
    };
  });
}
