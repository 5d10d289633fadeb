/**
 * A session of NexusTalk, Nest's live video: from HELLO over OK, START_PLAYBACK and PLAYBACK_BEGIN to
 * a stream of pictures and sound, over as many connections as the servers' redirects make of it.
 *
 * It ends with its cause when the camera is lost: no packet of the playback for ten seconds, the
 * playback ended by the server, the connection broken. Everything that was whole by then is
 * yielded first. It is not begun again here; that is the recorder's business.
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
} from "../../types.ts";
import { unitsOf } from "../unit_batches.ts";
import type { NestAuth } from "./auth.ts";
import { StreamCredentials, type TokenMemory } from "./nexus_credentials.ts";
import {
  AUDIO_AAC,
  authorizePacket,
  END_REASON,
  ERROR_CODE,
  helloPacket,
  PACKET,
  type Packet,
  PacketReader,
  pingPacket,
  readError,
  readPlaybackBegin,
  readPlaybackEnd,
  readPlaybackPart,
  readRedirect,
  startPlaybackPacket,
  stopPlaybackPacket,
  type StreamToken,
} from "./nexus_packets.ts";
import { NexusPlayback, type PlaybackCounters } from "./nexus_playback.ts";
import {
  connectNexus,
  describeAddress,
  type NexusAddress,
  type NexusStream,
} from "./nexus_transport.ts";
import { WireError } from "./protobuf.ts";

/** What a session works with. */
export interface NexusSessionOptions {
  readonly camera: { readonly id: string; readonly label: string };
  /** Where the camera's stream is; the first one that answers is taken. */
  readonly addresses: readonly NexusAddress[];
  /** Video profiles, the best one first. */
  readonly profiles: readonly number[];
  /** Ask for sound. */
  readonly audio: boolean;
  readonly auth: Pick<NestAuth, "current" | "renewed">;
  readonly memory: TokenMemory;
  /** Where a redirect leads, if it may be followed. @throws a source error that says why not */
  redirect(host: string, from: NexusAddress): NexusAddress;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly userAgent: string;
  /** Text of a PEM file. */
  readonly ca?: string;
  /** Ends the session quietly. */
  readonly signal: AbortSignal;
}

/** A live session that tells how it went. */
export interface NexusSession extends Session {
  readonly counters: PlaybackCounters;
  /** Where it plays now. */
  readonly address: NexusAddress;
}

const PING_MS = 15_000;
const STALL_MS = 10_000;
/** Redirects in a row, each within a minute of the one before. */
const MAX_HOPS = 5;
/** Authorisations asked for within a minute; a server that never has enough is left. */
const MAX_AUTHORIZATIONS = 6;
const MINUTE_MS = 60_000;
/** A camera out of reach is asked for again after so long. */
const UNREACHABLE_RETRY_MS = 10_000;
/** After an authorisation in mid-playback packets go on; if not by then, it is started anew. */
const RESUME_MS = 3000;
/** Sound that was announced and does not come is not waited for any longer. */
const SOUND_MS = 1000;

/** Connects and plays, and is open when the first key picture is whole. */
export async function openNexusSession(options: NexusSessionOptions): Promise<NexusSession> {
  options.signal.throwIfAborted();
  const player = new NexusPlayer(options);
  const batches = player.batches();
  /** Units that came while the tracks were not known yet. */
  const held: AccessUnit[] = [];
  const { clock } = options;
  let firstPictureMs: number | undefined;
  try {
    while (true) {
      const { done, value } = await batches.next();
      if (done) {
        options.signal.throwIfAborted();
        throw sourceError("offline", `${options.camera.label}: the live stream ended at once`);
      }
      held.push(...value);
      if (player.video) firstPictureMs ??= clock.monotonic();
      const waitedMs = firstPictureMs === undefined ? 0 : clock.monotonic() - firstPictureMs;
      if (player.video && (!player.hasSound || player.audio || waitedMs > SOUND_MS)) break;
    }
  } catch (error) {
    await player.close();
    throw options.signal.aborted ? options.signal.reason : error;
  }
  const { video, audio } = player;
  const tracks: Track[] = [...(video ? [video] : []), ...(audio ? [audio] : [])];
  const firstUs = held.find(({ trackId }) => trackId === video?.id)?.ptsUs ?? 0;
  const isKnown = (unit: AccessUnit) => tracks.some(({ id }) => id === unit.trackId);

  const iterator = unitsOf((async function* (): AsyncGenerator<readonly AccessUnit[]> {
    try {
      // Sound from before the first picture would begin the recording with nothing to see.
      yield held.splice(0).filter((unit) => isKnown(unit) && unit.ptsUs >= firstUs);
      for await (const units of batches) yield units.filter(isKnown);
    } finally {
      await player.close();
    }
  })());
  return {
    tracks,
    get counters() {
      return player.counters;
    },
    get address() {
      return player.address;
    },
    [Symbol.asyncIterator]: () => iterator,
    async [Symbol.asyncDispose]() {
      await player.close();
      await iterator.return();
    },
  };
}

class NexusPlayer {
  readonly #options: NexusSessionOptions;
  readonly #playback: NexusPlayback;
  readonly #credentials: StreamCredentials;
  readonly #closing = new AbortController();
  readonly #onAbort = () => void this.close();
  #stream: NexusStream | undefined;
  #address: NexusAddress;
  #sessionId = 0;
  #state: "greeting" | "starting" | "playing" = "greeting";
  #lastMediaMs: number;
  /** The one who pulls is busy: silence is not the camera's. */
  #isHeld = false;
  #stalled = false;
  /** Nothing came on the present connection. */
  #isMute = true;
  #hops = 0;
  #connectedMs = 0;
  #authorizationsMs: number[] = [];
  #redirectTo: NexusAddress | undefined;
  /** Ended when the present connection is. */
  #connection = new AbortController();

  constructor(options: NexusSessionOptions) {
    const [first] = options.addresses;
    if (!first) throw sourceError("protocol", `${options.camera.label}: it has no live stream`);
    this.#options = options;
    this.#address = first;
    this.#playback = new NexusPlayback(options.clock);
    this.#credentials = new StreamCredentials(options.auth, options.memory);
    this.#lastMediaMs = options.clock.monotonic();
    options.signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  get video() {
    return this.#playback.video;
  }

  get audio() {
    return this.#playback.audio;
  }

  get hasSound(): boolean {
    return this.#playback.hasSound;
  }

  get counters(): PlaybackCounters {
    return this.#playback.counters;
  }

  get address(): NexusAddress {
    return this.#address;
  }

  async close(): Promise<void> {
    this.#options.signal.removeEventListener("abort", this.#onAbort);
    if (!this.#closing.signal.aborted) {
      this.#closing.abort(new Error("the session is closed"));
      if (this.#state === "playing") this.#stream?.send(stopPlaybackPacket(this.#sessionId));
    }
    this.#connection.abort();
    await this.#stream?.close();
  }

  /** Everything that is played; ends quietly when closed, else throws why it ended. */
  async *batches(): AsyncGenerator<AccessUnit[], void, undefined> {
    const { signal } = this.#closing;
    let addresses = this.#options.addresses;
    /** Those that were not tried yet. */
    let others = addresses;
    let token: StreamToken | undefined;
    try {
      while (!signal.aborted) {
        token ??= await this.#credentials.first(signal);
        others = await this.#connect(others);
        if (signal.aborted) return; // closed while the connection came about
        this.#stream?.send(this.#hello(token));
        token = undefined;
        const refused = yield* this.#playConnection();
        if (signal.aborted) return;
        if (this.#redirectTo) {
          others = addresses = [this.#redirectTo];
          this.#redirectTo = undefined;
        } else if (refused) {
          // The server hung up on a token: the next one begins a connection of its own.
          token = refused;
          others = addresses;
        } else if (this.#isMute && others.length > 0) {
          // A firewall may let a connection come about, and nothing more: the other way is tried.
        } else throw this.#closedError();
      }
    } catch (error) {
      if (!signal.aborted) throw error; // an abort ends quietly
    } finally {
      this.#connection.abort();
      await this.#stream?.close();
    }
  }

  #closedError() {
    const { label } = this.#options.camera;
    return this.#stalled
      ? sourceError("offline", `${label}: the live stream fell silent for ${STALL_MS / 1000} s`)
      : sourceError(
        "offline",
        `${label}: the live stream was closed by ${describeAddress(this.#address)}`,
      );
  }

  /** Connects to the first address that answers. @returns those behind it */
  async #connect(addresses: readonly NexusAddress[]): Promise<readonly NexusAddress[]> {
    const { clock, random, userAgent, ca, camera } = this.#options;
    const failures: unknown[] = [];
    await this.#stream?.close();
    for (const [index, address] of addresses.entries()) {
      try {
        this.#stream = await connectNexus(address, {
          ...{ clock, random, userAgent, signal: this.#closing.signal },
          ...(ca === undefined ? {} : { ca }),
        });
        this.#address = address;
        this.#state = "greeting";
        this.#connectedMs = this.#lastMediaMs = clock.monotonic();
        this.#connection = new AbortController();
        this.#isMute = true;
        this.#stalled = false;
        this.#watch(this.#connection.signal).catch(() => {});
        return addresses.slice(index + 1);
      } catch (error) {
        this.#closing.signal.throwIfAborted();
        failures.push(error);
      }
    }
    const first = failures[0];
    throw sourceError(
      "offline",
      `${camera.label}: no way to its live stream: ${
        failures.map((error) => error instanceof Error ? error.message : String(error)).join("; ")
      }`,
      { cause: first },
    );
  }

  /** Ends the connection when the playback has been silent for too long. */
  async #watch(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (true) {
      if (this.#isHeld) this.#lastMediaMs = clock.monotonic();
      const restMs = this.#lastMediaMs + STALL_MS - clock.monotonic();
      if (restMs <= 0) break;
      await clock.sleep(restMs, { signal });
    }
    this.#stalled = true;
    await this.#stream?.close();
  }

  async #ping(signal: AbortSignal): Promise<void> {
    while (true) {
      await this.#options.clock.sleep(PING_MS, { signal });
      this.#stream?.send(pingPacket());
    }
  }

  #hello(token: StreamToken): Uint8Array {
    const { camera, userAgent } = this.#options;
    return helloPacket({ uuid: camera.id, deviceId: this.#uuid(), userAgent, token });
  }

  #uuid(): string {
    const digit = () => Math.floor(this.#options.random() * 16).toString(16);
    return "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx".replaceAll("x", digit);
  }

  #start(): void {
    const { profiles, audio, random } = this.#options;
    const [profile = 9, ...others] = profiles;
    this.#sessionId = 1 + Math.floor(random() * 999_999);
    this.#state = "starting";
    this.#stream?.send(
      startPlaybackPacket({
        sessionId: this.#sessionId,
        profile,
        otherProfiles: audio ? [...others, AUDIO_AAC] : others,
      }),
    );
  }

  /**
   * What one connection gives. Returns when it is over: a token where the server hung up on the one
   * before, which is to be shown on a new connection.
   */
  async *#playConnection(): AsyncGenerator<AccessUnit[], StreamToken | undefined, undefined> {
    const stream = this.#stream;
    if (!stream) return undefined;
    const reader = new PacketReader();
    let pending: StreamToken | undefined;
    let isOver = false;
    let failure: { readonly error: unknown } | undefined;
    try {
      for await (const bytes of stream.incoming) {
        this.#isMute = false;
        for (const packet of reader.push(bytes)) {
          if (isMedia(packet)) {
            this.#play(packet.payload);
            continue;
          }
          const step = await this.#take(packet, pending !== undefined);
          if (step === "over") isOver = true;
          else if (step === "accepted") pending = undefined;
          else if (step) {
            pending = step;
            stream.send(authorizePacket(step));
          }
          if (isOver) break;
        }
        const units = this.#playback.take();
        if (units.length > 0) {
          this.#isHeld = true;
          yield units;
          this.#isHeld = false;
        }
        if (isOver) break;
      }
    } catch (error) {
      failure = { error };
    }
    this.#isHeld = false;
    this.#connection.abort();
    await stream.close();
    this.#playback.end({ brokenOff: failure !== undefined || !isOver });
    yield this.#playback.take();
    const isTold = this.#stalled || this.#isMute || this.#closing.signal.aborted;
    if (failure && !isTold && pending === undefined) {
      const { error } = failure;
      if (error instanceof WireError) {
        throw sourceError(
          "protocol",
          `${this.#options.camera.label}: ${describeAddress(this.#address)} sent what is not ` +
            `NexusTalk: ${error.message}`,
          { cause: error },
        );
      }
      throw error;
    }
    return this.#stalled ? undefined : pending;
  }

  /** Takes a piece of picture or sound. */
  #play(payload: Uint8Array): void {
    const part = readPlaybackPart(payload);
    if (this.#state !== "playing" || !this.#isOurs(part.sessionId)) return;
    this.#lastMediaMs = this.#options.clock.monotonic();
    this.#playback.add(part);
  }

  /**
   * Does what a packet asks for: `over` where the connection has done its work, a token where one is
   * to be shown.
   */
  async #take(
    { type, payload }: Packet,
    isAuthorizing: boolean,
  ): Promise<"over" | "accepted" | StreamToken | undefined> {
    switch (type) {
      case PACKET.ok:
        this.#credentials.accepted();
        if (this.#state === "greeting") {
          this.#ping(this.#connection.signal).catch(() => {});
          this.#start();
        } else if (isAuthorizing) this.#resume(this.#connection.signal).catch(() => {});
        return "accepted";
      case PACKET.playbackBegin: {
        const begin = readPlaybackBegin(payload);
        if (this.#state === "greeting" || !this.#isOurs(begin.sessionId)) return undefined;
        if (!this.#playback.begin(begin)) {
          throw sourceError(
            "protocol",
            `${this.#options.camera.label}: its live stream has no H.264 video`,
          );
        }
        this.#state = "playing";
        this.#stream?.gather();
        return undefined;
      }
      case PACKET.error:
        return await this.#error(payload);
      case PACKET.redirect:
        return this.#redirect(readRedirect(payload));
      case PACKET.playbackEnd: {
        const end = readPlaybackEnd(payload);
        if (this.#state === "greeting" || !this.#isOurs(end.sessionId)) return undefined;
        this.#playback.end({ brokenOff: false });
        throw endError(this.#options.camera.label, end.reason);
      }
      default:
        return undefined; // PING, CLOCK_SYNC, METADATA and what may yet be invented
    }
  }

  /** Servers may leave out a session's number. */
  #isOurs(sessionId: number): boolean {
    return sessionId === this.#sessionId || sessionId === 0;
  }

  async #error(payload: Uint8Array): Promise<StreamToken> {
    const { camera, clock } = this.#options;
    const { code, text } = readError(payload);
    const said = text === "" ? "" : ` ("${text.slice(0, 100)}")`;
    if (code !== ERROR_CODE.authorizationFailed) {
      throw sourceError(
        "offline",
        `${camera.label}: the live stream was refused: ${ERRORS[code] ?? `error ${code}`}${said}`,
      );
    }
    const nowMs = clock.monotonic();
    this.#authorizationsMs = this.#authorizationsMs.filter((atMs) => nowMs - atMs < MINUTE_MS);
    this.#authorizationsMs.push(nowMs);
    const { signal } = this.#closing;
    const token = this.#authorizationsMs.length > MAX_AUTHORIZATIONS
      ? undefined
      : this.#state === "greeting"
      ? await this.#credentials.next(signal)
      : await this.#credentials.renewed(signal);
    if (token) return token;
    throw sourceError(
      "auth",
      `${camera.label}: the live stream refuses the login although it was just renewed${said}`,
    );
  }

  /** Starts the playback anew where it does not go on by itself after an authorisation. */
  async #resume(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const sinceMs = clock.monotonic();
    await clock.sleep(RESUME_MS, { signal });
    if (this.#lastMediaMs < sinceMs) this.#start();
  }

  #redirect(host: string): "over" {
    const { camera, log, clock } = this.#options;
    if (clock.monotonic() - this.#connectedMs > MINUTE_MS) this.#hops = 0;
    const to = this.#options.redirect(host, this.#address);
    if (++this.#hops > MAX_HOPS) {
      throw sourceError(
        "offline",
        `${camera.label}: the live stream was sent on more than ${MAX_HOPS} times in a row`,
      );
    }
    log.debug(`${camera.label}: the live stream is sent on to ${describeAddress(to)}`);
    this.#redirectTo = to;
    return "over";
  }
}

function isMedia({ type }: Packet): boolean {
  return type === PACKET.playbackPacket || type === PACKET.longPlaybackPacket;
}

const ERRORS: Readonly<Record<number, string>> = {
  1: "the camera is not connected to the cloud",
  2: "the server did not understand a packet",
  4: "the cloud has no transcoder free",
  5: "the cloud's transcoder failed",
  6: "the cloud has a problem of its own",
};

const ENDS: Readonly<Record<number, string>> = {
  [END_REASON.userEnded]: "the cloud ended the live stream",
  1: "the cloud says that this time is not available",
  2: "the cloud has the live stream in none of the profiles asked for",
  3: "the cloud cannot transcode the live stream",
  [END_REASON.cameraUnreachable]: "the camera is out of the cloud's reach: is it switched on, " +
    "and has it power and a network?",
  128: "the cloud says that the live stream is over",
};

function endError(label: string, reason: number) {
  const message = `${label}: ${ENDS[reason] ?? `the playback was ended for the reason ${reason}`}`;
  return reason === END_REASON.cameraUnreachable
    ? Object.assign(
      sourceError("offline", message, { retryAfterMs: UNREACHABLE_RETRY_MS }),
      { cameraUnreachable: true },
    )
    : sourceError("offline", message);
}

/** Whether an error says that the camera itself is away, not only its live stream. */
export function isCameraUnreachable(error: unknown): boolean {
  return error instanceof Error && "cameraUnreachable" in error;
}
