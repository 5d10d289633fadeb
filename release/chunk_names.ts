/**
 * The bundler names the parts of a bundle after a hash that depends on where the project lies. Two
 * builds of one commit are to be equal wherever they are made, so the parts get names that depend on
 * their contents alone.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { ArchiveFile } from "./archives.ts";

/** `chunk-TA7O5IKY.js` */
const CHUNK_NAME = /([\w.-]+)-([A-Z0-9]{8})\.js/g;

/** How far away a difference may be that tells two parts apart. */
const ROUNDS = 4;

/**
 * The same files, the parts renamed and every mention of them with them.
 *
 * @throws if two parts cannot be told apart
 */
export function renameChunks(files: readonly ArchiveFile[]): ArchiveFile[] {
  const decoder = new TextDecoder();
  const texts = new Map(files.map(({ path, bytes }) => [path, decoder.decode(bytes)]));
  const isChunk = (path: string) => new RegExp(`^${CHUNK_NAME.source}$`).test(path);
  const chunks = [...texts.keys()].filter(isChunk);
  /** First without the names that are mentioned, then with their new ones, which say more each time. */
  let names = new Map<string, string>(chunks.map((path) => [path, ""]));
  const rename = (text: string) =>
    text.replaceAll(CHUNK_NAME, (whole) => names.has(whole) ? names.get(whole) ?? "" : whole);
  for (let round = 0; round < ROUNDS; round++) {
    names = new Map(chunks.map((path) => {
      const hash = createHash("sha256").update(rename(texts.get(path) ?? "")).digest("hex");
      return [path, path.replace(CHUNK_NAME, `$1-${hash.slice(0, 12)}.js`)];
    }));
  }
  if (new Set(names.values()).size < chunks.length) {
    throw new Error("two parts of the bundle are alike in all but their names");
  }
  const encoder = new TextEncoder();
  return [...texts].map(([path, text]) => ({
    path: names.get(path) ?? path,
    bytes: encoder.encode(rename(text)),
    isProgram: false,
  }));
}
