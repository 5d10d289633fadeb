/**
 * Records with the real program until what a test waits for has happened, however long a busy
 * machine takes, and then stops it as Ctrl-C does.
 *
 * @module
 */
import { TextLineStream } from "./text_lines.ts";

/** A line of the log, as JSON. */
export type LogLine = Readonly<Record<string, unknown>>;

/** What a recording said. */
export interface Captured {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly lines: readonly LogLine[];
}

/** A recording that has not got there by then never will. */
const LIMIT_MS = 180_000;

/**
 * Runs `capture --json`, stops it once `enough` holds of the lines so far, and gives all it said.
 *
 * @throws with its output if it ends before, or after three minutes
 */
export async function captureUntil(
  command: Deno.Command,
  enough: (lines: readonly LogLine[]) => boolean,
): Promise<Captured> {
  const child = command.spawn();
  const lines: LogLine[] = [];
  let stdout = "";
  let stopped = false;
  const limit = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
  const read = async () => {
    const text = child.stdout.pipeThrough(new TextDecoderStream());
    for await (const line of text.pipeThrough(new TextLineStream())) {
      stdout += line + "\n";
      if (!line.startsWith("{")) continue;
      lines.push(JSON.parse(line));
      if (stopped || !enough(lines)) continue;
      stopped = true;
      child.kill("SIGINT");
    }
  };
  const [{ code }, stderr] = await Promise.all([
    child.status,
    new Response(child.stderr).text(),
    read(),
  ]);
  clearTimeout(limit);
  if (!stopped) throw new Error(`the recording ended by itself (${code}):\n${stdout}${stderr}`);
  return { code, stdout, stderr, lines };
}

/** Whether each of so many cameras has so many finished clips, with so many pictures in all. */
export const haveFinished = (
  { cameras, clips = 1, pictures = 1 }: {
    readonly cameras: number;
    readonly clips?: number;
    readonly pictures?: number;
  },
) =>
(lines: readonly LogLine[]): boolean => {
  const finished = Map.groupBy(
    lines.filter(({ event }) => event === "clip-finished"),
    ({ category }) => category,
  );
  return finished.size >= cameras &&
    [...finished.values()].every((own) =>
      own.length >= clips && own.reduce((sum, { frames }) => sum + Number(frames), 0) >= pictures
    );
};

/** Whether so many cameras are being recorded: each has its first picture in a clip. */
export const areRecording = (cameras: number) => (lines: readonly LogLine[]): boolean =>
  new Set(lines.filter(({ event }) => event === "recording").map(({ category }) => category))
    .size >= cameras;
