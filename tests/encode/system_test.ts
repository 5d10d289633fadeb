/** The system engine for real, where there is an ffmpeg. */
import assert from "node:assert/strict";
import { join } from "node:path";
import process from "node:process";
import { createCameraEncoder, type GopReport } from "../../core/encode/camera_encoder.ts";
import { openSystemEngine, passthroughOption } from "../../core/encode/ffmpeg_system.ts";
import type { Engine } from "../../core/encode/engine.ts";
import { gearsOf } from "../../core/encode/x264.ts";
import { systemClock } from "../../core/clock.ts";
import { needs } from "../support/programs.ts";
import {
  assertNoDelay,
  assertSamePictures,
  encodeAll,
  pictures,
  START_MS,
  stream,
} from "./support.ts";

const ffmpeg = needs("ffmpeg");
/** The tests that put a script in ffmpeg's place. */
const scripted = Deno.build.os === "windows"
  ? { ignore: true, reason: " (skipped: no sh)" }
  : ffmpeg;

function encoderOf(engine: Engine, reports: GopReport[] = []) {
  const [gear] = gearsOf("system", "standard");
  assert.ok(gear);
  return createCameraEncoder({
    clock: systemClock,
    gear: () => gear,
    openLane: () => engine.openLane(),
    onReport: (_, report) => reports.push(report),
  });
}

const monotonic = () => performance.now();

/** A program that stands in for ffmpeg, made of shell. */
async function script(body: string): Promise<{ path: string } & AsyncDisposable> {
  const folder = await Deno.makeTempDir({ prefix: "camsink-ffmpeg-" });
  const path = join(folder, "ffmpeg");
  await Deno.writeTextFile(path, `#!/bin/sh\nfolder='${folder}'\n${body}\n`, { mode: 0o755 });
  return {
    path,
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

/** The real ffmpeg, which leaves its process ids when it encodes. */
const TRACED = 'case "$*" in *-encoders*) ;; *) echo $$ >> "$folder/pids";; esac\n' +
  'exec ffmpeg "$@"';

async function pidsOf(path: string): Promise<number[]> {
  const text = await Deno.readTextFile(join(path, "..", "pids")).catch(() => "");
  return text.trim().split("\n").filter((line) => line !== "").map(Number);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

Deno.test({
  name: `system: every picture comes out decodable, in order, with its own time${ffmpeg.reason}`,
  ignore: ffmpeg.ignore,
  async fn() {
    await using engine = await openSystemEngine({ monotonic });
    const units = pictures({ count: 45, startMs: START_MS + 700 });
    const coded = await encodeAll(encoderOf(engine), units);
    await assertSamePictures(coded, units);
    assert.deepEqual(coded.flatMap((unit, i) => unit.isKey ? [i] : []), [0, 13, 33]);
  },
});

Deno.test({
  name: `system: each picture is out before the next one is taken${ffmpeg.reason}`,
  ignore: ffmpeg.ignore,
  async fn() {
    await using engine = await openSystemEngine({ monotonic });
    await assertNoDelay(encoderOf(engine), 30);
  },
});

Deno.test({
  name:
    `system: a camera has one child for all its GOPs, and a new one after a change of size${scripted.reason}`,
  ignore: scripted.ignore,
  async fn() {
    await using traced = await script(TRACED);
    await using engine = await openSystemEngine({ path: traced.path, monotonic });
    const small = pictures({ count: 50 });
    const large = pictures({ count: 5, startMs: START_MS + 6000, widthPx: 480, heightPx: 270 });
    const coded = await encodeAll(encoderOf(engine), [...small, ...large]);
    assert.equal(coded.length, 55);
    assert.equal((await pidsOf(traced.path)).length, 2);
  },
});

Deno.test({
  name: `system: a child that is killed costs at most its GOPs and is replaced${scripted.reason}`,
  ignore: scripted.ignore,
  async fn() {
    await using traced = await script(TRACED);
    await using engine = await openSystemEngine({ path: traced.path, monotonic });
    const units = pictures({ count: 80 });
    const reports: GopReport[] = [];
    let lost = 0;
    let coded = 0;
    async function* killing() {
      for (const [index, unit] of units.entries()) {
        if (index === 30) {
          while (coded < 25) await new Promise((resolve) => setImmediate(resolve));
          for (const pid of await pidsOf(traced.path)) process.kill(pid, "SIGKILL");
        }
        // The death of the child is noticed by its events, which need the loop.
        if (index > 30) await new Promise((resolve) => setTimeout(resolve, 2));
        yield unit;
      }
    }
    const times: number[] = [];
    const signal = new AbortController().signal;
    for await (
      const unit of encoderOf(engine, reports).encode(killing(), {
        signal,
        camera: "yard",
        gopMs: 2000,
        onLost: (frames) => lost += frames,
      })
    ) {
      coded++;
      times.push(unit.capturedAtMs);
    }
    assert.equal(coded + lost, 80);
    assert.ok(lost > 0 && lost <= 20, `${lost} lost`);
    assert.deepEqual(times, times.toSorted((a, b) => a - b));
    const failures = reports.filter((report) => report.kind === "failed");
    assert.equal(failures.length, 1);
    assert.match(failures[0]?.error.message ?? "", /ffmpeg was ended by SIGKILL/);
  },
});

Deno.test({
  name: `system: an abort at any moment leaves no child${scripted.reason}`,
  ignore: scripted.ignore,
  async fn() {
    await using traced = await script(TRACED);
    await using engine = await openSystemEngine({ path: traced.path, monotonic });
    for (const after of [1, 6, 25]) {
      const stop = new AbortController();
      let taken = 0;
      const aborting = async function* () {
        for (const unit of pictures({ count: 30 })) {
          if (taken++ === after) stop.abort();
          yield unit;
        }
      };
      await encodeAll(encoderOf(engine), aborting(), { signal: stop.signal });
    }
    assert.ok((await pidsOf(traced.path)).every((pid) => !isAlive(pid)));
  },
});

Deno.test({
  name: `system: closing the engine ends the child of a camera that hangs${scripted.reason}`,
  ignore: scripted.ignore,
  async fn() {
    await using traced = await script(TRACED);
    const engine = await openSystemEngine({ path: traced.path, monotonic });
    const silence = Promise.withResolvers<void>();
    const encoding = encodeAll(
      encoderOf(engine),
      stream(pictures({ count: 25 }), silence.promise),
    );
    while ((await pidsOf(traced.path)).length === 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    await engine[Symbol.asyncDispose]();
    assert.ok((await pidsOf(traced.path)).every((pid) => !isAlive(pid)));
    silence.resolve();
    await encoding;
  },
});

Deno.test({
  name: `system: an ffmpeg that refuses to encode is quoted${scripted.reason}`,
  ignore: scripted.ignore,
  async fn() {
    await using refusing = await script(
      'case "$*" in *-encoders*) exec ffmpeg "$@";; esac\n' +
        'echo "Unrecognized option fps_mode." >&2; exit 1',
    );
    await using engine = await openSystemEngine({ path: refusing.path, monotonic });
    const reports: GopReport[] = [];
    let lost = 0;
    await encodeAll(encoderOf(engine, reports), pictures({ count: 5 }), {
      onLost: (frames) => lost += frames,
    });
    assert.equal(lost, 5);
    assert.ok(reports[0]?.kind === "failed");
    assert.match(reports[0].error.message, /ended with code 1: Unrecognized option fps_mode/);
  },
});

Deno.test("system: a missing ffmpeg is said with what to do", async () => {
  await assert.rejects(
    openSystemEngine({ path: "/nowhere/ffmpeg", monotonic }),
    /cannot run \/nowhere\/ffmpeg: it was not found; install ffmpeg .*encoder\.path/,
  );
});

Deno.test({
  name: "system: another program at encoder.path is refused",
  ignore: Deno.build.os === "windows",
  async fn() {
    await using other = await script("echo hello");
    await assert.rejects(
      openSystemEngine({ path: other.path, monotonic }),
      /encoder\.path: .* is not ffmpeg/,
    );
  },
});

Deno.test({
  name: `system: the installed ffmpeg is looked at with one run of it${scripted.reason}`,
  ignore: scripted.ignore,
  async fn() {
    await using counted = await script('echo "$*" >> "$folder/runs"; exec ffmpeg "$@"');
    await using engine = await openSystemEngine({ path: counted.path, monotonic });
    assert.match(engine.description, /\d/);
    const runs = await Deno.readTextFile(join(counted.path, "..", "runs"));
    assert.equal(runs, "-encoders\n");
  },
});

Deno.test({
  name: "system: an ffmpeg without libx264 is refused",
  ignore: Deno.build.os === "windows",
  async fn() {
    await using small = await script(
      'echo "ffmpeg version 6.1 Copyright" >&2; echo " V..... h264_v4l2m2m"',
    );
    await assert.rejects(
      openSystemEngine({ path: small.path, monotonic }),
      /version 6\.1\) was built without libx264/,
    );
  },
});

Deno.test("system: the option against dropped pictures follows ffmpeg's version", () => {
  assert.deepEqual(passthroughOption("4.4.2-0ubuntu0.22.04.1"), ["-vsync", "passthrough"]);
  assert.deepEqual(passthroughOption("5.0.1"), ["-vsync", "passthrough"]);
  assert.deepEqual(passthroughOption("5.1.9-0+deb12u1"), ["-fps_mode", "passthrough"]);
  assert.deepEqual(passthroughOption("n7.1"), ["-fps_mode", "passthrough"]);
  assert.deepEqual(passthroughOption("N-112233-gabcdef"), ["-fps_mode", "passthrough"]);
});
