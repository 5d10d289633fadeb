/**
 * Cases about stopping: an abort, a cut and a close end a put soon and leave nothing half done.
 *
 * @module
 */
import { systemClock } from "../../core/clock.ts";
import { sinkErrorKind } from "../../core/types.ts";
import { type Bench, brief, within } from "../bench.ts";
import { testClip } from "../clips.ts";
import {
  fail,
  type KitCase,
  LARGE_BYTES,
  needsAnswers,
  needsBytes,
  needsHttp,
  needsNetwork,
  notApplicable,
} from "./case.ts";

const ABORTS = [["abort-start", 0], ["abort-middle", 50], ["abort-end", 99]] as const;

/** In the order in which they run. */
export const stopCases: readonly KitCase[] = [
  {
    id: "aborted-before",
    title: "a put whose signal is aborted already does nothing",
    why: "Camsink is shutting down: whatever is begun now is cut in the middle.",
    fix: "begin put with options.signal.throwIfAborted()",
    run: async (bench) => {
      const before = await bench.names();
      const requests = bench.http?.requests.length;
      const { result } = await bench.put(testClip(10), {
        signal: AbortSignal.abort(new Error("stop")),
        limitMs: bench.soonMs,
      });
      if (result !== undefined) fail(`put said "${result.state}" though it was aborted before`);
      if ((await bench.added(before))?.length) fail("something was stored though it was aborted");
      if (bench.http?.requests.length !== requests) {
        fail("a request was made though it was aborted");
      }
    },
  },
  ...ABORTS.map(([id, percent]): KitCase => ({
    id,
    title: `an abort at ${percent} % ends the put and leaves nothing under the key; the next try ` +
      "stores it",
    why:
      "a shutdown or a stall aborts puts in the middle. A half clip under the key would be taken " +
      "for the whole, and a put that goes on holds the shutdown up.",
    fix:
      "give options.signal to every request (fetch(url, { signal })), and store so that the key " +
      "appears only when all bytes are there",
    run: async (bench) => {
      needsBytes(bench);
      for (const bytes of [2 ** 20, LARGE_BYTES]) {
        const before = await bench.names();
        const abort = new AbortController();
        const clip = testClip(bytes, {
          onRead: (read) => {
            if (read >= bytes * percent / 100) abort.abort(new Error("stop"));
          },
        });
        const { result } = await bench.put(clip, { signal: abort.signal, limitMs: bench.soonMs });
        if (result !== undefined) {
          fail(
            `put went on after the abort at ${percent} % of ${bytes} bytes and said ` +
              `"${result.state}"; expected it to reject`,
          );
        }
        if (await bench.stat(clip.key) !== undefined) {
          fail(
            `stat finds something under the key after the abort at ${percent} % of ${bytes} bytes`,
          );
        }
        const whole = testClip(bytes, { key: clip.key });
        await bench.mustPutAgain(whole);
        await bench.expectOnly(before, whole);
      }
    },
  })),
  {
    id: "abort-while-silent",
    title: "an abort while the server is silent ends the put",
    why:
      "a server that hangs is the commonest of all faults; without an end the delivery of this " +
      "sink stands still for ever.",
    fix: "give options.signal to the request and to every wait for an answer",
    run: async (bench) => {
      needsNetwork(bench);
      await bench.mustPut(testClip(10)); // so that whatever is made once is there
      bench.fail({ kind: "silence" });
      bench.tcp?.fail({ kind: "silence" });
      const { seen } = bench;
      const abort = new AbortController();
      const put = bench.begin(testClip(1000), { signal: abort.signal });
      await bench.reached(put, seen);
      abort.abort(new Error("stop"));
      const { result } = await within(
        bench.soonMs,
        "put, aborted while the server was silent,",
        put,
      );
      bench.heal();
      if (result !== undefined) fail(`put said "${result.state}" of a server that said nothing`);
      await bench.mustPutAgain(testClip(20)); // as delivery does, without opening it anew
    },
  },
  {
    id: "resume",
    title: "after a cut in the middle the next try, by a new process, ends with one whole object",
    why: "lines break. What the first try left behind must not end up in the clip or lie around.",
    fix:
      "send again from the start, or from what the store itself says that it has; replace what " +
      "an earlier try left",
    run: async (bench) => {
      needsNetwork(bench);
      needsBytes(bench);
      const before = await bench.names();
      const clip = testClip(LARGE_BYTES, { seed: 4 });
      let passed = 0;
      if (bench.http) {
        bench.http.decide = ({ announcedBytes, headers }) => {
          const expects = announcedBytes ?? ("transfer-encoding" in headers ? LARGE_BYTES : 0);
          if (expects < 100_000) return undefined;
          const cutAt = LARGE_BYTES / 2 - passed;
          passed += expects;
          return cutAt >= 0 && cutAt < expects
            ? { kind: "reset", afterBytes: Math.floor(cutAt) }
            : undefined;
        };
      }
      bench.tcp?.fail({ kind: "cut", afterBytes: LARGE_BYTES / 2 });
      await bench.mustFail(clip, "retry");
      bench.heal();
      await bench.restarted();
      const sentBefore = sentBytes(bench);
      await bench.mustPutAgain(clip);
      await bench.expectOnly(before, clip);
      const again = sentBytes(bench) - sentBefore;
      if (again < 0.9 * LARGE_BYTES) {
        bench.note(`resumes: sent ${(again / 2 ** 20).toFixed(1)} MiB of 9 MiB again`);
      }
    },
  },
  {
    id: "lost-answer",
    title: "an answer that is lost, whichever it is, ends in one object at the next try",
    why:
      "the clip is stored, the answer is not heard: exactly this happens when a line breaks, and " +
      "it must not double or lose the clip.",
    fix: 'throw "retry" when no answer came, and recognise the own clip at the next try',
    run: async (bench) => {
      needsAnswers(bench);
      const http = needsHttp(bench);
      const from = http.requests.length;
      await bench.mustPut(testClip(1000));
      const count = Math.min(12, http.requests.length - from);
      for (let lost = 0; lost < count; lost++) {
        const before = await bench.names();
        const clip = testClip(1000 + lost);
        let turn = 0;
        http.decide = () => turn++ === lost ? { kind: "lose-answer" } : undefined;
        const { result, error } = await bench.put(clip);
        bench.heal();
        if (result === undefined && sinkErrorKind(error) !== "retry") {
          fail(
            `the answer to request ${lost + 1} of ${count} was lost, and put failed with the ` +
              `kind "${sinkErrorKind(error)}" (${brief(error)}); expected "retry"`,
          );
        }
        const { error: second } = await bench.put(clip, { attempt: 2 });
        if (second !== undefined) {
          fail(
            `after the answer to request ${lost + 1} of ${count} was lost, the next try failed: ` +
              brief(second),
          );
        }
        await bench.expectOnly(before, clip);
      }
    },
  },
  {
    id: "bounded-memory",
    title: "a slow server slows the reading of the clip: memory stays bounded",
    why: "clips have hundreds of MB and several are under way: a sink that reads ahead takes the " +
      "memory of a small machine, and the recording with it.",
    fix:
      "send clip.open() as a stream (fetch: body: clip.open()) or block by block; never collect it",
    run: async (bench) => {
      needsNetwork(bench);
      needsBytes(bench);
      const passed = sentBytes(bench);
      bench.fail({ kind: "hold", afterBytes: 2 ** 20 });
      bench.tcp?.fail({ kind: "hold", afterBytes: 2 ** 20 });
      const abort = new AbortController();
      const clip = testClip(200 * 2 ** 20);
      const put = bench.begin(clip, { signal: abort.signal });
      let isOver = false;
      const over = () => void (isOver = true);
      put.then(over, over);
      // One that reads all of it first sends nothing until then, however long that takes.
      while (!isOver && sentBytes(bench) - passed < 2 ** 16) await systemClock.sleep(20);
      await quiet(() => clip.pulledBytes + sentBytes(bench));
      const ahead = clip.pulledBytes - (sentBytes(bench) - passed);
      abort.abort(new Error("stop"));
      bench.heal();
      const ended = await put.then(() => undefined, (error: unknown) => error);
      if (ahead > READ_AHEAD_BYTES) {
        fail(
          `${
            Math.round(ahead / 2 ** 20)
          } MiB of the clip had been read while the server had taken ` +
            `${Math.round((clip.pulledBytes - ahead) / 2 ** 20)} MiB; expected at most ` +
            `${READ_AHEAD_BYTES / 2 ** 20} MiB ahead`,
        );
      }
      if (ended !== undefined) throw ended;
    },
  },
  {
    id: "close-in-flight",
    title: "close ends, also while a put is under way",
    why:
      "Camsink closes sinks when it stops; one that never closes makes a service manager kill the " +
      "whole recording.",
    fix: "let close() abort what is under way and wait for nothing that the server has to do",
    run: async (bench) => {
      const sink = await bench.sink();
      if (sink.close === undefined) notApplicable("this sink has no close");
      await bench.mustPut(testClip(10));
      const abort = new AbortController();
      bench.fail({ kind: "silence" });
      bench.tcp?.fail({ kind: "silence" });
      const { seen } = bench;
      const read = Promise.withResolvers<void>();
      const put = bench.begin(testClip(1000, { onRead: () => read.resolve() }), {
        signal: abort.signal,
      });
      await (bench.url === "" ? Promise.race([read.promise, put]) : bench.reached(put, seen));
      try {
        await within(
          bench.soonMs,
          "close, called while a put was under way,",
          Promise.resolve(sink.close()),
        );
      } finally {
        abort.abort(new Error("stop"));
      }
      await within(bench.soonMs, "put, closed and aborted,", put);
      bench.heal();
      await bench.renew();
    },
  },
];

/** What the kernel holds on the way, and a block or two of the sink's. */
const READ_AHEAD_BYTES = 48 * 2 ** 20;

/** Waits until a figure has stood still for half a second. */
async function quiet(figure: () => number): Promise<void> {
  let last = -1;
  for (let still = 0; still < 10;) {
    const now = figure();
    still = now === last ? still + 1 : 0;
    last = now;
    await systemClock.sleep(50);
  }
}

function sentBytes({ http, tcp }: Bench): number {
  return http?.requests.reduce((sum, { bodyBytes }) => sum + bodyBytes, 0) ??
    tcp?.connections.reduce((sum, { sentBytes }) => sum + sentBytes, 0) ?? 0;
}
