/**
 * Delivery under a clock that stands still until told otherwise: order, pauses, parking, the breaker,
 * limits, and that nothing is lost whatever the sink does.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createDelivery, type Delivery, type DeliveryOptions } from "../../core/delivery/mod.ts";
import type { SinkStatus } from "../../core/status/board.ts";
import { type Secret, SinkError } from "../../core/types.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import { FakeSink, FakeSpool, freshStatus, keepLog, makeClip } from "./fakes.ts";

interface Stage {
  readonly clock: FakeClock;
  readonly spool: FakeSpool;
  readonly sink: FakeSink;
  readonly status: SinkStatus;
  readonly log: ReturnType<typeof keepLog>;
  readonly delivery: Delivery;
  stop(): Promise<void>;
}

const MINUTE_MS = 60_000;

async function play(
  test: (stage: Stage) => Promise<void>,
  options: Partial<DeliveryOptions> = {},
  shared: { clock?: FakeClock; spool?: FakeSpool; name?: string } = {},
): Promise<void> {
  const { clock = createFakeClock(), spool = new FakeSpool(), name = "sink" } = shared;
  const sink = new FakeSink(() => clock.monotonic());
  const status = freshStatus(name);
  const log = keepLog();
  const delivery = createDelivery({
    name,
    sink,
    spool,
    clock,
    status,
    log,
    random: () => 0.999_999, // the longest pause of each step: 1 s, 2 s, 4 s …
    ...options,
  });
  const end = new AbortController();
  const running = delivery.run(end.signal);
  const stop = async () => {
    end.abort();
    await clock.advance(10_000);
    await running;
  };
  try {
    await test({ clock, spool, sink, status, log, delivery, stop });
  } finally {
    await stop();
  }
}

const clips = (count: number, bytes?: number) =>
  Array.from({ length: count }, (_, index) => makeClip(index, bytes));

Deno.test("clips go oldest first, also when a newer one came first", () =>
  play(async ({ spool, sink, clock }) => {
    const [a, b, c] = clips(3);
    spool.add(c!, a!, b!);
    await clock.advance(0);
    assert.deepEqual(sink.puts.map(({ key }) => key), [a!.key, b!.key, c!.key]);
    assert.equal(spool.backlog("sink").clips, 0);
  }, { concurrency: 1 }));

Deno.test("no more clips are on their way than the concurrency allows", () =>
  play(async ({ spool, sink, clock }) => {
    sink.behave = () => clock.sleep(1000).then(() => undefined);
    spool.add(...clips(20));
    await clock.advance(MINUTE_MS);
    assert.equal(sink.mostUnderWay, 4);
    assert.equal(sink.objects.size, 20);
  }));

Deno.test("a clip finished later is delivered without any polling", () =>
  play(async ({ spool, sink, clock }) => {
    await clock.advance(MINUTE_MS);
    assert.equal(clock.sleepers, 0);
    spool.add(makeClip(1));
    await clock.advance(0);
    assert.equal(sink.objects.size, 1);
  }));

Deno.test("pauses double from 1 s to 60 s and go on for ever", () =>
  play(async ({ spool, sink, clock }) => {
    sink.behave = () => new Error("no route to host");
    spool.add(makeClip(0));
    await clock.advance(60 * MINUTE_MS);
    const gaps = sink.puts.slice(1).map(({ atMs }, index) =>
      Math.round((atMs - sink.puts[index]!.atMs) / 1000)
    );
    assert.deepEqual(gaps.slice(0, 8), [1, 2, 4, 8, 16, 32, 60, 60]);
    assert.ok(gaps.length > 60, `${gaps.length} tries in an hour`);
    sink.behave = () => undefined;
    await clock.advance(MINUTE_MS);
    assert.equal(spool.backlog("sink").clips, 0);
  }));

Deno.test("Retry-After is honoured to within a second", () =>
  play(async ({ spool, sink, clock }) => {
    let failed = false;
    sink.behave = () => {
      if (failed) return undefined;
      failed = true;
      return new SinkError("retry", "busy", { retryAfterMs: 37_000 });
    };
    spool.add(makeClip(0));
    await clock.advance(5 * MINUTE_MS);
    const waitedMs = sink.puts[1]!.atMs - sink.puts[0]!.atMs;
    assert.ok(waitedMs >= 37_000 && waitedMs <= 38_000, `${waitedMs} ms`);
  }));

Deno.test("an outage of 24 hours loses nothing, drains oldest first, and is logged once", () =>
  play(async ({ spool, sink, clock, log, status }) => {
    sink.behave = () => new SinkError("retry", "connection refused");
    for (let minute = 0; minute < 24 * 60; minute += 10) {
      spool.add(makeClip(minute));
      await clock.advance(10 * MINUTE_MS);
    }
    assert.equal(status.state, "retrying");
    assert.equal(status.backlogClips, 144);
    sink.behave = () => undefined;
    const before = sink.puts.length;
    await clock.advance(2 * MINUTE_MS);
    const order = sink.puts.slice(before).map(({ key }) => key);
    assert.equal(sink.objects.size, 144);
    const disorder = order.slice(4).filter((key, index) => key < order[index + 3]!).length;
    assert.ok(disorder <= 5, `${disorder} clips out of order`);
    assert.equal(log.events("sink-retrying"), 1);
    assert.equal(log.events("sink-recovered"), 1);
    assert.equal(status.state, "idle");
    assert.equal(status.reason, undefined);
  }));

Deno.test("the line of a sink that is retried names the sink", () =>
  play(
    async ({ spool, sink, clock, log }) => {
      sink.behave = () => new Error("down");
      spool.add(...clips(3));
      await clock.advance(10 * MINUTE_MS);
      const line = log.lines.find(({ event }) => event === "sink-retrying");
      assert.equal(line?.sink, "store");
    },
    {},
    { name: "store" },
  ));

Deno.test("waiting for its turn is no stall: the clock starts when the sink could begin", () => {
  const place = Promise.withResolvers<void>();
  return play(
    async ({ spool, sink, clock, status }) => {
      spool.add(...clips(1));
      await clock.advance(10 * MINUTE_MS);
      assert.equal(sink.puts.length, 0);
      assert.equal(status.state === "retrying", false);
      sink.behave = () => new Promise<undefined>(() => {});
      place.resolve();
      await clock.advance(29_000);
      assert.equal(status.state === "retrying", false);
      sink.behave = () => undefined;
      await clock.advance(2 * MINUTE_MS);
      assert.equal(sink.objects.size, 1, "cut off after 30 s with its place, and tried again");
    },
    { turn: () => place.promise },
  );
});

Deno.test("in an outage one pause holds back all clips", () =>
  play(async ({ spool, sink, clock }) => {
    sink.behave = () => new Error("down");
    spool.add(...clips(500));
    await clock.advance(10 * MINUTE_MS);
    assert.ok(sink.puts.length < 60, `${sink.puts.length} tries in ten minutes`);
  }));

Deno.test("after 20 failures in a row only one clip at a time probes the sink", () =>
  play(async ({ spool, sink, clock }) => {
    sink.behave = () => clock.sleep(10).then(() => Promise.reject(new Error("down")));
    spool.add(...clips(50));
    await clock.advance(3 * MINUTE_MS);
    const before = sink.puts.length;
    assert.ok(before >= 20);
    await clock.advance(5 * MINUTE_MS);
    const probes = sink.puts.length - before;
    assert.ok(probes >= 4 && probes <= 6, `${probes} probes in five minutes`);
    sink.behave = () => undefined;
    await clock.advance(MINUTE_MS);
    assert.equal(sink.objects.size, 50);
  }));

Deno.test("a clip that fails alone does not hold up the others", () =>
  play(async ({ spool, sink, clock, log }) => {
    const [bad] = clips(1);
    sink.behave = ({ key }) => key === bad!.key ? new Error("500 for this one") : undefined;
    spool.add(...clips(30));
    await clock.advance(10_000);
    assert.equal(sink.objects.size, 29);
    await clock.advance(60 * MINUTE_MS);
    const tries = sink.puts.filter(({ key }) => key === bad!.key).length;
    assert.ok(tries >= 55 && tries <= 75, `${tries} tries of the bad clip in an hour`);
    assert.equal(log.events("sink-retrying"), 1);
  }));

Deno.test("a clip that fails alone does not hold up the others even one at a time", () =>
  play(async ({ spool, sink, clock }) => {
    const [bad] = clips(1);
    sink.behave = ({ key }) => key === bad!.key ? new Error("500 for this one") : undefined;
    spool.add(...clips(30));
    await clock.advance(10 * MINUTE_MS);
    assert.equal(sink.objects.size, 29);
  }, { concurrency: 1 }));

Deno.test("20 % random failures: every clip arrives, as one object each", async () => {
  let state = 12345;
  const random = () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
  await play(async ({ spool, sink, clock, log }) => {
    sink.behave = (clip) => {
      const dice = random();
      if (dice < 0.05) {
        sink.objects.set(clip.key, clip.sha256); // stored, but the answer is lost
        return new Error("connection reset");
      }
      if (dice < 0.15) return new SinkError("retry", "503 ServerBusy");
      if (dice < 0.2) return new SinkError("retry", "429", { retryAfterMs: 2000 });
      return undefined;
    };
    spool.add(...clips(1000));
    await clock.advance(60 * MINUTE_MS);
    assert.equal(spool.backlog("sink").clips, 0);
    assert.equal(sink.objects.size, 1000);
    assert.equal(spool.receipts.size, 1000);
    assert.ok(log.lines.filter(({ level }) => level !== "debug").length < 20);
  }, { random });
});

Deno.test("a refused credential parks the sink, with a probe every five minutes", () =>
  play(async ({ spool, sink, clock, status, log }) => {
    sink.behave = () => new SinkError("auth", "403: the SAS has expired");
    spool.add(...clips(10));
    await clock.advance(0);
    assert.equal(sink.puts.length, 4);
    assert.equal(status.state, "parked");
    assert.match(status.reason ?? "", /SAS has expired/);
    await clock.advance(20 * MINUTE_MS);
    assert.equal(sink.puts.length, 8);
    assert.equal(log.events("sink-parked"), 1);
    sink.behave = () => undefined;
    await clock.advance(5 * MINUTE_MS);
    assert.equal(sink.objects.size, 10);
    assert.equal(log.events("sink-recovered"), 1);
  }));

Deno.test("a changed credential is noticed within ten seconds, without a restart", async () => {
  let value = "old";
  const secret: Secret = { reference: "env:SAS", reveal: () => Promise.resolve(value) };
  await play(async ({ spool, sink, clock }) => {
    sink.behave = () => value === "old" ? new SinkError("auth", "403") : undefined;
    spool.add(...clips(3));
    await clock.advance(MINUTE_MS);
    assert.equal(sink.objects.size, 0);
    assert.equal(sink.puts.length, 3);
    value = "new";
    await clock.advance(10_000);
    assert.equal(sink.objects.size, 3);
  }, { secrets: [secret] });
});

Deno.test("a full sink is probed every minute and gets everything when there is room", () =>
  play(async ({ spool, sink, clock, status }) => {
    sink.behave = () => new SinkError("full", "no space is left");
    spool.add(...clips(5));
    await clock.advance(3.5 * MINUTE_MS);
    assert.equal(sink.puts.length, 7);
    assert.equal(status.state, "parked");
    sink.behave = () => undefined;
    await clock.advance(MINUTE_MS);
    assert.equal(sink.objects.size, 5);
  }));

Deno.test("a clip that the sink will never take is put aside and the rest goes on", () =>
  play(async ({ spool, sink, clock, status, log }) => {
    const [bad] = clips(1);
    sink.behave = ({ key }) =>
      key === bad!.key ? new SinkError("permanent", "413: too large") : undefined;
    spool.add(...clips(5));
    await clock.advance(0);
    assert.deepEqual([...spool.quarantined], [[`sink ${bad!.key}`, "413: too large"]]);
    assert.equal(sink.objects.size, 4);
    assert.equal(status.clipsQuarantined, 1);
    assert.equal(log.events("clip-quarantined"), 1);
  }));

Deno.test("the reason of a clip that is put aside has no secret in it, whole or half", () => {
  const secret = "a-long-secret-that-a-server-threw-back";
  return play(async ({ spool, sink, clock }) => {
    const [bad, long] = clips(2);
    // The second one's stands where the reason is cut off.
    sink.behave = ({ key }) =>
      key === bad!.key
        ? new SinkError("permanent", `400: it said ${secret}!`)
        : key === long!.key
        ? new SinkError("permanent", `400: ${"x".repeat(480)} ${secret}`)
        : undefined;
    spool.add(...clips(5));
    await clock.advance(0);
    const reasons = [...spool.quarantined.values()];
    assert.equal(reasons.length, 2);
    assert.equal(reasons[0], "400: it said ***!");
    assert.match(reasons[1]!, /^400: x+/);
    assert.doesNotMatch(JSON.stringify(reasons), /a-long-s/); // the log takes out its own
  }, { redact: (text) => text.replaceAll(secret, "***") });
});

Deno.test("a sink that refuses one clip after the other is parked, not fed all clips", () =>
  play(async ({ spool, sink, clock, status }) => {
    sink.behave = () => new SinkError("permanent", "400: bad request");
    spool.add(...clips(100));
    await clock.advance(60 * MINUTE_MS);
    assert.equal(spool.quarantined.size, 3);
    assert.equal(status.state, "parked");
    sink.behave = () => undefined;
    await clock.advance(6 * MINUTE_MS);
    assert.equal(sink.objects.size, 97);
  }));

Deno.test("many bad clips in a row do not park a good sink for ever", () =>
  play(async ({ spool, sink, clock }) => {
    const bad = new Set(clips(8).map(({ key }) => key));
    sink.behave = ({ key }) => bad.has(key) ? new SinkError("permanent", "413") : undefined;
    spool.add(...clips(50));
    await clock.advance(120 * MINUTE_MS);
    assert.equal(sink.objects.size, 42);
  }, { concurrency: 1 }));

Deno.test("where another object has the key, the clip is stored beside it, once, with an alert", () =>
  play(async ({ spool, sink, clock, log }) => {
    const clip = makeClip(0);
    sink.objects.set(clip.key, "another hash");
    sink.behave = ({ key, sha256 }) =>
      (sink.objects.get(key) ?? sha256) === sha256
        ? undefined
        : new SinkError("conflict", "already exists with other content");
    spool.add(clip);
    await clock.advance(0);
    const storedAs = `${clip.key.slice(0, -4)}-${clip.sha256.slice(0, 12)}.mp4`;
    assert.equal(sink.objects.get(clip.key), "another hash");
    assert.equal(sink.objects.get(storedAs), clip.sha256);
    assert.equal(spool.receipts.get(`sink ${clip.key}`)?.storedAs, storedAs);
    assert.equal(log.events("conflict"), 1);
  }));

Deno.test("a conflict beside the conflict puts the clip aside", () =>
  play(async ({ spool, sink, clock }) => {
    sink.behave = () => new SinkError("conflict", "already exists with other content");
    spool.add(makeClip(0));
    await clock.advance(MINUTE_MS);
    assert.equal(sink.puts.length, 2);
    assert.equal(spool.quarantined.size, 1);
  }));

Deno.test("the receipt says what was stored", () =>
  play(async ({ spool, sink, clock }) => {
    const clip = { ...makeClip(0), md5: "0123" };
    sink.behave = () => ({ state: "stored", url: "https://x/y", etag: "e" });
    spool.add(clip);
    await clock.advance(0);
    assert.deepEqual(spool.receipts.get(`sink ${clip.key}`), {
      state: "stored",
      url: "https://x/y",
      etag: "e",
      bytes: clip.bytes,
      sha256: clip.sha256,
      md5: "0123",
    });
  }));

Deno.test("a receipt that cannot be written is not a delivery: the clip is offered again", () =>
  play(async ({ spool, sink, clock, status }) => {
    spool.receiptErrors = [new Error("disk full")];
    spool.add(makeClip(0));
    await clock.advance(0);
    assert.equal(status.clipsDelivered, 0);
    assert.equal(spool.backlog("sink").clips, 1);
    await clock.advance(5000);
    assert.equal(status.clipsDelivered, 1);
    assert.equal(sink.objects.size, 1);
    assert.equal([...spool.receipts.values()][0]?.state, "already-there");
  }));

Deno.test("a put without progress for 30 s is cut off; one that crawls is not", () =>
  play(async ({ spool, sink, clock }) => {
    let crawl = false;
    let cutAtMs = 0;
    sink.behave = async (clip, { signal, progress }) => {
      if (crawl) {
        for (let sent = 0; sent < clip.bytes; sent += 100) {
          await clock.sleep(29_000, { signal });
          progress(sent + 100);
        }
        return undefined;
      }
      progress(10);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      cutAtMs = clock.monotonic();
      crawl = true;
      throw signal.reason;
    };
    spool.add(makeClip(0));
    await clock.advance(30_000);
    assert.equal(cutAtMs, 30_000);
    await clock.advance(10 * MINUTE_MS);
    assert.equal(sink.objects.size, 1);
    assert.equal(sink.puts.length, 2);
  }));

Deno.test("a sink that repeats the same figure makes no progress", () =>
  play(async ({ spool, sink, clock }) => {
    sink.behave = async (_clip, { signal, progress }) => {
      while (!signal.aborted) {
        progress(7);
        await clock.sleep(1000, { signal });
      }
      throw signal.reason;
    };
    spool.add(makeClip(0));
    await clock.advance(32_000);
    assert.equal(sink.puts.length, 2);
  }));

Deno.test("a sink that ignores its abort is left behind, and said so", () =>
  play(async ({ spool, sink, clock, log }) => {
    sink.behave = () => new Promise<undefined>(() => {});
    spool.add(makeClip(0));
    await clock.advance(32_000);
    assert.equal(log.events("sink-left-behind"), 1);
    await clock.advance(1000);
    assert.equal(sink.puts.length, 2);
  }));

Deno.test("a slow sink does not touch a fast one", async () => {
  const clock = createFakeClock();
  const spool = new FakeSpool();
  await play(
    async (slow) => {
      slow.sink.behave = () => clock.sleep(600_000).then(() => undefined);
      await play(
        async (fast) => {
          for (const clip of clips(30)) {
            spool.add(clip);
            await clock.advance(1000);
            assert.equal(spool.backlog("fast").clips, 0);
          }
          assert.equal(fast.sink.objects.size, 30);
          assert.equal(spool.backlog("slow").clips, 30);
        },
        {},
        { clock, spool, name: "fast" },
      );
    },
    { stallMs: 3_600_000 },
    { clock, spool, name: "slow" },
  );
});

Deno.test("a restart begins where the receipts end", async () => {
  const clock = createFakeClock();
  const spool = new FakeSpool();
  spool.add(...clips(10));
  let stored = 0;
  await play(
    async ({ sink, stop }) => {
      sink.behave = () => ++stored > 4 ? new Promise<undefined>(() => {}) : undefined;
      await clock.advance(0);
      await stop();
    },
    {},
    { clock, spool },
  );
  assert.equal(spool.receipts.size, 4);
  await play(
    async ({ sink }) => {
      await clock.advance(0);
      assert.deepEqual(sink.puts.map(({ key }) => key), clips(10).slice(4).map(({ key }) => key));
    },
    {},
    { clock, spool },
  );
  assert.equal(spool.receipts.size, 10);
});

Deno.test("stopping is no failure: nothing is logged and no clip is lost", () =>
  play(async ({ spool, sink, clock, log, stop, status }) => {
    sink.behave = (_clip, { signal }) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    spool.add(...clips(3));
    await clock.advance(0);
    await stop();
    assert.deepEqual(log.lines, []);
    assert.equal(spool.backlog("sink").clips, 3);
    assert.equal(status.state, "idle");
  }));

Deno.test("drain waits for the last clip", () =>
  play(async ({ spool, sink, clock, delivery }) => {
    sink.behave = () => clock.sleep(3000).then(() => undefined);
    spool.add(...clips(8));
    const drained = delivery.drain({
      timeoutMs: MINUTE_MS,
      signal: new AbortController().signal,
    });
    await clock.advance(7000);
    assert.deepEqual(await drained, { left: 0 });
  }));

Deno.test("drain does not wait for a pause that an earlier failure meant", () =>
  play(async ({ spool, sink, clock, delivery }) => {
    sink.behave = () => new Error("down");
    spool.add(makeClip(0));
    await clock.advance(20 * MINUTE_MS);
    sink.behave = () => undefined;
    const drained = delivery.drain({ timeoutMs: 1000, signal: new AbortController().signal });
    await clock.advance(0);
    assert.deepEqual(await drained, { left: 0 });
  }));

Deno.test("drain ends at its timeout and tells what is left", () =>
  play(async ({ spool, sink, clock, delivery }) => {
    sink.behave = () => new Error("down");
    spool.add(...clips(3));
    const drained = delivery.drain({ timeoutMs: 5000, signal: new AbortController().signal });
    await clock.advance(5000);
    assert.deepEqual(await drained, { left: 3 });
  }));

Deno.test("drain gives up at once on a parked sink, after one more probe", () =>
  play(async ({ spool, sink, clock, delivery }) => {
    sink.behave = () => new SinkError("auth", "403");
    spool.add(...clips(3));
    await clock.advance(MINUTE_MS);
    const before = sink.puts.length;
    const drained = delivery.drain({ timeoutMs: MINUTE_MS, signal: new AbortController().signal });
    await clock.advance(0);
    assert.deepEqual(await drained, { left: 3 });
    assert.equal(sink.puts.length, before + 1);
  }));

Deno.test("the daily limit pauses the sink until midnight UTC, is said once, and is never passed", () =>
  play(async ({ spool, sink, clock, status, log }) => {
    spool.add(...clips(25, 1000));
    await clock.advance(60 * MINUTE_MS);
    assert.equal(sink.objects.size, 10);
    assert.equal(status.state, "parked");
    assert.equal(log.events("daily-limit"), 1);
    await clock.advance(24 * 60 * MINUTE_MS);
    assert.equal(sink.objects.size, 20);
    assert.equal(log.events("daily-limit"), 2);
    await clock.advance(24 * 60 * MINUTE_MS);
    assert.equal(sink.objects.size, 25);
    assert.equal(status.state, "idle");
  }, { perDayBytes: 10_500 }));

Deno.test("a limit that is reached is said once a day, also where the clips that wait go and new ones come", () =>
  play(async ({ spool, clock, log }) => {
    for (let minute = 0; minute < 5; minute++) {
      spool.clips.length = 0;
      spool.add(); // news: nothing waits
      await clock.advance(MINUTE_MS);
      spool.add(makeClip(minute, 8000));
      await clock.advance(MINUTE_MS);
    }
    assert.equal(log.events("daily-limit"), 1);
  }, { perDayBytes: 10_500 }));

Deno.test("a bandwidth limit holds for all clips of a sink together", () =>
  play(async ({ spool, sink, clock }) => {
    sink.behave = async (clip, { progress }) => {
      let bytes = 0;
      for await (const chunk of clip.open()) progress(bytes += chunk.length);
      return undefined;
    };
    spool.add(...clips(10, 100_000));
    await clock.advance(9_000);
    assert.ok(sink.objects.size <= 10 && sink.objects.size >= 8, `${sink.objects.size} in 9 s`);
    assert.equal(spool.backlog("sink").clips, 10 - sink.objects.size);
    await clock.advance(2_000);
    assert.equal(sink.objects.size, 10);
  }, { bytesPerSecond: 100_000 }));

Deno.test("a bandwidth so low that a clip takes minutes is no stall, though the sink reads it all first", () =>
  play(async ({ spool, sink, clock }) => {
    sink.behave = async (clip, { progress }) => {
      let bytes = 0;
      for await (const chunk of clip.open()) bytes += chunk.length;
      progress(bytes);
      return undefined;
    };
    spool.add(makeClip(0, 60_000));
    await clock.advance(2 * MINUTE_MS);
    assert.equal(sink.puts.length, 1);
    assert.equal(sink.objects.size, 1);
  }, { bytesPerSecond: 1000 }));
