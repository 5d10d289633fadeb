/**
 * The real program as a child that records until it is told to stop or is killed; what it calls
 * finished is noted from its log.
 *
 * @module
 */
import type { LogLine } from "../support/capture_until.ts";
import { type LiveMemory, liveMemory } from "./live_memory.ts";
import { killAndWait } from "../support/run_cli.ts";
import { TextLineStream } from "../support/text_lines.ts";

const CLI = new URL("../../cli.ts", import.meta.url).pathname;

/** A running recording; disposed of, it is killed. */
export interface Program extends AsyncDisposable {
  /** Resolves when so many cameras are being recorded. */
  recording(cameras: number): Promise<void>;
  /**
   * Resolves when `times` (default 1) lines of the log match since the last call that found any.
   * @throws with the last lines if the program ends before
   */
  until(matches: (line: LogLine) => boolean, times?: number): Promise<void>;
  /** The cameras that it has said to be recording so far. */
  readonly recorded: ReadonlySet<string>;
  readonly pid: number;
  /**
   * Collects its garbage and says what is left, without its workers. @throws if it was not started to
   * be inspected
   */
  live(): Promise<LiveMemory>;
  kill(signal: Deno.Signal): void;
  readonly ended: Promise<void>;
}

/** Starts the program, and notes each clip that it calls finished with its hash. */
export function startProgram(
  args: readonly string[],
  { env, finished, onLine, onText, inspect = false }: {
    readonly env: Readonly<Record<string, string>>;
    readonly finished: Map<string, string>;
    readonly onLine?: (line: LogLine) => void;
    /** Told all that it prints, line by line, with the line's end. */
    readonly onText?: (text: string) => void;
    /** For {@linkcode Program.live}. */
    readonly inspect?: boolean;
  },
): Program {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", ...(inspect ? ["--inspect=127.0.0.1:0"] : []), "--allow-all", "--no-prompt"],
      ...[CLI, "capture", "--json", ...args],
    ],
    env: { ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let inspector: string | undefined;
  const said: string[] = [];
  const recorded = new Set<string>();
  const news: LogLine[] = [];
  let check = () => {};
  const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    for await (
      const line of stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
    ) {
      onText?.(`${line}\n`);
      inspector ??= /ws:\/\/127\.0\.0\.1:\d+\/\S+/.exec(line)?.[0];
      said.push(line);
      if (said.length > 200) said.shift();
      if (!line.startsWith("{")) continue;
      const parsed: LogLine = JSON.parse(line);
      const { event, key, sha256, category } = parsed;
      if (event === "clip-finished") finished.set(String(key), String(sha256));
      if (event === "recording") recorded.add(String(category));
      onLine?.(parsed);
      news.push(parsed);
      if (news.length > 10_000) news.shift();
      check();
    }
  };
  const reading = Promise.all([read(child.stdout), read(child.stderr)]);
  const ended = Promise.all([child.status, reading]).then(() => {});
  const when = (isSo: () => boolean): Promise<void> =>
    new Promise((resolve, reject) => {
      check = () => {
        if (isSo()) resolve();
      };
      check();
      ended.then(() => reject(new Error(`the program ended by itself:\n${said.join("\n")}`)));
    });
  return {
    recording: (cameras) => when(() => recorded.size >= cameras),
    until: (matches, times = 1) =>
      when(() => {
        const found = news.flatMap((line, index) => matches(line) ? [index] : []);
        if (found.length < times) return false;
        news.splice(0, (found[times - 1] ?? 0) + 1);
        return true;
      }),
    recorded,
    pid: child.pid,
    live: () => {
      if (!inspect || inspector === undefined) throw new Error("it cannot be inspected");
      return liveMemory(inspector);
    },
    kill: (signal) => child.kill(signal),
    ended,
    [Symbol.asyncDispose]: () => killAndWait(child, ended),
  };
}
