/**
 * The simulated scene as coded video, in which the ball rolls in some groups of pictures and lies still
 * in the others.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { AccessUnit, VideoTrack } from "../../core/types.ts";
import { createScene } from "../../simulators/mod.ts";
import { runFfmpeg } from "./ffmpeg.ts";
import { concat, parseRecording, STARTED_AT } from "./media_samples.ts";

/** Two pictures a second, four in a group. */
export const GOP_MS = 2000;
const PICTURES = 4;
const SIZE = { name: "Yard", widthPx: 640, heightPx: 360 };

/** The video, its units in decode order. */
export interface MovingScene {
  readonly track: VideoTrack;
  readonly units: readonly AccessUnit[];
  readonly file: Uint8Array<ArrayBuffer>;
}

interface MovingSceneOptions {
  readonly codec?: "h264" | "h265";
  /** Pictures are shown in another order than they are coded in. */
  readonly reordered?: boolean;
  /** Key pictures are no IDR pictures, but for the first. Of H.264; goes with reordering. */
  readonly isOpen?: boolean;
}

const made = new Map<string, Promise<MovingScene>>();

/** Encodes it, once in a process; `moves` has a group each. */
export function movingScene(
  moves: readonly boolean[],
  options: MovingSceneOptions = {},
): Promise<MovingScene> {
  const key = JSON.stringify([moves, options]);
  const scene = made.get(key) ?? encode(moves, options);
  made.set(key, scene);
  return scene;
}

async function encode(
  moves: readonly boolean[],
  { codec = "h264", reordered = false, isOpen = false }: MovingSceneOptions,
): Promise<MovingScene> {
  const still = createScene({ ...SIZE, still: true });
  const moving = createScene(SIZE);
  const pictures = moves.flatMap((isMoving, gop) =>
    Array.from({ length: PICTURES }, (_, index) => {
      const counter = gop * PICTURES + index;
      const takenAtMs = STARTED_AT.getTime() + counter * GOP_MS / PICTURES;
      return (isMoving ? moving : still).frame({ counter, takenAtMs });
    })
  );
  const frames = String(reordered ? 2 : 0);
  const coder = codec === "h264"
    ? [
      "-c:v",
      "libx264",
      "-preset",
      "ultrafast",
      "-bf",
      frames,
      "-sc_threshold",
      "0",
      "-x264-params",
      `open-gop=${isOpen ? 1 : 0}`,
    ]
    : [
      ...["-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-x265-params"],
      `bframes=${frames}:scenecut=0:keyint=${PICTURES}:min-keyint=${PICTURES}:log-level=none`,
    ];
  const { outputs } = await runFfmpeg({
    args: [
      ...["-f", "mjpeg", "-framerate", String(1000 * PICTURES / GOP_MS), "-i", "in.mjpeg"],
      ...[...coder, "-g", String(PICTURES), "-pix_fmt", "yuv420p", "out.mp4"],
    ],
    inputs: { "in.mjpeg": concat(pictures) },
    outputs: ["out.mp4"],
  });
  const file = new Uint8Array(outputs["out.mp4"] ?? []);
  const { tracks: [track], units } = await parseRecording(file);
  assert.ok(track?.kind === "video");
  return { track, units, file };
}
