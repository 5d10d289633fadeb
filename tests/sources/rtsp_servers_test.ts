/** The RTSP client against a server that is not ours: every codec, transport and login it has. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { systemClock } from "../../core/clock.ts";
import { openRtspSession, type RtspSessionOptions } from "../../core/sources/rtsp/session.ts";
import type { AccessUnit, Session, Track } from "../../core/types.ts";
import { createLoopbackCertificate } from "../../simulators/certificate.ts";
import { runFfmpeg } from "../support/ffmpeg.ts";
import { gst, startGstServer } from "../support/gst_rtsp_server.ts";
import { clipOf, sceneFile } from "../support/scene_file.ts";
import { readFixture } from "../support/media_samples.ts";
import { countUnits, largestSkewMs, readMarks } from "../support/scene_marks.ts";
import { createTestLog } from "./world.ts";

const SMALL = { widthPx: 320, heightPx: 192, fps: 15, gopPictures: 15, gops: 2 } as const;
const LOGIN = { username: "owner", password: "p@ss:w/%ord" };
/** A live pipeline of pictures that change. */
const LIVE =
  "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=192,framerate=25/1 ! ";
const TONE = "audiotestsrc is-live=true ! audioconvert ! audioresample ! ";

interface Watched {
  readonly units: readonly AccessUnit[];
  readonly tracks: readonly Track[];
  readonly lines: readonly string[];
}

/** Records until so many pictures are there, and some sound. */
async function watch(
  url: string,
  options: Partial<RtspSessionOptions> & { readonly pictures?: number } = {},
): Promise<Watched> {
  const { pictures = 40, ...rest } = options;
  const log = createTestLog();
  const stop = new AbortController();
  const session: Session = await openRtspSession(
    { url, clock: systemClock, log, ...rest },
    { signal: stop.signal },
  );
  const units: AccessUnit[] = [];
  let left = pictures;
  const sounds = () => units.filter(({ trackId }) => trackId === 2).length;
  for await (const unit of session) {
    // Nothing is given back, so that all of it can be looked at.
    units.push(unit);
    if (unit.trackId === 1) left--;
    // A server that has little of the machine sends its sound late.
    if (left <= 0 && (session.tracks.length === 1 || sounds() > 10)) break;
  }
  return { units, tracks: session.tracks, lines: log.lines };
}

/** What any recording must be: whole, in order, and without a complaint from a decoder. */
async function assertPlayable({ units, tracks }: Watched): Promise<Uint8Array> {
  assert.equal(units[0]?.isKey, true);
  for (const { id } of tracks) {
    const own = units.filter(({ trackId }) => trackId === id);
    assert.ok(own.length > 10, `track ${id} has ${own.length} units`);
    for (const [i, unit] of own.entries()) {
      assert.ok(unit.ptsUs >= unit.dtsUs);
      const before = own[i - 1];
      if (before !== undefined) assert.ok(unit.dtsUs > before.dtsUs);
    }
  }
  const clip = clipOf(units, tracks);
  const { log } = await runFfmpeg({
    args: ["-v", "error", "-xerror", "-i", "in.mp4", "-f", "null", "-"],
    inputs: { "in.mp4": clip },
  });
  assert.equal(log.trim(), "");
  return clip;
}

Deno.test({
  name:
    `GStreamer's RTSP server: the counted scene comes whole over TCP and UDP, with login, every ` +
    `picture and frame of sound in order, sound within 40 ms of its picture${gst.reason}`,
  ignore: gst.ignore,
  fn: async (t) => {
    const folder = await Deno.makeTempDir();
    try {
      const scenes = [
        { path: "/h264-aac", codec: "h264", audio: { codec: "aac" } },
        { path: "/h265-opus", codec: "h265", audio: { codec: "opus" } },
      ] as const;
      const streams: Record<string, string> = {};
      for (const { path, codec, audio } of scenes) {
        const file = join(folder, `${codec}.mp4`);
        const scene = { name: "Yard", ...SMALL, codec, audio, seconds: 30 };
        await Deno.writeFile(file, await sceneFile(scene));
        const sound = audio.codec === "aac" ? "aacparse ! rtpmp4gpay" : "rtpopuspay"; // opusparse halves the length of padded packets
        streams[path] = `( filesrc location=${file} ! qtdemux name=d d.video_0 ! queue ! ` +
          `${codec}parse ! rtp${codec}pay name=pay0 pt=96 config-interval=0 ` +
          `d.audio_0 ! queue ! ${sound} name=pay1 pt=97 )`;
      }
      await using server = await startGstServer({
        streams,
        shared: false,
        user: LOGIN.username,
        password: LOGIN.password,
        digest: "md5",
      });
      for (const { path, codec } of scenes) {
        for (const transport of ["tcp", "udp"] as const) {
          await t.step(`${path} over ${transport}`, async () => {
            const watched = await watch(`rtsp://127.0.0.1:${server.port}${path}`, {
              transport,
              credentials: LOGIN,
            });
            assert.equal(watched.tracks.length, 2);
            assert.equal(watched.tracks[0]?.codec, codec);
            const marks = await readMarks(await assertPlayable(watched));
            for (const units of [marks.video, marks.audio]) {
              const report = countUnits(units);
              assert.deepEqual(report.lost, []);
              assert.deepEqual(report.duplicated, []);
              assert.deepEqual(report.reordered, []);
              assert.equal(report.unmarked, 0);
            }
            assert.ok(countUnits(marks.video).count >= 40);
            const skewMs = largestSkewMs(marks);
            assert.ok(skewMs <= 40, `sound is ${skewMs} ms off`);
          });
        }
      }
      await t.step("a login in the address, not encoded", async () => {
        const { units } = await watch(
          `rtsp://owner:p@ss:w/%ord@127.0.0.1:${server.port}/h264-aac`,
          { pictures: 2 },
        );
        assert.ok(units.length >= 2);
      });
      await t.step("a wrong password is told, and is not in the message", async () => {
        const error = await watch(`rtsp://127.0.0.1:${server.port}/h264-aac`, {
          credentials: { username: "owner", password: "not-this-one" },
        }).then(() => undefined, (error: unknown) => error);
        assert.ok(error instanceof Error && "sourceErrorKind" in error);
        assert.equal(error.sourceErrorKind, "auth");
        assert.match(error.message, /refused the user name or the password/);
        assert.doesNotMatch(error.message, /not-this-one/);
      });
      await t.step("a path that is not there is told", async () => {
        const error = await watch(`rtsp://127.0.0.1:${server.port}/nothing`, { credentials: LOGIN })
          .then(() => undefined, (error: unknown) => error);
        assert.ok(error instanceof Error && /404/.test(error.message), String(error));
      });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  name:
    `GStreamer's RTSP server: B-frames, parameter sets that only the description has, RTSPS, and ` +
    `sound that cannot be recorded${gst.reason}`,
  ignore: gst.ignore,
  fn: async (t) => {
    const folder = await Deno.makeTempDir();
    try {
      const { certPem, keyPem, caPem } = createLoopbackCertificate();
      const cert = join(folder, "server.pem");
      const ca = join(folder, "ca.pem");
      await Deno.writeTextFile(cert, certPem + keyPem);
      await Deno.writeTextFile(ca, caPem);
      const reordered = join(folder, "b_frames.mp4");
      await Deno.writeFile(reordered, readFixture("h264_b_frames_aac.mp4"));
      await using server = await startGstServer({
        shared: false,
        streams: {
          "/b-frames": `( filesrc location=${reordered} ! qtdemux name=d d.video_0 ! queue ! ` +
            `h264parse ! rtph264pay name=pay0 pt=96 )`,
          "/out-of-band": `( ${LIVE}x264enc tune=zerolatency key-int-max=15 ! video/x-h264,` +
            `stream-format=avc ! rtph264pay name=pay0 pt=96 config-interval=0 ${TONE}` +
            `speexenc ! rtpspeexpay name=pay1 pt=98 )`,
        },
      });
      const address = `rtsp://127.0.0.1:${server.port}`;
      await t.step("B-frames", async () => {
        const watched = await watch(`${address}/b-frames`, { pictures: 40 });
        await assertPlayable(watched);
        assert.ok(watched.units.some(({ ptsUs, dtsUs }) => ptsUs > dtsUs), "there are none");
        const shown = watched.units.map(({ ptsUs }) => ptsUs).sort((a, b) => a - b);
        const steps = shown.slice(1, -4).map((ptsUs, i) => ptsUs - (shown[i] ?? 0));
        assert.ok(steps.every((us) => Math.abs(us - 66_667) < 100), String(steps));
      });
      await t.step(
        "no parameter sets in band, sound that is left out with one warning",
        async () => {
          const watched = await watch(`${address}/out-of-band`);
          await assertPlayable(watched);
          assert.equal(watched.tracks.length, 1);
          assert.equal(watched.lines.filter((line) => /^warn.*SPEEX/.test(line)).length, 1);
        },
      );
      await using secure = await startGstServer({
        streams: {
          "/": `( ${LIVE}x264enc tune=zerolatency key-int-max=15 ! rtph264pay name=pay0 )`,
        },
        cert,
        user: LOGIN.username,
        password: LOGIN.password,
      });
      await t.step("RTSPS with the authority's file", async () => {
        await assertPlayable(
          await watch(`rtsps://127.0.0.1:${secure.port}/`, { ca, credentials: LOGIN }),
        );
      });
      await t.step("RTSPS without it is refused, and the message says what to do", async () => {
        const error = await watch(`rtsps://127.0.0.1:${secure.port}/`)
          .then(() => undefined, (error: unknown) => error);
        assert.ok(error instanceof Error && /certificate.*"ca"/.test(error.message), String(error));
      });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
