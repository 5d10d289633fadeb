/**
 * What the tests of the sources stand on: a network in memory that answers as a test says, pictures
 * of a few bytes, a log that can be read, and a way to pull units while a fake clock runs.
 *
 * @module
 */
import type { SourceContext } from "../../core/sources/context.ts";
import type { AccessUnit, Log } from "../../core/types.ts";
import type { FakeClock } from "../support/fake_clock.ts";

/** A whole, very small JPEG; `mark` makes it different from others. */
export function tinyJpeg(
  mark: number,
  { widthPx = 16, heightPx = 8 }: { widthPx?: number; heightPx?: number } = {},
): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(
    ...[0xff, 0xd8],
    ...[0xff, 0xc0, 0, 11, 8, heightPx >> 8, heightPx & 255, widthPx >> 8, widthPx & 255, 1],
    ...[1, 0x11, 0],
    ...[0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0],
    ...[mark & 0x7f, (mark >> 7) & 0x7f, 0xff, 0xd9],
  );
}

/** A JPEG as an answer. */
export function picture(mark: number, headers: Record<string, string> = {}): Response {
  return new Response(tinyJpeg(mark), { headers: { "content-type": "image/jpeg", ...headers } });
}

/** A request as the network saw it. */
export interface Seen {
  readonly url: URL;
  readonly method: string;
  readonly headers: Headers;
  readonly body: string;
  readonly signal: AbortSignal;
}

/** Answers a request. */
export type Answerer = (seen: Seen) => Response | Promise<Response>;

/** A network in memory. */
export interface FakeNetwork {
  readonly fetch: typeof fetch;
  readonly seen: readonly Seen[];
}

/** A network on which `answer` is everything. Like the real one it lets go when aborted. */
export function createNetwork(answer: Answerer): FakeNetwork {
  const seen: Seen[] = [];
  return {
    seen,
    fetch: async (input, init) => {
      const request = new Request(input, init);
      const signal = init?.signal ?? new AbortController().signal;
      signal.throwIfAborted();
      const one: Seen = {
        url: new URL(request.url),
        method: request.method,
        headers: new Headers(init?.headers),
        body: await request.text(),
        signal,
      };
      seen.push(one);
      const aborted = Promise.withResolvers<never>();
      const abort = () => aborted.reject(signal.reason);
      signal.addEventListener("abort", abort, { once: true });
      try {
        return await Promise.race([answer(one), aborted.promise]);
      } finally {
        signal.removeEventListener("abort", abort);
      }
    },
  };
}

/** An answer that never comes. */
export const never = (): Promise<Response> => new Promise(() => {});

/** A log that keeps what it is told, `level: message`. */
export function createTestLog(): Log & { readonly lines: readonly string[] } {
  const lines: string[] = [];
  const at = (level: string) => (message: string) => {
    lines.push(`${level}: ${message}`);
  };
  return { lines, debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** A context with fake time and, where given, a fake network. */
export function testContext(
  clock: FakeClock,
  network?: FakeNetwork,
): SourceContext & { readonly log: ReturnType<typeof createTestLog> } {
  return {
    clock,
    log: createTestLog(),
    random: () => 0.5,
    ...(network ? { fetch: network.fetch } : {}),
  };
}

/** Lets fake time run, `stepMs` at a time, until the promise is settled. */
export async function settled<T>(
  promise: PromiseLike<T>,
  clock: FakeClock,
  { stepMs = 10, maxMs = 600_000 }: { stepMs?: number; maxMs?: number } = {},
): Promise<T> {
  let open = true;
  promise.then(() => open = false, () => open = false);
  for (let ms = 0; open; ms += stepMs) {
    if (ms > maxMs) throw new Error(`nothing came of it within ${maxMs} ms of fake time`);
    await clock.advance(stepMs);
  }
  return await promise;
}

/** The next units, with fake time running. */
export async function pull(
  units: AsyncIterable<AccessUnit>,
  { count, clock, stepMs }: { count: number; clock: FakeClock; stepMs?: number },
): Promise<AccessUnit[]> {
  const iterator = units[Symbol.asyncIterator]();
  const pulled: AccessUnit[] = [];
  while (pulled.length < count) {
    const { done, value } = await settled(
      iterator.next(),
      clock,
      stepMs === undefined ? {} : { stepMs },
    );
    if (done) break;
    pulled.push(value);
  }
  return pulled;
}

/** The error that a promise rejects with. */
export async function errorOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
    throw new TypeError(`rejected with what is no error: ${String(error)}`);
  }
  throw new Error("expected it to fail, but it did not");
}
