/**
 * One camera of the simulated cloud: who it is, how it is doing, and the pictures it takes.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Clock } from "../../core/types.ts";
import { type CodedScene, createCodedScene, type SceneOrigin } from "../scene/coded_scene.ts";
import { createScene, type Scene } from "../scene/scene.ts";
import { PROFILE } from "./nexus_wire.ts";

/** How a camera is doing: reachable, out of reach, or switched off by its owner. */
export type CameraState = "online" | "offline" | "off";

/** What a simulated camera is made from. */
export interface NestCameraOptions {
  /** What its owner calls it; also the seed of its picture. */
  readonly name: string;
  /** The regional host that serves it: `us1` by default. */
  readonly region?: string;
  /** The widest picture that it gives; 1280 by default. */
  readonly widthPx?: number;
  /** 720 by default. */
  readonly heightPx?: number;
  /** How often the picture changes; without it every request gets a new one. */
  readonly fps?: number;
  /** A scene in which nothing moves. */
  readonly still?: boolean;
  /** Serves a live stream (NexusTalk) beside its pictures; without it it does not. */
  readonly live?: LiveOptions;
  /** How it is doing at first; `online` by default. */
  readonly state?: CameraState;
  /** 32 hex digits; made from the name by default. */
  readonly uuid?: string;
}

/** How a camera streams. */
export interface LiveOptions {
  /** 15 by default. */
  readonly fps?: number;
  /** Pictures from one key picture to the next; a second by default. */
  readonly gopPictures?: number;
  /** Slices of a picture, each a NAL unit; 2 by default. */
  readonly slices?: number;
  /** Of the best profile. */
  readonly bitsPerSecond?: number;
  /** AAC sound, 48 kHz mono; true by default. */
  readonly audio?: boolean;
  /** A folder in which the encoded scene is kept for the next time. */
  readonly cacheFolder?: string;
}

/** What a camera has served. */
export interface ServedCounts {
  /** Requests for a picture, refused ones too. */
  readonly requests: number;
  /** Pictures given, whole or spoiled by a fault. */
  readonly pictures: number;
  /** Bytes of the pictures given. */
  readonly bytes: number;
  /** Counter of the newest frame; 0 before the first. */
  readonly lastCounter: number;
  /** When the newest frame was taken, wall ms. */
  readonly lastTakenAtMs?: number;
  /** Playbacks of the live stream. */
  readonly liveSessions: number;
  /** Pictures sent in them. */
  readonly livePictures: number;
  /** Counter of the newest of these; 0 before the first. */
  readonly lastLiveCounter: number;
}

/** A camera as a test sees it. */
export interface NestCamera {
  /** 32 hex digits, as discovery gives them. */
  readonly uuid: string;
  /** What its owner calls it. */
  readonly name: string;
  /** The regional host that serves it: `us1`, `eu1` … */
  readonly region: string;
  /** Width of its widest picture, px. */
  readonly widthPx: number;
  /** Height of its widest picture, px. */
  readonly heightPx: number;
  /** How it is doing. */
  readonly state: CameraState;
  /** What it has served so far. */
  readonly served: ServedCounts;
  /** Switches it off, cuts it off, or brings it back; those who wait for changes are told. */
  setState(state: CameraState): void;
  /** Moves it to Google Home, as its owner can. */
  migrate(): void;
  /** Resolves when its live scene is encoded; `other` is the one that follows a parameter change. */
  ready(which?: "other"): Promise<void>;
}

/** The narrowest picture that a scene has. */
const LEAST_WIDTH_PX = 160;
/** Sizes kept ready per camera; programs ask for one, a web page for another. */
const SCENES_KEPT = 3;

/** A camera as the servers see it. */
export class CameraModel implements NestCamera {
  readonly uuid: string;
  readonly name: string;
  readonly region: string;
  readonly widthPx: number;
  readonly heightPx: number;
  readonly serial: string;
  readonly #fps: number | undefined;
  readonly #still: boolean;
  readonly #clock: Clock;
  readonly #onChange: () => void;
  readonly #scenes = new Map<number, Scene>();
  readonly #counts = {
    ...{ requests: 0, pictures: 0, bytes: 0, lastCounter: 0 },
    ...{ liveSessions: 0, livePictures: 0, lastLiveCounter: 0 },
  };
  readonly #origin: SceneOrigin;
  readonly live: LiveOptions | undefined;
  /** As the buckets tell it: `NORMAL` until the camera is moved to Google Home. */
  migration = "NORMAL";
  #lastTakenAtMs: number | undefined;
  #last: { readonly slot: number; readonly widthPx: number; readonly jpeg: Uint8Array } | undefined;
  #state: CameraState;
  /** Counts the changes, as the buckets of the home API do. */
  revision = 1;
  changedAtMs: number;

  constructor(
    options: NestCameraOptions,
    context: { readonly clock: Clock; readonly onChange: () => void },
  ) {
    const digest = createHash("sha256").update(`camera ${options.name}`).digest("hex");
    this.uuid = options.uuid ?? digest.slice(0, 32);
    this.serial = digest.slice(32, 48).toUpperCase();
    this.name = options.name;
    this.region = options.region ?? "us1";
    this.widthPx = options.widthPx ?? 1280;
    this.heightPx = options.heightPx ?? 720;
    this.#fps = options.fps;
    this.#still = options.still ?? false;
    this.#state = options.state ?? "online";
    this.#clock = context.clock;
    this.#onChange = context.onChange;
    this.changedAtMs = context.clock.now();
    this.live = options.live;
    this.#origin = { monotonicMs: context.clock.monotonic(), wallMs: context.clock.now() };
  }

  /** The video profiles of its live stream, the best one first. */
  get liveProfiles(): readonly number[] {
    if (!this.live) return [];
    const best = this.widthPx >= 1920 ? [PROFILE.h264For2M] : [];
    return [...best, PROFILE.h264For530k, PROFILE.h264For100k];
  }

  /** Its live scene in a profile; encoded when it is first asked for. */
  scene(profile: number): Promise<CodedScene> {
    const widestPx = { [PROFILE.h264For530k]: 1280, [PROFILE.h264For100k]: 640 }[profile];
    return this.#liveScene(Math.min(this.widthPx, widestPx ?? this.widthPx), profile);
  }

  async ready(which?: "other"): Promise<void> {
    const [best] = this.liveProfiles;
    if (best === undefined) return;
    await (which === "other" ? this.otherScene(best) : this.scene(best));
  }

  /** The same in another size. */
  otherScene(profile: number): Promise<CodedScene> {
    return this.#liveScene(this.widthPx === 320 ? 640 : 320, profile);
  }

  #liveScene(widthPx: number, profile: number): Promise<CodedScene> {
    const { live = {} } = this;
    return createCodedScene({
      name: this.name,
      widthPx,
      heightPx: Math.max(90, Math.round(widthPx * this.heightPx / this.widthPx / 2) * 2),
      fps: live.fps,
      gopPictures: live.gopPictures,
      slices: live.slices ?? 2,
      bitsPerSecond: profile === this.liveProfiles[0] ? live.bitsPerSecond : undefined,
      audio: live.audio === false ? undefined : { codec: "aac" },
      cacheFolder: live.cacheFolder,
      clock: this.#clock,
      origin: this.#origin,
    });
  }

  /** Moves it to Google Home: its live stream and pictures are no longer served here. */
  migrate(): void {
    this.migration = "MIGRATED";
    this.revision++;
    this.changedAtMs = this.#clock.now();
    this.#onChange();
  }

  /** Notes a playback. */
  countLiveSession(): void {
    this.#counts.liveSessions++;
  }

  /** Notes a picture sent in a playback. */
  countLivePicture(counter: number): void {
    this.#counts.livePictures++;
    this.#counts.lastLiveCounter = Math.max(this.#counts.lastLiveCounter, counter);
  }

  get state(): CameraState {
    return this.#state;
  }

  get served(): ServedCounts {
    return { ...this.#counts, lastTakenAtMs: this.#lastTakenAtMs };
  }

  setState(state: CameraState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.revision++;
    this.changedAtMs = this.#clock.now();
    this.#onChange();
  }

  /** Notes that a picture was asked for. */
  countRequest(): void {
    this.#counts.requests++;
  }

  /** The picture of now, as wide as asked but never wider than the camera has it. */
  picture(askedWidthPx: number | undefined): Uint8Array {
    const widthPx = this.#servedWidth(askedWidthPx);
    const takenAtMs = this.#clock.now();
    const slot = this.#fps === undefined ? NaN : Math.floor(takenAtMs * this.#fps / 1000);
    if (this.#last?.slot !== slot || this.#last.widthPx !== widthPx) {
      const counter = ++this.#counts.lastCounter;
      this.#lastTakenAtMs = takenAtMs;
      const jpeg = this.#scene(widthPx).frame({ counter, takenAtMs });
      this.#last = { slot, widthPx, jpeg };
    }
    this.#counts.pictures++;
    this.#counts.bytes += this.#last.jpeg.length;
    return this.#last.jpeg;
  }

  #servedWidth(asked: number | undefined): number {
    if (asked === undefined || !Number.isFinite(asked) || asked <= 0) return this.widthPx;
    return Math.min(this.widthPx, Math.max(LEAST_WIDTH_PX, Math.round(asked / 2) * 2));
  }

  #scene(widthPx: number): Scene {
    let scene = this.#scenes.get(widthPx);
    if (!scene) {
      const heightPx = Math.max(90, Math.round(widthPx * this.heightPx / this.widthPx / 2) * 2);
      scene = createScene({ name: this.name, widthPx, heightPx, still: this.#still });
      if (this.#scenes.size >= SCENES_KEPT) {
        for (const oldest of this.#scenes.keys()) {
          this.#scenes.delete(oldest);
          break;
        }
      }
      this.#scenes.set(widthPx, scene);
    }
    return scene;
  }
}
