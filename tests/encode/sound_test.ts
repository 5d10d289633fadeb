/** Sound made AAC: by runs that a test works by hand, and by both engines for real. */
import assert from "node:assert/strict";
import { systemClock } from "../../core/clock.ts";
import { createEncoders } from "../../core/encode/mod.ts";
import { createSoundEncoder } from "../../core/encode/sound.ts";
import type { SoundLaneOptions } from "../../core/encode/engine.ts";
import { decodeG711, type G711Law } from "../../core/media/g711.ts";
import type { AccessUnit, AudioTrack } from "../../core/types.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { runFfmpeg } from "../support/ffmpeg.ts";
import { concat } from "../support/media_samples.ts";
import { needs } from "../support/programs.ts";
import { createTestLog } from "../sources/world.ts";

const ffmpeg = needs("ffmpeg");
const TRACK: AudioTrack = {
  ...{ id: 2, kind: "audio", codec: "pcm", sampleRateHz: 8000, channels: 1 },
  config: new Uint8Array(),
};
const PACKET_SAMPLES = 160;

function packet(ptsUs: number, samples = PACKET_SAMPLES): AccessUnit {
  const data = new Uint8Array(2 * samples);
  return { trackId: 2, data, ptsUs, dtsUs: ptsUs, isKey: true, capturedAtMs: ptsUs / 1000 };
}

/** An ADTS frame of nine bytes whose payload is its number. */
const frameOf = (n: number) =>
  Uint8Array.of(0xff, 0xf1, 0x6c, 0x40, 0x01, 0x3f, 0xfc, n >> 8, n & 255);

/** An encoder whose runs give a frame for each 1024 samples, as long as `works`. */
function createWorld() {
  const runs: {
    readonly options: SoundLaneOptions;
    bytes: number;
    frames: number;
    state: "open" | "ended" | "killed";
  }[] = [];
  const units: AccessUnit[] = [];
  const log = createTestLog();
  const world = { runs, units, log, works: true };
  const encoder = createSoundEncoder({
    ...{ track: TRACK, log, clock: createFakeClock(), onUnit: (unit) => units.push(unit) },
    openLane(options) {
      const run: typeof runs[number] = { options, bytes: 0, frames: 0, state: "open" };
      runs.push(run);
      return {
        write({ length }) {
          run.bytes += length;
          while (world.works && run.bytes >= (run.frames + 1) * 2048) {
            const frame = frameOf(run.frames++);
            options.onBytes(frame.subarray(0, 4)); // in pieces, as pipes give it
            options.onBytes(frame.subarray(4));
          }
        },
        end() {
          run.state = "ended";
          options.onEnd();
        },
        kill() {
          run.state = "killed";
          options.onEnd();
          return Promise.resolve();
        },
      };
    },
  });
  /** Packets from `fromUs` on, without gaps. */
  const feed = (fromUs: number, seconds: number, packetUs = 20_000) => {
    for (let i = 0; i < seconds * 50; i++) encoder.push(packet(fromUs + i * packetUs));
  };
  return Object.assign(world, { encoder, feed });
}

const steps = (units: readonly AccessUnit[]) =>
  units.slice(1).map(({ ptsUs }, i) => ptsUs - (units[i]?.ptsUs ?? 0));

Deno.test("a frame of sound has the time of its first sample, and the encoder's delay is taken off", () => {
  const { encoder, feed, units } = createWorld();
  assert.equal(encoder.track.codec, "aac");
  feed(5_000_000, 10);
  // The first frame is the encoder's own start, 1024 samples before the first that was given.
  assert.equal(units[0]?.ptsUs, 5_000_000 - 128_000);
  assert.deepEqual(new Set(steps(units)), new Set([128_000]));
  assert.deepEqual([...units[3]?.data ?? []], [0, 3]);
});

Deno.test("a camera whose samples come fast or slow is followed for an hour", () => {
  for (const packetUs of [19_990, 20_010]) {
    const { feed, units } = createWorld();
    feed(0, 3600, packetUs);
    const last = units.at(-1);
    assert.ok(last);
    const sample = (units.length - 1) * 1024; // the first frame, before time began, is left out
    const trueUs = sample / PACKET_SAMPLES * packetUs;
    assert.ok(Math.abs(last.ptsUs - trueUs) < 200, `${last.ptsUs - trueUs} µs off`);
  }
});

Deno.test("packets that are missing are silence, and a long gap begins anew", () => {
  const { feed, units, runs } = createWorld();
  feed(0, 2);
  feed(2_500_000, 2); // half a second is missing
  assert.equal(runs.length, 1);
  assert.equal(runs[0]?.bytes, 2 * 8000 * 4.5);
  assert.deepEqual(new Set(steps(units)), new Set([128_000]));
  feed(60_000_000, 2);
  assert.equal(runs.length, 2);
  assert.equal(runs[0]?.state, "ended");
  assert.ok(units.some(({ ptsUs }) => ptsUs === 60_000_000));
});

Deno.test("a run that dies is replaced after a pause, which is said once", () => {
  const { feed, units, runs, log } = createWorld();
  feed(0, 1);
  runs[0]?.options.onEnd(new Error("it fell over"));
  feed(1_000_000, 2);
  runs[1]?.options.onEnd(new Error("again"));
  feed(3_000_000, 2);
  assert.equal(runs.length, 3);
  // Each after a second without sound.
  assert.ok(units.every(({ ptsUs }) => ptsUs < 1_000_000 || ptsUs > 1_800_000));
  assert.ok(units.some(({ ptsUs }) => ptsUs > 4_500_000));
  const said = log.lines.filter((line) => line.startsWith("warn"));
  assert.equal(said.length, 1);
  assert.match(said[0] ?? "", /could not be coded: it fell over; trying again/);
});

Deno.test("a run that hangs is killed; runs that never work are tried ever less", () => {
  const world = createWorld();
  world.works = false;
  world.feed(0, 300);
  // 10 s until it shows, and pauses of 1, 2, 4, 8 … s.
  assert.ok(world.runs.length >= 6 && world.runs.length <= 12, `${world.runs.length} runs`);
  assert.ok(world.runs.slice(0, -1).every(({ state }) => state === "killed"));
  world.works = true;
  world.feed(400_000_000, 2);
  assert.ok(world.units.length > 10);
});

Deno.test("what is no ADTS ends the run, and nothing else", () => {
  const { feed, runs, units, log } = createWorld();
  feed(0, 1);
  runs[0]?.options.onBytes(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  assert.equal(runs[0]?.state, "killed");
  assert.match(log.lines.join("\n"), /expected an ADTS header/);
  const before = units.length;
  feed(2_500_000, 1);
  assert.ok(units.length > before);
});

Deno.test("sound of a form that AAC does not have is refused with what is expected", () => {
  for (const form of [{ sampleRateHz: 8001 }, { channels: 6 }]) {
    assert.throws(
      () =>
        createSoundEncoder({
          ...{ track: { ...TRACK, ...form }, log: createTestLog(), clock: systemClock },
          ...{ onUnit: () => {}, openLane: () => assert.fail("it was opened") },
        }),
      /expected (one of 8000|1 or 2)/,
    );
  }
});

for (const law of ["a", "mu"] as const satisfies readonly G711Law[]) {
  Deno.test(`G.711 by the ${law}-law: every byte becomes the sample that ffmpeg makes of it`, async () => {
    const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    const format = law === "a" ? "alaw" : "mulaw";
    const { outputs } = await runFfmpeg({
      args: ["-f", format, "-ar", "8000", "-ac", "1", "-i", "in.raw", "-f", "s16le", "out.raw"],
      inputs: { "in.raw": all },
      outputs: ["out.raw"],
    });
    assert.deepEqual(decodeG711(all, law), new Uint8Array(outputs["out.raw"] ?? []));
  });
}

for (const use of ["wasm", "system"] as const) {
  const needed = use === "system" ? ffmpeg : { ignore: false, reason: "" };
  Deno.test({
    name: `${use}: a tone comes out at its time, as sound that decodes${needed.reason}`,
    ignore: needed.ignore,
    async fn() {
      await using encoders = await createEncoders({ use, workers: 1, log: createTestLog() });
      const units: AccessUnit[] = [];
      const enough = Promise.withResolvers<void>();
      await using encoder = encoders.forSound({
        ...{ track: TRACK, log: createTestLog() },
        onUnit(unit) {
          units.push(unit);
          if (units.length === 20) enough.resolve();
        },
      });
      const toneFromUs = 1_500_000;
      let fed = 0;
      const feed = () => {
        const unit = packet(fed++ * 20_000);
        const view = new DataView(unit.data.buffer);
        for (let i = 0; i < PACKET_SAMPLES; i++) {
          const us = unit.ptsUs + i * 125;
          const value = us < toneFromUs ? 0 : 12_000 * Math.sin(2 * Math.PI * 440 * us / 1e6);
          view.setInt16(2 * i, Math.round(value), true);
        }
        encoder.push(unit);
      };
      while (fed < 150) feed();
      await enough.promise; // it comes out while more may follow
      await encoder.end();
      const adts = units.flatMap(({ data }) => {
        const length = data.length + 7;
        return [
          Uint8Array.of(0xff, 0xf1, 0x6c, 0x40 | (length >> 11), (length >> 3) & 255),
          Uint8Array.of(((length & 7) << 5) | 0x1f, 0xfc),
          data,
        ];
      });
      const { outputs } = await runFfmpeg({
        args: ["-f", "aac", "-i", "in.aac", "-f", "s16le", "out.raw"],
        inputs: { "in.aac": concat(adts) },
        outputs: ["out.raw"],
      });
      const raw = new Uint8Array(outputs["out.raw"] ?? []);
      const samples = new Int16Array(raw.buffer, 0, raw.length >> 1);
      const first = samples.findIndex((value) => Math.abs(value) > 4000);
      const firstUs = (units[Math.floor(first / 1024)]?.ptsUs ?? NaN) + (first % 1024) * 125;
      assert.ok(Math.abs(firstUs - toneFromUs) < 10_000, `${firstUs - toneFromUs} µs off`);
      assert.ok(units.length >= 22, `${units.length} frames`);
    },
  });
}
