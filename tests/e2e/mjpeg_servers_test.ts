/**
 * MJPEG from servers that are not ours, recorded by the real program: every clip is decoded, and the
 * counter in each picture is read.
 *
 * @module
 */
import assert from "node:assert/strict";
import { cameraCode, startMjpegCamera } from "../../simulators/mod.ts";
import { createScene } from "../../simulators/scene/scene.ts";
import { captureUntil, haveFinished } from "../support/capture_until.ts";
import { readClip } from "../support/clip_frames.ts";
import { needs } from "../support/programs.ts";
import { cliCommand, inTempFolder, killAndWait } from "../support/run_cli.ts";
import { PATIENCE_MS } from "../support/until.ts";
import { walkFiles } from "../support/walk_files.ts";

const SIZE = { widthPx: 320, heightPx: 192 } as const;
const FPS = 10;
const scene = createScene({ name: "Yard", ...SIZE });

/** A port that was free a moment ago. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** A server as a child; `isUp` is asked of its lines. */
async function startServer(
  program: string,
  { args, isUp }: { readonly args: readonly string[]; readonly isUp: RegExp | undefined },
): Promise<AsyncDisposable> {
  const child = new Deno.Command(program, {
    args: [...args],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const said = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let log = "";
  const limit = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  while (isUp !== undefined && !isUp.test(log)) {
    const { done, value } = await said.read();
    if (done) throw new Error(`${program} ended:\n${log}`);
    log += value;
  }
  clearTimeout(limit);
  const drained = (async () => {
    while (!(await said.read()).done);
  })();
  return {
    async [Symbol.asyncDispose]() {
      await killAndWait(child, child.status);
      await drained;
    },
  };
}

interface Recording {
  /** The counters of all pictures in their order. */
  readonly counters: readonly number[];
  /** Pictures that were dropped before they were recorded, as the program says. */
  readonly dropped: number;
}

/** Records until so many pictures are in finished clips, and decodes all of them. */
async function record(folder: string, url: string, pictures: number): Promise<Recording> {
  await Deno.writeTextFile(
    `${folder}/camsink.json`,
    JSON.stringify({
      cameras: { yard: { type: "mjpeg", url } },
      clip: { length: "1s" },
      spool: { path: "./spool" },
      sinks: { local: { type: "local-folder", path: "./clips" } },
    }),
  );
  const { code, lines, stdout, stderr } = await captureUntil(
    cliCommand(["capture", "--json"], { cwd: folder }),
    haveFinished({ cameras: 1, pictures }),
  );
  assert.equal(code, 0, stdout + stderr);
  const summary = lines.at(-1) as unknown as { cameras: { framesDropped: number }[] };
  const paths = (await Array.fromAsync(walkFiles(`${folder}/clips`))).filter((path) =>
    path.endsWith(".mp4")
  ).sort();
  const counters: number[] = [];
  for (const path of paths) {
    const { frames, widthPx, heightPx } = await readClip(await Deno.readFile(path));
    assert.deepEqual({ widthPx, heightPx }, SIZE);
    for (const { strip } of frames) {
      assert.equal(strip?.camera, cameraCode("Yard"), "a picture is not the camera's");
      counters.push(strip.counter);
    }
  }
  assert.ok(counters.length >= pictures, `${counters.length} pictures`);
  return { counters, dropped: summary.cameras[0]?.framesDropped ?? NaN };
}

const motion = needs("motion");
Deno.test({
  name: `motion's stream of another camera is recorded, its pictures in order${motion.reason}`,
  ignore: motion.ignore,
  fn: () =>
    inTempFolder(async (folder) => {
      await using camera = await startMjpegCamera({ name: "Yard", ...SIZE, fps: FPS });
      const port = freePort();
      const settings = {
        ...{ daemon: "off", setup_mode: "off", log_level: 6, target_dir: folder },
        ...{ netcam_url: camera.url, width: SIZE.widthPx, height: SIZE.heightPx, framerate: 25 },
        ...{ text_left: "", text_right: "", picture_output: "off", movie_output: "off" },
        ...{ stream_port: port, stream_localhost: "on", stream_maxrate: 25, stream_quality: 90 },
        webcontrol_port: 0,
      };
      await Deno.writeTextFile(
        `${folder}/motion.conf`,
        Object.entries(settings).map(([name, value]) => `${name} ${value}\n`).join(""),
      );
      await using _server = await startServer("motion", {
        args: ["-n", "-c", `${folder}/motion.conf`],
        isUp: /netcam\w*_connect: .*connected/,
      });
      // It sends on at a rate of its own, so some are there twice and some may be left out.
      const { counters } = await record(folder, `http://127.0.0.1:${port}/`, 12);
      assert.deepEqual(counters, counters.toSorted((a, b) => a - b));
      assert.ok(new Set(counters).size > 1, "it is one picture again and again");
    }),
});

const ustreamer = needs("ustreamer");
Deno.test({
  name:
    `ustreamer's stream, which announces a part before its picture is there, is recorded${ustreamer.reason}`,
  ignore: ustreamer.ignore,
  fn: () =>
    inTempFolder(async (folder) => {
      const blank = `${folder}/blank.jpg`;
      await Deno.writeFile(blank, scene.frame({ counter: 4711, takenAtMs: 0 }));
      const port = freePort();
      await using _server = await startServer("ustreamer", {
        // Without its device it serves the picture that it is given for that case.
        args: ["-d", `${folder}/no-device`, "-k", blank, "-p", String(port)],
        isUp: /HTTP eventloop/,
      });
      const { counters } = await record(
        folder,
        `http://127.0.0.1:${port}/stream?advance_headers=1&extra_headers=1`,
        2,
      );
      assert.deepEqual([...new Set(counters)], [4711]);
    }),
});

const ffmpeg = needs("ffmpeg");
Deno.test({
  name:
    `ffmpeg's stream of a camera's own JPEGs is recorded, and no picture is missing uncounted${ffmpeg.reason}`,
  ignore: ffmpeg.ignore,
  fn: () =>
    inTempFolder(async (folder) => {
      const film = await Deno.open(`${folder}/film.mjpeg`, { write: true, create: true });
      for (let counter = 1; counter <= 300; counter++) {
        await film.write(scene.frame({ counter, takenAtMs: counter * 1000 / FPS }));
      }
      film.close();
      const url = `http://127.0.0.1:${freePort()}/live`;
      await using _server = await startServer("ffmpeg", {
        args: [
          ...["-v", "error", "-nostdin", "-re", "-framerate", String(FPS), "-f", "mjpeg"],
          ...["-i", `${folder}/film.mjpeg`, "-c", "copy", "-f", "mpjpeg", "-listen", "1", url],
        ],
        isUp: undefined, // it says nothing: the program asks again until it listens
      });
      const { counters, dropped } = await record(folder, url, 12);
      assert.deepEqual(counters, [...new Set(counters)].toSorted((a, b) => a - b));
      const missing = (counters.at(-1) ?? 0) - counters.length;
      assert.ok(missing >= 0 && missing <= dropped, `${missing} missing, ${dropped} dropped`);
    }),
});
