/** The coded scene: what a real decoder sees of it, and what its marks say. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { audioLoop, videoLoop } from "../../simulators/scene/coded_loop.ts";
import {
  adtsFrame,
  createCodedScene,
  type SceneAudioUnit,
  type SceneUnit,
  type SceneVideoUnit,
} from "../../simulators/scene/coded_scene.ts";
import {
  encodeWithWasm,
  firstThatCan,
  type SceneEncoder,
} from "../../simulators/scene/scene_encoder.ts";
import {
  markNal,
  readMarkAac,
  readMarkNal,
  readMarkOpus,
} from "../../simulators/scene/scene_mark.ts";
import { readStrip } from "../../simulators/scene/strip.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { decodeLuma, runFfmpeg } from "../support/ffmpeg.ts";
import { needs } from "../support/programs.ts";

const SMALL = { widthPx: 640, heightPx: 360, fps: 10, gopPictures: 5, gops: 2 } as const;

/** Pictures as a byte stream. */
function annexB(units: readonly SceneVideoUnit[]): Uint8Array {
  const bytes: number[] = [];
  for (const { parameterSets, nals } of units) {
    for (const nal of [...parameterSets, ...nals]) bytes.push(0, 0, 0, 1, ...nal);
  }
  return Uint8Array.from(bytes);
}

const ffmpeg = needs("ffmpeg");

for (const codec of ["h264", "h265"] as const) {
  Deno.test({
    name:
      `${codec} of two rounds of the loop decodes without a complaint, and every picture shows ` +
      `the number that its mark says${ffmpeg.reason}`,
    ignore: ffmpeg.ignore,
    fn: async () => {
      const scene = await createCodedScene({ name: "Yard", ...SMALL, codec, slices: 2 });
      const units = Array.from({ length: 20 }, (_, index) => scene.picture(index));
      assert.deepEqual(units.map(({ isKey }) => isKey), units.map((_, index) => index % 5 === 0));
      const marks = units.map(({ nals }) => readMarkNal(nals[0] ?? new Uint8Array(), codec));
      assert.deepEqual(marks.map((mark) => mark?.counter), units.map((_, index) => index + 1));
      assert.ok(marks.every((mark) => mark?.camera === "Yard"));
      if (codec === "h264") assert.ok(units.every(({ nals }) => nals.length === 3));
      const pictures = await decodeLuma(annexB(units), {
        format: codec === "h264" ? "h264" : "hevc",
        ...SMALL,
      });
      assert.deepEqual(
        pictures.map((picture) => readStrip(picture, SMALL.widthPx)?.counter),
        marks.map((mark) => ((mark?.counter ?? 0) - 1) % 10 + 1),
      );
    },
  });
}

Deno.test({
  name: `AAC with marks in it decodes without a complaint, ticks at full seconds${ffmpeg.reason}`,
  ignore: ffmpeg.ignore,
  fn: async () => {
    const scene = await createCodedScene({ name: "Yard", ...SMALL, audio: { codec: "aac" } });
    assert.ok(scene.audio);
    const { audio } = scene;
    const units = Array.from({ length: 376 + 47 }, (_, index) => scene.sound(index));
    assert.equal(readMarkAac(units[400]?.data ?? new Uint8Array())?.counter, 401);
    const adts = Uint8Array.from(units.flatMap(({ data }) => [...adtsFrame(data, audio)]));
    const { outputs, log } = await runFfmpeg({
      args: ["-v", "warning", "-i", "in.aac", "-f", "s16le", "-ac", "1", "out.pcm"],
      inputs: { "in.aac": adts },
      outputs: ["out.pcm"],
    });
    // The length of a stream without a header is an estimate, and ffmpeg says so.
    assert.equal(log.replaceAll(/.*Estimating duration.*\n?/g, ""), "");
    const samples = new Int16Array(new Uint8Array(outputs["out.pcm"] ?? []).buffer);
    assert.equal(samples.length, units.length * 1024);
    assert.deepEqual(tickSeconds(samples, 48_000).slice(0, 7), [1, 2, 3, 4, 5, 6, 7]);
  },
});

/** Seconds at which a tick begins; the first is left out, for the decoder's start. */
function tickSeconds(samples: Int16Array, rateHz: number): number[] {
  const windowSamples = rateHz / 100;
  const seconds: number[] = [];
  for (let at = rateHz / 2; at + windowSamples <= samples.length; at += windowSamples) {
    let peak = 0;
    for (let index = at; index < at + windowSamples; index++) {
      peak = Math.max(peak, Math.abs(samples[index] ?? 0));
    }
    const second = Math.round(at / rateHz);
    if (peak > 5000 && Math.abs(at / rateHz - second) < 0.05 && seconds.at(-1) !== second) {
      seconds.push(second);
    }
  }
  return seconds;
}

for (const [codec, format] of [["pcma", "alaw"], ["pcmu", "mulaw"]] as const) {
  Deno.test({
    name: `${codec} decodes to the scene's sound${ffmpeg.reason}`,
    ignore: ffmpeg.ignore,
    fn: async () => {
      const { frames } = await audioLoop({ name: "Yard", codec });
      const { outputs } = await runFfmpeg({
        args: ["-f", format, "-ar", "8000", "-i", "in.raw", "-f", "s16le", "out.pcm"],
        inputs: { "in.raw": Uint8Array.from(frames.flatMap((frame) => [...frame])) },
        outputs: ["out.pcm"],
      });
      const samples = new Int16Array(new Uint8Array(outputs["out.pcm"] ?? []).buffer);
      assert.equal(samples.length, 64_000);
      assert.deepEqual(tickSeconds(samples, 8000), [1, 2, 3, 4, 5, 6, 7]);
      assert.ok(samples.every((sample) => Math.abs(sample) < 12_000), "a sample is far off");
    },
  });
}

Deno.test({
  name: `Opus packets carry their marks, and ffmpeg plays them from an MP4${ffmpeg.reason}`,
  ignore: ffmpeg.ignore,
  fn: async () => {
    const scene = await createCodedScene({ name: "Yard", ...SMALL, audio: { codec: "opus" } });
    const units = Array.from({ length: 400 }, (_, index) => scene.sound(index));
    assert.equal(readMarkOpus(units[7]?.data ?? new Uint8Array())?.counter, 8);
    assert.equal(readMarkOpus(units[7]?.data ?? new Uint8Array())?.takenAtMs, units[7]?.takenAtMs);
    const { log } = await runFfmpeg({
      args: ["-v", "warning", "-i", "in.ogg", "-f", "null", "-"],
      inputs: { "in.ogg": oggOf(units) },
    });
    assert.equal(log, "");
  },
});

/** The least Ogg that ffmpeg reads: one packet a page, checksums computed. */
function oggOf(units: readonly SceneAudioUnit[]): Uint8Array {
  const text = (letters: string) => new TextEncoder().encode(letters);
  const head = [...text("OpusHead"), 1, 1, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, 0];
  const tags = [...text("OpusTags"), 1, 0, 0, 0, 0x78, 0, 0, 0, 0];
  const packets = [head, tags, ...units.map(({ data }) => [...data])];
  const out: number[] = [];
  for (const [index, packet] of packets.entries()) {
    const lacing = [
      ...Array<number>(Math.floor(packet.length / 255)).fill(255),
      packet.length % 255,
    ];
    const page = new Uint8Array(27 + lacing.length + packet.length);
    page.set(text("OggS"));
    page[5] = index === 0 ? 2 : index === packets.length - 1 ? 4 : 0;
    const view = new DataView(page.buffer);
    view.setUint32(6, Math.max(0, index - 1) * 960, true);
    view.setUint32(14, 1, true);
    view.setUint32(18, index, true);
    page[26] = lacing.length;
    page.set(lacing, 27);
    page.set(packet, 27 + lacing.length);
    let crc = 0;
    for (const byte of page) {
      crc ^= byte << 24;
      for (let bit = 0; bit < 8; bit++) crc = crc & 0x80000000 ? crc << 1 ^ 0x04c11db7 : crc << 1;
    }
    view.setUint32(22, crc >>> 0, true);
    out.push(...page);
  }
  return Uint8Array.from(out);
}

Deno.test("ffmpeg.wasm encodes the scene where no ffmpeg is installed, or one without the codec", async () => {
  const small: SceneEncoder = () => Promise.reject(new Error("no libx264"));
  const encode = firstThatCan(small, encodeWithWasm);
  const loop = await videoLoop({ name: "Wasm", widthPx: 320, fps: 5, gops: 2 }, { encode });
  assert.equal(loop.pictures.length, 10);
  const sound = await audioLoop({ name: "Wasm", codec: "aac" }, { encode });
  assert.equal(sound.frames.length, 375);
  const none = firstThatCan(small, () => Promise.reject(new Error("no memory")));
  await assert.rejects(
    none({ inputArgs: [], input: new Uint8Array(), outputArgs: [] }),
    /no libx264; no memory/,
  );
});

Deno.test("a loop that was encoded before comes from the cache folder", async () => {
  const folders = [await Deno.makeTempDir(), await Deno.makeTempDir()] as const;
  try {
    const sets = [[0, 0, 1, 0x67, 1], [0, 0, 1, 0x68, 1]].flat();
    const stream = Uint8Array.from([...sets, 0, 0, 1, 0x65, 0x80, 1, 0, 0, 1, 0x41, 0x80, 1]);
    const options = { name: "Yard", widthPx: 160, heightPx: 90, fps: 2, gops: 1 };
    const first = await videoLoop(options, {
      encode: () => Promise.resolve(stream),
      cacheFolder: folders[0],
    });
    for (const { name } of Deno.readDirSync(folders[0])) {
      await Deno.copyFile(join(folders[0], name), join(folders[1], name));
    }
    const again = await videoLoop(options, {
      encode: () => Promise.reject(new Error("it was encoded again")),
      cacheFolder: folders[1],
    });
    assert.deepEqual(again, first);
  } finally {
    for (const folder of folders) await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a mark with zeros in it has no start code in its NAL unit", () => {
  for (const codec of ["h264", "h265"] as const) {
    for (const counter of [0, 1, 256, 0x010000, 0xffffffff]) {
      const mark = { counter, takenAtMs: 1, camera: "Küche\u0000\u0000\u0001" };
      const nal = markNal(mark, codec);
      assert.deepEqual(readMarkNal(nal, codec), mark);
      for (let at = 2; at < nal.length; at++) {
        assert.ok(
          !(nal[at - 2] === 0 && nal[at - 1] === 0 && (nal[at] ?? 0) < 3),
          `a start code at byte ${at} of ${nal}`,
        );
      }
    }
  }
});

Deno.test("viewers see one timeline in real time, each from where it asked", async () => {
  const clock = createFakeClock();
  const scene = await createCodedScene({
    name: "Yard",
    ...SMALL,
    audio: { codec: "aac" },
    clock,
  });
  await clock.advance(10_250); // picture 102 was taken; the last key picture is 100
  const stop = new AbortController();
  const watch = (from: "last-key" | "next-key" | "now") => {
    const units: { unit: SceneUnit; atMs: number }[] = [];
    const done = (async () => {
      for await (const unit of scene.play({ signal: stop.signal, from })) {
        units.push({ unit, atMs: clock.monotonic() });
      }
    })();
    return { units, done };
  };
  const views = [watch("last-key"), watch("next-key"), watch("now")];
  await clock.advance(2000);
  stop.abort();
  await Promise.all(views.map(({ done }) => done));
  const firsts = views.map(({ units }) => units.find(({ unit }) => unit.kind === "video")?.unit);
  assert.deepEqual(firsts.map((unit) => unit?.counter), [101, 106, 103]);
  for (const { units } of views) {
    const pictures = units.filter(({ unit }) => unit.kind === "video");
    assert.equal(pictures.at(-1)?.unit.counter, 123);
    assert.ok(units.every(({ unit, atMs }) => atMs >= unit.ptsUs / 1000), "a unit came early");
    const counters = pictures.map(({ unit }) => unit.counter);
    assert.deepEqual(counters, counters.map((_, index) => (counters[0] ?? 0) + index));
    assert.ok(units.filter(({ unit }) => unit.kind === "audio").length > 60);
  }
});
