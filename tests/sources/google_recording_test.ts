/**
 * Make before break, from the account to the clip: streams of the counted scene that cannot be
 * extended follow each other while a recorder records, in simulated time. The numbers in the clip tell
 * whether a picture or a sound is missing or is there twice.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as v from "valibot";
import { recordCamera } from "../../core/capture/recorder.ts";
import { joinLengthPrefixed } from "../../core/media/annexb.ts";
import { makeAvcConfig } from "../../core/media/h264.ts";
import { makeOpusConfig } from "../../core/media/opus.ts";
import { openGoogleSdmAccount } from "../../core/sources/google/account.ts";
import { googleSdmOptions } from "../../core/sources/google/options.ts";
import type { SdmTransports } from "../../core/sources/google/streams.ts";
import { type AccessUnit, type Clock, type Session, sourceError } from "../../core/types.ts";
import { type CodedScene, createCodedScene } from "../../simulators/scene/coded_scene.ts";
import type { SdmMedia, SdmStream } from "../../simulators/sdm/camera.ts";
import { startSdmSimulator } from "../../simulators/sdm/simulator.ts";
import { createMemorySpool, recorderOptions } from "../support/capture_fakes.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { countUnits, largestSkewMs, readMarks } from "../support/scene_marks.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { createTestLog, settled } from "./world.ts";

const STREAM_LIFE_MS = 60_000;
const RECORDED_MS = 200_000;
/** What it takes until a stream brings something: a fresh key picture, or one that is there already. */
const CONNECT_MS = { "next-key": 2500, "last-key": 100 } as const;

/** With which key picture a stream begins: the one before, as from a cache, or a fresh one. */
type Beginning = "last-key" | "next-key";

/** A stream of the scene, whose media time begins anew. */
function sceneSession(
  scene: CodedScene,
  { stream, clock, from }: {
    readonly stream: SdmStream;
    readonly clock: Clock;
    readonly from: Beginning;
  },
): Session {
  const { widthPx, heightPx, parameterSets: [sps, pps] } = scene.video;
  assert.ok(sps && pps && scene.audio);
  const over = new AbortController();
  const openedAtMs = clock.now();
  const units = async function* (): AsyncGenerator<AccessUnit> {
    let originUs: number | undefined;
    let hasBegun = from === "last-key";
    const start = from === "last-key" ? from : "now";
    for await (const unit of scene.play({ signal: over.signal, from: start })) {
      if (!stream.isAlive()) throw sourceError("offline", "the stream is over");
      if (unit.kind === "video" && !hasBegun) {
        if (!unit.isKey || unit.takenAtMs < openedAtMs) continue; // sound begins before it
        hasBegun = true;
      }
      originUs ??= unit.ptsUs;
      const times = { ptsUs: unit.ptsUs - originUs, dtsUs: unit.ptsUs - originUs };
      const capturedAtMs = Math.round(clock.now());
      yield unit.kind === "video"
        ? {
          ...{ trackId: 1, data: joinLengthPrefixed(unit.nals), isKey: unit.isKey },
          ...{ ...times, capturedAtMs },
        }
        : { trackId: 2, data: unit.data, isKey: true, ...times, capturedAtMs };
    }
  };
  const iterator = units();
  const config = makeAvcConfig({ sps: [sps], pps: [pps] });
  const sound = makeOpusConfig({ channels: 2 });
  return {
    tracks: [
      { id: 1, kind: "video", codec: "h264", widthPx, heightPx, config },
      { id: 2, kind: "audio", codec: "opus", sampleRateHz: 48_000, channels: 2, config: sound },
    ],
    [Symbol.asyncIterator]: () => iterator,
    async [Symbol.asyncDispose]() {
      over.abort();
      await iterator.return(undefined);
    },
  };
}

/** A camera on a battery whose streams carry one of `scenes` in turn, recorded for some minutes. */
async function record(
  { scenesOf, from, maxStreams = 2 }: {
    readonly scenesOf: (clock: Clock) => Promise<readonly CodedScene[]>;
    readonly from: Beginning;
    readonly maxStreams?: number;
  },
) {
  const clock = createFakeClock();
  const scenes = await scenesOf(clock);
  const streams = new Map<string, SdmStream>();
  const media: SdmMedia = {
    rtsp: () => Promise.reject(new Error("it has WebRTC alone")),
    webRtc(_camera, stream) {
      streams.set(stream.id, stream);
      return Promise.resolve({ where: stream.id, close() {} });
    },
  };
  let opened = 0;
  const transports: SdmTransports = {
    rtsp: () => Promise.reject(new Error("it has WebRTC alone")),
    async webRtc({ exchange }) {
      const stream = streams.get(await exchange("offer"));
      const scene = scenes[opened++ % scenes.length];
      assert.ok(stream && scene);
      await clock.sleep(CONNECT_MS[from]);
      return sceneSession(scene, { stream, clock, from });
    },
  };
  const random = seededRandom(5);
  const cloud = await startSdmSimulator({
    ...{ clock, random, media, streamLifeMs: STREAM_LIFE_MS },
    cameras: [{ customName: "Bell", battery: true, maxStreams }],
  });
  const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
  const credentials = { projectId, clientId, clientSecret, refreshToken };
  const spool = createMemorySpool();
  const log = createTestLog();
  const stop = new AbortController();
  const account = openGoogleSdmAccount(
    v.parse(googleSdmOptions, { ...credentials, endpoints: cloud.endpoints }),
    { clock, log, random, transports, fetch: cloud.fetch },
  );
  try {
    const [camera] = await settled(account.cameras({ signal: stop.signal }), clock);
    assert.ok(camera);
    const options = recorderOptions(clock, { source: camera.source, spool, clipMs: 900_000 });
    const recording = recordCamera(options, stop.signal);
    await clock.advance(RECORDED_MS);
    stop.abort(new DOMException("stopped", "AbortError"));
    await settled(recording, clock);
    return { clips: spool.finished, opened, status: options.status, lines: log.lines };
  } finally {
    await account[Symbol.asyncDispose]();
    await cloud.close();
  }
}

const GAP = /([\d.]+) s are missing between two streams/;
const SCENE = {
  ...{ name: "Bell", pictureName: "Bell", widthPx: 160, heightPx: 96, fps: 5 },
  audio: { codec: "opus" },
} as const;
const FRAME_MS = 1000 / SCENE.fps;
const oneScene = async (clock: Clock) => [await createCodedScene({ ...SCENE, clock })];
/** The same pictures at the same moments, in other bytes, as from two encoders. */
async function twoScenes(clock: Clock): Promise<readonly CodedScene[]> {
  const first = await createCodedScene({ ...SCENE, clock });
  return [first, await createCodedScene({ ...SCENE, name: "Bell 2", clock, origin: first.origin })];
}

for (
  const { what, scenesOf, from } of [
    { what: "carry the same bytes", scenesOf: oneScene, from: "next-key" },
    { what: "carry the same bytes, from a cache", scenesOf: oneScene, from: "last-key" },
    { what: "carry the same moments in other bytes", scenesOf: twoScenes, from: "next-key" },
  ] as const
) {
  Deno.test(`streams that follow each other and ${what} are one clip, with every picture and sound once`, async () => {
    const { clips, opened, status, lines } = await record({ scenesOf, from });
    assert.ok(opened >= 4, `${opened} streams`);
    assert.equal(clips.length, 1);
    const marks = await readMarks(clips[0]?.bytes ?? new Uint8Array());
    for (const units of [marks.video, marks.audio]) {
      const { lost, duplicated, reordered, unmarked } = countUnits(units);
      assert.deepEqual([lost, duplicated, reordered, unmarked], [[], [], [], 0]);
    }
    assert.ok(marks.video.length > SCENE.fps * (RECORDED_MS - 10_000) / 1000);
    marks.video.forEach(({ ptsMs }, index) => {
      const stepMs = ptsMs - (marks.video[index - 1]?.ptsMs ?? ptsMs - FRAME_MS);
      assert.ok(Math.abs(stepMs - FRAME_MS) < 1, `${stepMs} ms before picture ${index}`);
    });
    assert.ok(largestSkewMs(marks) <= 40);
    assert.deepEqual(status.gaps, { count: 0, totalMs: 0 });
    assert.ok(lines.every((line) => !GAP.test(line)), lines.join("\n"));
  });
}

Deno.test("where the camera allows one stream, the clip goes on and each gap is told with its length", async () => {
  const { clips, lines } = await record({ scenesOf: oneScene, from: "next-key", maxStreams: 1 });
  assert.equal(clips.length, 1);
  const { video } = await readMarks(clips[0]?.bytes ?? new Uint8Array());
  const { duplicated, reordered } = countUnits(video);
  assert.deepEqual([duplicated, reordered], [[], []]);
  const gapsS = video.slice(1).flatMap(({ mark }, index) => {
    const pictures = (mark?.counter ?? 0) - (video[index]?.mark?.counter ?? 0);
    return pictures > 1 ? [pictures / SCENE.fps] : [];
  });
  const told = lines.flatMap((line) => GAP.exec(line)?.[1] ?? []);
  assert.ok(gapsS.length >= 2, `${gapsS}`);
  assert.deepEqual(told.map(Number), gapsS);
});
