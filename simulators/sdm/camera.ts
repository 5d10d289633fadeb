/**
 * One camera of the simulated Device Access project: its traits, its streams that live five minutes
 * unless they are extended, and what the stream commands do to them. How the media of a stream is
 * served is given from outside, so that a day of sessions can be simulated without a packet.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Clock } from "../../core/types.ts";
import { type Answer, json, type Reply } from "../http_server.ts";
import { googleError } from "./google_error.ts";

/** Which family of stream commands a camera understands. */
export type SdmProtocol = "RTSP" | "WEB_RTC";

/** What a simulated camera is made from. */
export interface SdmCameraOptions {
  /** What its owner calls it; without it the room names it, or nothing does. */
  readonly customName?: string;
  /** The room that it is in. */
  readonly room?: string;
  /** Names its picture, and the faults that are for it; customName or room by default. */
  readonly name?: string;
  /** `CAMERA` by default. */
  readonly type?: "CAMERA" | "DOORBELL" | "DISPLAY";
  /** `WEB_RTC` by default. */
  readonly protocol?: SdmProtocol;
  /** Runs on a battery: its streams cannot be extended. */
  readonly battery?: boolean;
  /** How many streams may be open at a time; 2 by default. With 1 the next is refused with 409. */
  readonly maxStreams?: number;
  /** Traits to add or, as `null`, to leave out. */
  readonly traits?: Readonly<Record<string, unknown>>;
  /** 640 by default. */
  readonly widthPx?: number;
  /** 360 by default. */
  readonly heightPx?: number;
}

/** Where the media of a stream comes from. */
export interface ServedMedia {
  /** The URL of an RTSP stream without its query, or the SDP answer of a WebRTC one. */
  readonly where: string;
  /** Ends it; the client is cut off. */
  close(): void;
}

/** Serves the media of streams. */
export interface SdmMedia {
  /** `stream.isAlive()` and `stream.auth` are to be looked at whenever a client comes. */
  rtsp(camera: SdmCamera, stream: SdmStream): Promise<ServedMedia>;
  /** @throws if the offer is none that a Nest camera takes, with what is wrong */
  webRtc(camera: SdmCamera, stream: SdmStream, offerSdp: string): Promise<ServedMedia>;
}

/** A stream that was generated. */
export interface SdmStream {
  readonly id: string;
  readonly protocol: SdmProtocol;
  /** What the query of a new RTSP connection must hold: `auth=…`. */
  readonly auth: string;
  /** Until its time is over; some seconds longer than it says. */
  isAlive(): boolean;
}

/** Counts of what a camera was asked. */
export interface SdmCounts {
  /** Streams generated. */
  generated: number;
  /** Streams made longer. */
  extended: number;
  /** Streams stopped by the client. */
  stopped: number;
  /** Streams that ran out. */
  expired: number;
}

interface OwnStream extends SdmStream {
  auth: string;
  /** The token or session id that the next Extend or Stop must name. */
  handle: string;
  generation: number;
  /** Monotonic. */
  expiresAtMs: number;
  media: ServedMedia | undefined;
  closed: boolean;
}

/** Streams were seen to live 22 s longer than they say. */
const GRACE_MS = 22_000;
const LIVE = "sdm.devices.traits.CameraLiveStream";

/** What a camera works with. */
export interface SdmCameraContext {
  readonly clock: Clock;
  readonly random: () => number;
  readonly media: SdmMedia;
  readonly projectId: string;
  readonly structureId: string;
  /** How long a stream lives unless it is extended. */
  readonly streamLifeMs: number;
}

/** See the module. */
export class SdmCamera {
  readonly id: string;
  readonly name: string;
  readonly options: SdmCameraOptions;
  readonly widthPx: number;
  readonly heightPx: number;
  readonly counts: SdmCounts = { generated: 0, extended: 0, stopped: 0, expired: 0 };
  protocol: SdmProtocol;
  online = true;
  /** Google waits for it in vain: Generate is never answered, and its streams carry nothing. */
  hangs = false;
  readonly #context: SdmCameraContext;
  readonly #streams = new Map<string, OwnStream>();

  constructor(options: SdmCameraOptions, context: SdmCameraContext) {
    this.options = options;
    this.#context = context;
    this.name = options.name ?? options.customName ?? options.room ?? "Camera";
    this.id = `AVPHwE${createHash("sha256").update(this.name).digest("base64url")}`;
    this.protocol = options.protocol ?? "WEB_RTC";
    this.widthPx = options.widthPx ?? 640;
    this.heightPx = options.heightPx ?? 360;
  }

  /** `enterprises/P/devices/D`. */
  get path(): string {
    return `enterprises/${this.#context.projectId}/devices/${this.id}`;
  }

  /** The room's id; `undefined` for a camera that is in none. */
  get roomId(): string | undefined {
    const { room } = this.options;
    return room === undefined
      ? undefined
      : createHash("sha256").update(`room ${room}`).digest("base64url").slice(0, 20);
  }

  /** The device as `devices.list` shows it. */
  describe(): object {
    const { type = "CAMERA", customName, room, battery, traits = {} } = this.options;
    const { projectId, structureId } = this.#context;
    const parent = `enterprises/${projectId}/structures/${structureId}` +
      (this.roomId === undefined ? "" : `/rooms/${this.roomId}`);
    const all: Record<string, unknown> = {
      "sdm.devices.traits.Info": customName === undefined ? {} : { customName },
      [LIVE]: {
        videoCodecs: ["H264"],
        audioCodecs: [this.protocol === "RTSP" ? "AAC" : "OPUS"],
        maxVideoResolution: { width: this.widthPx, height: this.heightPx },
        supportedProtocols: [this.protocol],
      },
      "sdm.devices.traits.CameraPerson": {},
      "sdm.devices.traits.CameraMotion": {},
      ...(battery || type === "DOORBELL"
        ? { "sdm.devices.traits.CameraClipPreview": {} }
        : { "sdm.devices.traits.CameraEventImage": {}, "sdm.devices.traits.CameraSound": {} }),
      ...(type === "DOORBELL" ? { "sdm.devices.traits.DoorbellChime": {} } : {}),
      ...traits,
    };
    return {
      name: this.path,
      type: `sdm.devices.types.${type}`,
      assignee: parent,
      traits: Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null)),
      parentRelations: [{ parent, ...(room === undefined ? {} : { displayName: room }) }],
    };
  }

  /** Streams that are open now. */
  get openStreams(): number {
    this.#sweep();
    return this.#streams.size;
  }

  /** From now on it understands the other protocol, as after a move to Google Home; streams end. */
  migrate(protocol: SdmProtocol): void {
    this.protocol = protocol;
    this.dropStreams();
  }

  /** Switches it off, or on again. */
  setOnline(online: boolean): void {
    this.online = online;
    if (!online) this.dropStreams();
  }

  /** Ends every stream, as a camera that restarts does. */
  dropStreams(): void {
    for (const stream of this.#streams.values()) this.#end(stream);
  }

  /** Does one of the stream commands; `name` is `GenerateRtspStream` … */
  async command(name: string, params: Readonly<Record<string, unknown>>): Promise<Answer> {
    this.#sweep();
    const [, verb, family] = /^(Generate|Extend|Stop)(Rtsp|WebRtc)Stream$/.exec(name) ?? [];
    const protocol: SdmProtocol = family === "Rtsp" ? "RTSP" : "WEB_RTC";
    if (verb === "Generate" && this.hangs) return "never";
    if (verb === "Generate") return await this.#generate(protocol, params);
    const key = protocol === "RTSP" ? "streamExtensionToken" : "mediaSessionId";
    const handle = params[key];
    const stream = [...this.#streams.values()].find((stream) => stream.handle === handle);
    if (verb === "Stop") {
      if (stream === undefined) return this.#invalid(`no stream has this ${key}`);
      this.counts.stopped++;
      this.#end(stream);
      return json({});
    }
    if (this.options.battery) {
      return googleError("FAILED_PRECONDITION", "Command is not supported for doorbell.");
    }
    if (protocol !== this.protocol) return this.#invalid(`it is a ${this.protocol} camera`);
    if (stream === undefined) return this.#invalid(`no stream has this ${key}, or no longer`);
    this.counts.extended++;
    stream.generation++;
    stream.expiresAtMs = this.#context.clock.monotonic() + this.#context.streamLifeMs;
    return json({ results: this.#renew(stream) });
  }

  async #generate(
    protocol: SdmProtocol,
    params: Readonly<Record<string, unknown>>,
  ): Promise<Reply> {
    if (protocol !== this.protocol) return this.#invalid(`it is a ${this.protocol} camera`);
    if (!this.online) {
      return googleError("FAILED_PRECONDITION", "The camera is not available for streaming.");
    }
    if (this.#streams.size >= (this.options.maxStreams ?? 2)) {
      return googleError("ABORTED", "A stream of this camera is still open.");
    }
    const { clock, media } = this.#context;
    const stream: OwnStream = {
      id: this.#text(24),
      protocol,
      auth: "",
      handle: "",
      generation: 0,
      expiresAtMs: clock.monotonic() + this.#context.streamLifeMs,
      media: undefined,
      closed: false,
      isAlive: () => {
        if (!stream.closed && clock.monotonic() >= stream.expiresAtMs + GRACE_MS) {
          this.counts.expired++;
          this.#end(stream);
        }
        return !stream.closed;
      },
    };
    this.#streams.set(stream.id, stream);
    const renewed = this.#renew(stream);
    try {
      stream.media = protocol === "RTSP"
        ? await media.rtsp(this, stream)
        : await media.webRtc(this, stream, String(params["offerSdp"] ?? ""));
    } catch (error) {
      this.#end(stream);
      return this.#invalid(error instanceof Error ? error.message : String(error));
    }
    if (stream.closed) stream.media.close();
    this.counts.generated++;
    const where = stream.media.where;
    return json({
      results: protocol === "RTSP"
        ? { streamUrls: { rtspUrl: `${where}?${stream.auth}` }, ...renewed }
        : { answerSdp: where, ...renewed },
    });
  }

  /** New tokens in place of the old ones, and until when they are good. */
  #renew(stream: OwnStream): object {
    const { clock } = this.#context;
    const expiresAt = new Date(clock.now() + stream.expiresAtMs - clock.monotonic()).toISOString();
    if (stream.protocol === "WEB_RTC") {
      // The id changes now and then: a client has to take up the newest.
      if (stream.generation % 2 === 0) stream.handle = this.#text(32);
      return { mediaSessionId: stream.handle, expiresAt };
    }
    const streamToken = `g.${stream.generation}.${this.#text(24)}`;
    stream.auth = `auth=${streamToken}`;
    stream.handle = `CjY5Y3VKaTfMF${this.#text(24)}`;
    return { streamToken, streamExtensionToken: stream.handle, expiresAt };
  }

  #sweep(): void {
    for (const stream of this.#streams.values()) stream.isAlive();
  }

  #end(stream: OwnStream): void {
    if (stream.closed) return;
    stream.closed = true;
    this.#streams.delete(stream.id);
    stream.media?.close();
  }

  #invalid(reason: string): Reply {
    return googleError("INVALID_ARGUMENT", "Request contains an invalid argument.", reason);
  }

  #text(length: number): string {
    const { random } = this.#context;
    return Array.from({ length }, () => Math.floor(random() * 36).toString(36)).join("");
  }
}
