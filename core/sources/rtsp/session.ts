/**
 * An RTSP session: pictures and sound of one camera as access units. `client.ts` talks to the camera,
 * `video_assembler.ts` and `audio_payload.ts` put units together, `media_time.ts` says when they were;
 * here they are joined, watched over, and ended.
 *
 * The session is open when the first key picture is whole, so that its tracks are those of what
 * really comes and not of what the description promised. It ends with its cause when the camera
 * closes it, says good-bye, or sends no picture for ten seconds.
 *
 * @module
 */
import {
  type AccessUnit,
  type Clock,
  type Log,
  type Session,
  sourceError,
  type Track,
  type VideoTrack,
} from "../../types.ts";
import { isUnsupportedTransport, openRtspClient, type RtspClient } from "./client.ts";
import { Pipeline } from "./pipeline.ts";
import type { SdpMedia } from "./sdp.ts";
import { openUdpReceiver, type UdpReceiver } from "./udp.ts";
import { createUnitOutput, type UnitOutput } from "./unit_output.ts";
import { describeRtspUrl, parseRtspUrl } from "./url.ts";

/** What a session is opened with. */
export interface RtspSessionOptions {
  /** `rtsp://` or `rtsps://`; a login in it is used where `credentials` are not given. */
  readonly url: string;
  readonly credentials?: { readonly username: string; readonly password: string };
  /** A PEM file of certificates to trust beside the usual ones. */
  readonly ca?: string;
  /** `auto`, the default: TCP, or UDP where the camera refuses TCP. */
  readonly transport?: "auto" | "tcp" | "udp";
  /** `auto`, the default: sound is recorded where there is any that can be. */
  readonly audio?: "auto" | "off";
  readonly clock: Clock;
  readonly log: Log;
  /** So long no picture is endured, ms. Default ten seconds. */
  readonly silenceMs?: number;
  /** Frames by which pictures are reordered, where an earlier session has found out. */
  readonly reorderFrames?: number;
  /** Called when this session finds out. */
  readonly onReorder?: (frames: number) => void;
}

/** What a session has been through. */
export interface RtspCounters {
  /** Pictures yielded. */
  readonly pictures: number;
  /** Pictures left out because they were damaged or not decodable. */
  readonly dropped: number;
  /** Packets that never came. */
  readonly lostPackets: number;
  /** Bytes of the connection that belonged to nothing. */
  readonly skippedBytes: number;
}

/** A {@linkcode Session} that tells how it went. */
export interface RtspSession extends Session {
  readonly counters: RtspCounters;
}

const SILENCE_MS = 10_000;
/** Losses are told at most so often, ms. */
const TELL_LOSS_MS = 60_000;

/**
 * Opens a camera's stream, and resolves when the first key picture is there.
 *
 * @throws a source error, or the signal's reason when aborted
 */
export async function openRtspSession(
  options: RtspSessionOptions,
  { signal }: { readonly signal: AbortSignal },
): Promise<RtspSession> {
  signal.throwIfAborted();
  const live = new LiveSession(options, signal);
  try {
    await live.open();
    return live;
  } catch (error) {
    await live[Symbol.asyncDispose]();
    throw signal.aborted ? signal.reason : error;
  }
}

class LiveSession implements RtspSession {
  readonly #options: RtspSessionOptions;
  readonly #signal: AbortSignal;
  readonly #what: string;
  /** Aborted when the session is over, for whatever reason. */
  readonly #over = new AbortController();
  readonly #output: UnitOutput;
  readonly #opened = Promise.withResolvers<void>();
  readonly #udp: UdpReceiver[] = [];
  #client: RtspClient | undefined;
  #pipeline: Pipeline | undefined;
  #videoTrack: VideoTrack | undefined;
  /** Which stream a channel belongs to, and whether it is its RTCP. */
  readonly #channels = new Map<
    number,
    { readonly kind: "video" | "audio"; readonly rtcp: boolean }
  >();
  readonly #packet = { data: new Uint8Array() as Uint8Array, from: 0, to: 0 };
  /** Of what has just been read. */
  #newestPicture: (AccessUnit & { endsBurst?: boolean }) | undefined;
  #lastPictureMs = Infinity;
  #arrivalMs = 0;
  #lostUntold = 0;
  #toldLossMs = -Infinity;
  #closing: Promise<void> | undefined;

  constructor(options: RtspSessionOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
    const url = parseRtspUrl(options.url);
    this.#what = url === undefined ? "rtsp" : describeRtspUrl(url);
    this.#output = createUnitOutput({
      onDrained: () => this.#client?.connection.hold(false),
      onLeft: () => this[Symbol.asyncDispose](),
    });
    this.#opened.promise.catch(() => {});
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  get tracks(): readonly Track[] {
    return [this.#videoTrack, this.#pipeline?.audioTrack].filter((track) => track !== undefined);
  }

  get counters(): RtspCounters {
    return {
      pictures: 0,
      dropped: 0,
      lostPackets: 0,
      ...this.#pipeline?.counters,
      skippedBytes: this.#client?.connection.skippedBytes ?? 0,
    };
  }

  [Symbol.asyncIterator](): AsyncIterator<AccessUnit> {
    return this.#output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#output.close();
    await this.#close();
  }

  readonly #onAbort = () => {
    this.#opened.reject(this.#signal.reason);
    this.#output.close();
    this.#close();
  };

  /** Connects and waits for the first key picture. */
  async open(): Promise<void> {
    const { clock, log, ca } = this.#options;
    const url = parseRtspUrl(this.#options.url);
    if (url === undefined) {
      throw sourceError(
        "protocol",
        "url: expected an address that starts with rtsp:// or rtsps://",
      );
    }
    const client = await openRtspClient({
      url,
      credentials: this.#options.credentials ?? url.credentials,
      ca,
      clock,
      log,
      signal: this.#over.signal,
      onFrame: (channel, data, from, to) => this.#onFrame(channel, data, from, to),
      onRead: () => this.#onRead(),
      onRest: () => this.#onRest(),
      onLost: (error) => this.#fail(error),
    });
    this.#client = client;
    this.#over.signal.throwIfAborted();
    const { video, audio } = chooseMedia(client.sdp.media, this.#options, this.#what);
    const pipeline = new Pipeline({
      video,
      codec: video.encoding === "H264" ? "h264" : "h265",
      audio,
      reorderFrames: this.#options.reorderFrames ?? 0,
      onReady: (track) => {
        this.#videoTrack = track;
        this.#opened.resolve();
      },
      onUnit: (unit) => this.#onUnit(unit),
      onLost: (packets) => this.#onLost(packets),
      onReorder: (frames) => this.#options.onReorder?.(frames),
      onBye: () => this.#fail(sourceError("offline", `${this.#what}: the camera ended the stream`)),
    });
    this.#pipeline = pipeline;
    if (pipeline.soundProblem !== undefined) {
      log.warn(`its sound is left out: ${pipeline.soundProblem}; expected AAC, Opus or G.711`);
    }
    await this.#setUp(client, {
      video,
      audio: pipeline.audioTrack === undefined ? undefined : audio,
    });
    this.#lastPictureMs = clock.monotonic();
    this.#watch().catch(() => {}); // over
    this.#keepAlive(client).catch((error) => this.#fail(error));
    await this.#opened.promise;
  }

  async #setUp(
    client: RtspClient,
    media: { readonly video: SdpMedia; readonly audio: SdpMedia | undefined },
  ): Promise<void> {
    const { transport = "auto" } = this.#options;
    const uris: Partial<Record<"video" | "audio", string>> = {};
    let useUdp = transport === "udp";
    for (const kind of ["video", "audio"] as const) {
      const wanted = media[kind];
      if (wanted === undefined) continue;
      if (!useUdp) {
        try {
          const channel = kind === "video" ? 0 : 2;
          const stream = await client.setUp(wanted, { channel });
          this.#channels.set(stream.channel ?? channel, { kind, rtcp: false });
          this.#channels.set((stream.channel ?? channel) + 1, { kind, rtcp: true });
          uris[kind] = stream.uri;
          continue;
        } catch (error) {
          if (transport !== "auto" || kind === "audio" || !isUnsupportedTransport(error)) {
            throw error;
          }
          this.#options.log.debug("the camera does not send over TCP: UDP is used");
          useUdp = true;
        }
      }
      const udp = openUdpReceiver({
        onPacket: (data, rtcp) => {
          this.#arrive();
          this.#take(kind, { rtcp, data, from: 0, to: data.length });
        },
      });
      this.#udp.push(udp);
      const stream = await client.setUp(wanted, { ports: udp.ports });
      udp.from(client.connection.remoteAddress, stream.serverPorts);
      uris[kind] = stream.uri;
    }
    const begins = await client.play();
    this.#pipeline?.begin({
      video: begins.get(uris.video ?? ""),
      audio: begins.get(uris.audio ?? ""),
    });
    for (const udp of this.#udp) udp.greet();
    // Over UDP only answers come this way, and seldom.
    if (this.#udp.length === 0) client.connection.gather(true);
  }

  #onRead(): void {
    this.#arrive();
    if (this.#output.isFull) this.#client?.connection.hold(true);
  }

  #onRest(): number | undefined {
    const newest = this.#newestPicture;
    if (newest === undefined || this.#udp.length > 0) return undefined; // pictures come one by one
    newest.endsBurst = true;
    this.#newestPicture = undefined;
    this.#pipeline?.rest();
    return this.#arrivalMs - newest.dtsUs / 1000;
  }

  #arrive(): void {
    const { clock } = this.#options;
    this.#arrivalMs = clock.monotonic();
    this.#pipeline?.arrive(this.#arrivalMs, clock.now());
  }

  #onFrame(channel: number, data: Uint8Array, from: number, to: number): void {
    const stream = this.#channels.get(channel);
    if (stream === undefined) return;
    const packet = this.#packet;
    packet.data = data;
    packet.from = from;
    packet.to = to;
    if (stream.rtcp) this.#pipeline?.rtcp(stream.kind, packet);
    else this.#pipeline?.rtp(stream.kind, packet);
  }

  #take(
    kind: "video" | "audio",
    packet: { readonly rtcp: boolean; data: Uint8Array; from: number; to: number },
  ): void {
    // A camera that sends faster than is written loses pictures, not us our memory.
    if (this.#output.isFull && !packet.rtcp) return;
    if (packet.rtcp) this.#pipeline?.rtcp(kind, packet);
    else this.#pipeline?.rtp(kind, packet);
  }

  #onUnit(unit: AccessUnit): void {
    if (unit.trackId === this.#videoTrack?.id) {
      this.#lastPictureMs = this.#arrivalMs;
      this.#newestPicture = unit;
    }
    this.#output.push(unit);
  }

  #onLost(packets: number): void {
    const { clock, log } = this.#options;
    this.#lostUntold += packets;
    if (clock.monotonic() - this.#toldLossMs < TELL_LOSS_MS) return;
    this.#toldLossMs = clock.monotonic();
    log.warn(
      `${this.#lostUntold} packets from the camera are missing: pictures are left out up to the next key picture`,
      { event: "packets-lost", packets: this.#lostUntold },
    );
    this.#lostUntold = 0;
  }

  /** Ends the session when no picture has come for too long. */
  async #watch(): Promise<void> {
    const { clock, silenceMs = SILENCE_MS } = this.#options;
    while (true) {
      const restMs = this.#lastPictureMs + silenceMs - clock.monotonic();
      if (restMs <= 0) break;
      await clock.sleep(restMs, { signal: this.#over.signal });
    }
    const counters = this.#pipeline?.counters;
    const seconds = Math.round(silenceMs / 1000);
    this.#fail(sourceError(
      counters?.packets ? "protocol" : "offline",
      `${this.#what}: no picture for ${seconds} s` +
        (counters?.withoutParameterSets
          ? ": the camera sends no parameter sets (SPS, PPS), neither in its description nor in the stream"
          : counters?.packets
          ? `: ${counters.packets} packets came, but no whole key picture; set a shorter key-frame interval in the camera`
          : ": the camera sends nothing"),
    ));
  }

  async #keepAlive(client: RtspClient): Promise<void> {
    const { clock } = this.#options;
    while (!this.#over.signal.aborted) {
      try {
        await clock.sleep(client.keepAliveMs, { signal: this.#over.signal });
      } catch {
        return;
      }
      await client.keepAlive();
      for (const udp of this.#udp) udp.greet();
    }
  }

  /** The session has ended by itself. */
  #fail(error: unknown): void {
    if (this.#over.signal.aborted) return;
    this.#pipeline?.flush();
    this.#opened.reject(error);
    this.#output.end(error);
    this.#close({ wait: false }); // who has fallen silent gives no answer either
  }

  #close({ wait }: { readonly wait: boolean } = { wait: true }): Promise<void> {
    this.#closing ??= (async () => {
      this.#signal.removeEventListener("abort", this.#onAbort);
      const client = this.#client;
      // The connection lives on for a moment, to say good-bye.
      await client?.tearDown({ wait }).catch(() => {});
      this.#over.abort(sourceError("offline", `${this.#what}: the session is over`));
      for (const udp of this.#udp) udp.close();
    })();
    return this.#closing;
  }
}

/** The streams to record: the first video that can be, and the first sound. */
function chooseMedia(
  media: readonly SdpMedia[],
  { audio }: Pick<RtspSessionOptions, "audio">,
  what: string,
): { readonly video: SdpMedia; readonly audio: SdpMedia | undefined } {
  const wanted = media.filter(({ isSendOnly }) => !isSendOnly);
  const videos = wanted.filter(({ kind }) => kind === "video");
  const video = videos.find(({ encoding }) => ["H264", "H265", "HEVC"].includes(encoding));
  if (video === undefined) {
    const found = videos.map(({ encoding }) => encoding || "an unknown codec").join(", ");
    throw sourceError(
      "protocol",
      `${what}: expected a stream of H.264 or H.265, got ${found || "no video at all"}` +
        (found.includes("JPEG") ? "; set the camera to H.264" : ""),
    );
  }
  return {
    video,
    audio: audio === "off" ? undefined : wanted.find(({ kind }) => kind === "audio"),
  };
}
