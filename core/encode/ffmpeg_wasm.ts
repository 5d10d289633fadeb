/**
 * The in-process engine: ffmpeg.wasm (`@ffmpeg/core`) in a bounded set of workers that all cameras
 * share. A GOP is one job. As long as there are at least as many workers as cameras, a camera's GOP
 * gets a worker at its first picture and is encoded live; a worker that waits for a picture costs no
 * CPU. With more cameras than workers a GOP is gathered first and encoded in a burst, because a
 * worker must not be held by a camera that is only taking its time.
 *
 * The wasm is compiled once and the module shared: a worker costs about 20 MB beyond the picture
 * buffers. A worker that crashes is replaced and costs its GOP.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import {
  type Engine,
  type Gop,
  type GopOptions,
  type GopResult,
  type Lane,
  MAX_INSIDE,
} from "./engine.ts";
import { INPUT_DEVICE, OUTPUT_DEVICE, type WorkerReport } from "./ffmpeg_wasm_worker_protocol.ts";
import { matroskaHeader, matroskaPicture } from "./matroska.ts";
import { ffmpegArguments, PICTURE_MS, timeOfPicture } from "./x264.ts";
