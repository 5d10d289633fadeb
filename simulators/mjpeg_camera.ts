/**
 * A simulated MJPEG camera: `/stream` gives the scene as `multipart/x-mixed-replace` (RFC 2046 §5.1),
 * with the boundaries and lengths that real cameras get wrong, and parts that are damaged on demand.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { systemClock } from "../core/clock.ts";
import type { Clock } from "../core/types.ts";
import { type Answer, type Asked, listenOnLoopback, type ServerTls } from "./http_server.ts";
import { createScene } from "./scene/scene.ts";
import { createDoor, type SnapshotAuth } from "./snapshot_camera.ts";

/** How the parts are put together. */
export interface MjpegFraming {
  /**
   * How the header names the boundary: as it is (`plain`), in quotes, with the dashes that only the
   * body has, not at all, or another one.
   */
  readonly boundary?: "plain" | "quoted" | "dashes" | "missing" | "wrong";
  /** `Content-Length` of a part: `right`, left out, too small or too large. */
  readonly length?: "right" | "none" | "small" | "large";
}

/**
 * What can be wrong with the next part: nothing in it, a text, a picture without its second half, one
 * that never ends, or the end of the stream in the middle of a picture.
 */
export type MjpegTrouble = "empty" | "text" | "truncated" | "endless" | "cut";

/** What an MJPEG camera is made from. */
export interface MjpegCameraOptions extends MjpegFraming {
  /** Written into the picture, and the seed of its place. */
  readonly name: string;
  /** 1280 by default. */
  readonly widthPx?: number;
  /** 720 by default. */
  readonly heightPx?: number;
  /** Pictures per second; 10 by default. */
  readonly fps?: number;
  /** 0, the default, takes any free port. */
  readonly port?: number;
  /** None by default. */
  readonly auth?: SnapshotAuth;
  /** Serve HTTPS with this certificate, which must name 127.0.0.1. */
  readonly tls?: ServerTls;
  /** The machine's own clocks by default. */
  readonly clock?: Clock;
  /** Told of each picture before it is sent, whole or not. */
  readonly onPicture?: (jpeg: Uint8Array, takenAtMs: number) => void;
  /** Closes the camera. */
  readonly signal?: AbortSignal;
}

/** A running MJPEG camera. */
export interface MjpegCamera extends AsyncDisposable {
  /** `http://127.0.0.1:PORT/stream` */
  readonly url: string;
  /** How many parts were sent, to all. */
  readonly parts: number;
  /** The next part has this trouble; those told first come first. */
  trouble(kind: MjpegTrouble): void;
  /** From now on it takes requests and says nothing, also in streams that run. */
  hang(): void;
  /** Breaks all connections and frees the port. */
  close(): Promise<void>;
}

const BOUNDARY = "frame";
const HEADERS: Readonly<Record<NonNullable<MjpegFraming["boundary"]>, string>> = {
  plain: `; boundary=${BOUNDARY}`,
  quoted: `; boundary="${BOUNDARY}"`,
  dashes: `; boundary=--${BOUNDARY}`,
  missing: "",
  wrong: "; boundary=other",
};

/** Starts an MJPEG camera; it runs until `close`, or until `signal` is aborted. */
export async function startMjpegCamera(options: MjpegCameraOptions): Promise<MjpegCamera> {
  options.signal?.throwIfAborted();
  const { name, widthPx = 1280, heightPx = 720, fps = 10, boundary = "plain" } = options;
  const clock = options.clock ?? systemClock;
  const scene = createScene({ name, widthPx, heightPx });
  const door = createDoor(options.auth ?? { type: "none" }, Math.random);
  const troubles: MjpegTrouble[] = [];
  let parts = 0;
  let hangs = false;

  async function* stream(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const startMs = clock.monotonic();
    try {
      for (let index = 1; !signal.aborted; index++) {
        if (!hangs) {
          const takenAtMs = clock.now();
          const jpeg = scene.frame({ counter: ++parts, takenAtMs });
          options.onPicture?.(jpeg, takenAtMs);
          const trouble = troubles.shift();
          yield* part(jpeg, trouble, options.length ?? "right", signal);
          if (trouble === "cut") return;
        }
        const dueMs = startMs + index * 1000 / fps;
        await clock.sleep(dueMs - clock.monotonic(), { signal });
      }
    } catch (error) {
      if (!signal.aborted) throw error; // the client has gone
    }
  }

  const server = await listenOnLoopback({
    ...{ port: options.port, tls: options.tls },
    handle: (asked: Asked): Answer => {
      if (hangs) return "never";
      if (asked.path !== "/stream") return { status: 404, body: "the stream is at /stream\n" };
      return door(asked) ?? {
        headers: { "content-type": `multipart/x-mixed-replace${HEADERS[boundary]}` },
        stream: stream(asked.signal),
      };
    },
  });
  const close = async () => {
    options.signal?.removeEventListener("abort", closeQuietly);
    await server.close();
  };
  const closeQuietly = () => void close();
  options.signal?.addEventListener("abort", closeQuietly, { once: true });
  if (options.signal?.aborted) await close();
  return {
    url: `${server.url}/stream`,
    get parts() {
      return parts;
    },
    trouble: (kind) => void troubles.push(kind),
    hang: () => void (hangs = true),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function* part(
  jpeg: Uint8Array,
  trouble: MjpegTrouble | undefined,
  length: NonNullable<MjpegFraming["length"]>,
  signal: AbortSignal,
): Generator<Uint8Array> {
  const half = jpeg.subarray(0, jpeg.length >> 1);
  const body = trouble === "empty"
    ? new Uint8Array()
    : trouble === "text"
    ? Buffer.from("no picture now")
    : trouble === undefined
    ? jpeg
    : half;
  const told = { right: body.length, small: body.length >> 1, large: body.length * 2, none: 0 };
  const type = trouble === "text" ? "text/plain" : "image/jpeg";
  const lengthLine = length === "none" ? "" : `Content-Length: ${told[length]}\r\n`;
  yield Buffer.from(`--${BOUNDARY}\r\nContent-Type: ${type}\r\n${lengthLine}\r\n`);
  yield body;
  while (trouble === "endless" && !signal.aborted) yield new Uint8Array(65_536).fill(0x55);
  if (trouble !== "cut") yield Buffer.from("\r\n");
}
