/**
 * Looks for secrets in what a long run prints and leaves behind, as it comes: the text of days is not
 * kept.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { walkFiles } from "../support/walk_files.ts";
import { ENCODINGS, leaksIn } from "./encodings.ts";

/** See {@linkcode createLeakSearch}. */
export interface LeakSearch {
  /** Takes what was printed; it is searched together with what was printed just before. */
  printed(text: string): void;
  /** Searches all files below a folder, but clips. */
  files(folder: string): Promise<void>;
  /** Where which secret was found, and in which encoding; each once. */
  leaks(): readonly string[];
  /** Characters and bytes searched. */
  readonly searched: number;
}

/** So much is gathered before it is searched, characters. */
const PART = 1_000_000;

/** A search for `secrets`, by the names that they shall be reported under. */
export function createLeakSearch(secrets: Readonly<Record<string, string>>): LeakSearch {
  const longest = Math.max(
    0,
    ...Object.values(secrets).flatMap((secret) =>
      Object.values(ENCODINGS).map((code) => code(secret).length)
    ),
  );
  const found = new Set<string>();
  let parts: string[] = [];
  let gathered = 0;
  let searched = 0;
  const search = (where: string, text: string) => {
    for (const leak of leaksIn(text, secrets)) found.add(`${where}: ${leak}`);
  };
  const searchPrinted = () => {
    const text = parts.join("");
    search("printed", text);
    // One that is cut by the end of this part begins here.
    parts = [text.slice(Math.max(0, text.length - longest))];
    gathered = 0;
  };
  return {
    printed(text) {
      parts.push(text);
      gathered += text.length;
      searched += text.length;
      if (gathered >= PART) searchPrinted();
    },
    async files(folder) {
      for await (const path of walkFiles(folder)) {
        if (path.endsWith(".mp4")) continue;
        const bytes = await Deno.readFile(path);
        searched += bytes.length;
        search(path.slice(folder.length + 1), Buffer.from(bytes).toString("latin1"));
      }
    },
    leaks() {
      searchPrinted();
      return [...found];
    },
    get searched() {
      return searched;
    },
  };
}
