/**
 * One connection of a NexusTalk client, from its HELLO to its end: who may come in, what is played,
 * and what goes wrong on demand. It works on a stream of bytes; whether that is TLS or a WebSocket is
 * the business of `nexus_fronts.ts`.
 *
 * The order is HELLO → OK → START_PLAYBACK → PLAYBACK_BEGIN → packets. A client that says no PING for
 * a minute is let go. What a real server does where the protocol's description is silent is a guess:
 * here an AUTHORIZE_REQUEST in mid-playback is answered by OK and the playback goes on.
 *
 * @module
 */
import type { Clock } from "../../core/types.ts";
import { adtsFrame, type CodedScene, type SceneUnit } from "../scene/coded_scene.ts";
import type { CameraModel } from "./camera.ts";
import type { ActiveFault, FaultDesk, FaultMoment } from "./faults.ts";
import {
  type Authorization,
  CODEC,
  END_REASON,
  ERROR_CODE,
  errorPacket,
  okPacket,
  PACKET,
  type Packet,
  packet,
  PacketReader,
  playbackBeginPacket,
  playbackEndPacket,
  playbackPacket,
  PROFILE,
  readAuthorization,
  readHello,
  readStartPlayback,
  readStopPlayback,
  redirectPacket,
  type StartPlayback,
} from "./nexus_wire.ts";

/** A connection, as a stream of bytes. */
export interface NexusWire {
  readonly incoming: AsyncIterable<Uint8Array>;
  /** Resolves when the bytes are on their way and there is room for more. */
  send(bytes: Uint8Array): Promise<void>;
  /** Closes in good order. */
  close(): void;
  /** Breaks it. */
  reset(): void;
}

/** What the sessions have in common. */
export interface NexusHost {
  readonly clock: Clock;
  readonly faults: FaultDesk;
  /** The camera of this uuid. */
  camera(uuid: string): CameraModel | undefined;
  /** Is this someone of the account? */
  mayWatch(authorization: Authorization): boolean;
  /** Where a redirect leads: another of the cloud's own hosts. */
  otherHost(): string;
  /** Notes a packet, for who wants to know what was asked. */
  count(what: string): void;
}

const PING_MISSING_MS = 60_000;
const VIDEO_CHANNEL = 0;
const AUDIO_CHANNEL = 1;
const VIDEO_RATE = 90_000;

/** Serves one connection until it ends. */
export async function serveNexus(wire: NexusWire, host: NexusHost): Promise<void> {
  const session = new NexusSession(wire, host);
  const reader = new PacketReader();
  try {
    for await (const bytes of wire.incoming) {
      for (const received of reader.push(bytes)) await session.take(received);
      if (session.ended) break;
    }
  } catch {
    // The client is gone, or what it sent makes no sense: either way this is over.
  } finally {
    session.end();
    wire.close();
  }
}

class NexusSession {
  readonly #wire: NexusWire;
  readonly #host: NexusHost;
  readonly #over = new AbortController();
  #camera: CameraModel | undefined;
  #authorized = false;
  /** Aborted to end the playback. */
  #playing: AbortController | undefined;
  /** Resolves when the playback may go on after an authorisation was asked for. */
  #allowed: PromiseWithResolvers<void> | undefined;
  #lastPingMs: number;
  #sending: Promise<void> = Promise.resolve();
  #joined: Uint8Array[] = [];
  #cuts = 0;
  /** Faults of the whole connection. */
  readonly #habits = new Set<string>();

  constructor(wire: NexusWire, host: NexusHost) {
    this.#wire = wire;
    this.#host = host;
    this.#lastPingMs = host.clock.monotonic();
    this.#watchPings().catch(() => {});
  }

  get ended(): boolean {
    return this.#over.signal.aborted;
  }

  end(): void {
    this.#over.abort();
    this.#playing?.abort();
    this.#allowed?.resolve();
  }

  async #watchPings(): Promise<void> {
    const { clock } = this.#host;
    while (true) {
      const restMs = this.#lastPingMs + PING_MISSING_MS - clock.monotonic();
      if (restMs <= 0) break;
      await clock.sleep(restMs, { signal: this.#over.signal });
    }
    this.#host.count("closed for want of PING");
    this.end();
    this.#wire.close();
  }

  async take({ type, payload }: Packet): Promise<void> {
    this.#host.count(NAMES.get(type) ?? `type ${type}`);
    switch (type) {
      case PACKET.ping:
        this.#lastPingMs = this.#host.clock.monotonic();
        return await this.#send(packet(PACKET.ping));
      case PACKET.hello:
        return await this.#hello(payload);
      case PACKET.authorizeRequest:
        return await this.#authorize(readAuthorization(payload));
      case PACKET.startPlayback:
        if (!this.#authorized) return await this.#refuse("START_PLAYBACK before OK");
        return await this.#start(readStartPlayback(payload));
      case PACKET.stopPlayback: {
        const sessionId = readStopPlayback(payload);
        this.#playing?.abort();
        return await this.#send(playbackEndPacket(sessionId, END_REASON.userEnded, this.#writing));
      }
    }
  }

  async #refuse(why: string): Promise<void> {
    await this.#send(errorPacket(ERROR_CODE.illegalPacket, why));
    this.end();
  }

  get #names(): string[] {
    return this.#camera ? [this.#camera.name, this.#camera.uuid] : [];
  }

  get #writing() {
    return { withZeros: this.#habits.has("zeros") };
  }

  /** A fault that is no habit; within a playback each happens once. */
  #due(
    at: FaultMoment,
    playback?: { readonly playingMs: number; readonly happened: Set<number> },
  ): ActiveFault | undefined {
    const { playingMs, happened } = playback ?? {};
    const fault = this.#host.faults.due({
      at,
      playingMs,
      camera: this.#names,
      fits: ({ kind, id }) => !HABITS.includes(kind) && !happened?.has(id),
    });
    if (fault) happened?.add(fault.id);
    return fault;
  }

  async #hello(payload: Uint8Array): Promise<void> {
    const hello = readHello(payload);
    this.#camera = this.#host.camera(hello.uuid);
    for (const kind of HABITS) {
      // They last as long as the connection, and count once for it.
      const fits = (fault: ActiveFault) => fault.kind === kind;
      if (this.#host.faults.due({ at: "playing", fits, camera: this.#names })) {
        this.#habits.add(kind);
      }
    }
    if (hello.protocolVersion !== 3) return await this.#refuse("protocol version 3 is spoken here");
    const fault = this.#due("hello");
    if (fault && await this.#misbehave(fault)) return;
    if (fault?.kind === "auth-error") {
      return await this.#send(errorPacket(ERROR_CODE.authorizationFailed, "auth"));
    }
    await this.#authorize(hello.authorization);
  }

  async #authorize(authorization: Authorization): Promise<void> {
    if (!this.#host.mayWatch(authorization)) {
      this.#host.count("refused");
      return await this.#send(errorPacket(ERROR_CODE.authorizationFailed, "auth"));
    }
    if (!this.#camera) {
      await this.#send(errorPacket(ERROR_CODE.cameraNotConnected, "no such camera"));
      return this.end();
    }
    this.#authorized = true;
    await this.#send(okPacket(this.#habits.has("zeros") ? 0 : -1));
    this.#allowed?.resolve();
    const fault = this.#playing ? undefined : this.#due("ok");
    if (fault) await this.#misbehave(fault);
  }

  /** Does what any moment may bring. @returns whether that was all */
  async #misbehave(fault: ActiveFault): Promise<boolean> {
    switch (fault.kind) {
      case "redirect":
        await this.#send(redirectPacket(this.#host.otherHost()));
        return true;
      case "redirect-to":
        await this.#send(redirectPacket(fault.host ?? ""));
        return true;
      case "error":
        this.#playing?.abort(); // there is nothing after it
        await this.#send(errorPacket(fault.code ?? 6, "internal"));
        return true;
      case "stall":
        this.#playing?.abort();
        return true;
      case "reset":
        this.end();
        this.#wire.reset();
        return true;
      case "close":
        this.end();
        this.#wire.close();
        return true;
      case "garbage":
        this.#playing?.abort();
        await this.#send(Uint8Array.of(PACKET.longPlaybackPacket, 0x40, 0, 0, 0, 8, 1));
        return true;
      default:
        return false;
    }
  }

  async #start(start: StartPlayback): Promise<void> {
    this.#playing?.abort();
    const fault = this.#due("start");
    if (fault && await this.#misbehave(fault)) return;
    const end = (reason: number) =>
      this.#send(playbackEndPacket(start.sessionId, reason, this.#writing));
    if (fault?.kind === "playback-end") return await end(fault.reason ?? 4);
    if (fault?.kind === "auth-error") {
      await this.#send(errorPacket(ERROR_CODE.authorizationFailed, "auth"));
      this.#allowed = Promise.withResolvers();
    }
    const camera = this.#camera;
    if (start.startTime !== undefined) return await end(END_REASON.timeNotAvailable);
    if (!camera || camera.state !== "online") return await end(END_REASON.cameraUnreachable);
    const profile = start.profiles.find((number) => camera.liveProfiles.includes(number));
    if (profile === undefined) return await end(END_REASON.profileNotAvailable);
    const playing = new AbortController();
    this.#playing = playing;
    this.#play(start, { camera, profile, stop: playing.signal }).catch(() => {
      // The client is gone, or there is no encoder here; the latter it was told.
      this.end();
      this.#wire.close();
    });
  }

  async #play(
    start: StartPlayback,
    { camera, profile, stop }: {
      readonly camera: CameraModel;
      readonly profile: number;
      readonly stop: AbortSignal;
    },
  ): Promise<void> {
    let scene: CodedScene;
    try {
      scene = await camera.scene(profile);
    } catch (error) {
      await this.#send(errorPacket(ERROR_CODE.noTranscoder, String(error)));
      throw error;
    }
    await this.#allowed?.promise;
    if (stop.aborted) return;
    camera.countLiveSession();
    const withSound = scene.audio !== undefined && start.profiles.includes(PROFILE.audioAac);
    const channels = new Channels(scene, start.sessionId);
    const { clock } = this.#host;
    const startedMs = clock.monotonic();
    const happened = new Set<number>();
    let began = false;
    let skipUntilUs = -1;
    for await (const unit of scene.play({ signal: stop, mute: !withSound })) {
      if (camera.state !== "online") {
        await this.#send(
          playbackEndPacket(start.sessionId, END_REASON.cameraUnreachable, this.#writing),
        );
        return;
      }
      if (!began) {
        began = true;
        await this.#send(channels.begin(unit, { profile, withSound }));
      }
      const fault = this.#due("playing", {
        playingMs: clock.monotonic() - startedMs,
        happened,
      });
      if (fault) {
        if (await this.#misbehave(fault)) {
          if (fault.kind === "redirect" || fault.kind === "redirect-to") return;
          if (stop.aborted) return;
        }
        switch (fault.kind) {
          case "playback-end":
            return await this.#send(
              playbackEndPacket(start.sessionId, fault.reason ?? 4, this.#writing),
            );
          case "auth-error":
            this.#authorized = false;
            this.#allowed = Promise.withResolvers();
            await this.#send(errorPacket(ERROR_CODE.authorizationFailed, "auth"));
            await this.#allowed.promise;
            if (stop.aborted) return;
            break;
          case "timestamp-jump":
            channels.shift(fault.ticks ?? 3600 * VIDEO_RATE);
            break;
          case "negative-delta":
            channels.wobble(-3000);
            break;
          case "delta-gap":
            skipUntilUs = unit.ptsUs + (fault.ms ?? 1000) * 1000;
            break;
          case "parameter-change":
            channels.change(await camera.otherScene(profile));
            break;
        }
      }
      if (unit.ptsUs < skipUntilUs) continue;
      // After a gap only a key picture can be decoded.
      if (skipUntilUs >= 0 && unit.kind === "video") {
        if (!unit.isKey) continue;
        skipUntilUs = -1;
      }
      for (const bytes of channels.packets(unit, this.#habits)) await this.#send(bytes);
      if (unit.kind === "video") camera.countLivePicture(unit.counter);
    }
  }

  /** Sends in the order of the calls. */
  #send(bytes: Uint8Array): Promise<void> {
    const pieces = this.#pieces(bytes);
    const sent = this.#sending.then(async () => {
      for (const piece of pieces) await this.#wire.send(piece);
    });
    this.#sending = sent.catch(() => {});
    return sent;
  }

  #pieces(bytes: Uint8Array): Uint8Array[] {
    if (this.#habits.has("joined") && this.#playing) {
      this.#joined.push(bytes);
      if (this.#joined.length < 3) return [];
      const parts = this.#joined.splice(0);
      const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of parts) {
        whole.set(part, at);
        at += part.length;
      }
      return [whole];
    }
    if (!this.#habits.has("split")) return [bytes];
    const cut = this.#cuts++ % (bytes.length + 1);
    return [bytes.subarray(0, cut), bytes.subarray(cut)].filter(({ length }) => length > 0);
  }
}

const HABITS = ["split", "joined", "long", "zeros", "unknown"];

const NAMES = new Map<number, string>([
  [PACKET.ping, "PING"],
  [PACKET.hello, "HELLO"],
  [PACKET.startPlayback, "START_PLAYBACK"],
  [PACKET.stopPlayback, "STOP_PLAYBACK"],
  [PACKET.authorizeRequest, "AUTHORIZE_REQUEST"],
]);

/** Turns the scene's units into packets, with the deltas of their channels. */
class Channels {
  #scene: CodedScene;
  readonly #sessionId: number;
  /** Where each channel stands, in ticks since media time 0; unset before its first unit. */
  readonly #ticks = new Map<number, number>();
  #shift = 0;
  #wobble = 0;
  #count = 0;
  #next: CodedScene | undefined;

  constructor(scene: CodedScene, sessionId: number) {
    this.#scene = scene;
    this.#sessionId = sessionId;
  }

  begin(
    first: SceneUnit,
    { profile, withSound }: { readonly profile: number; readonly withSound: boolean },
  ): Uint8Array {
    // The first sound frame follows the first picture: both channels count from there.
    const startTime = first.takenAtMs / 1000;
    const { audio } = this.#scene;
    this.#ticks.set(VIDEO_CHANNEL, ticksOf(first.ptsUs, VIDEO_RATE));
    if (audio) this.#ticks.set(AUDIO_CHANNEL, ticksOf(first.ptsUs, audio.sampleRateHz));
    return playbackBeginPacket(this.#sessionId, [
      { id: VIDEO_CHANNEL, codec: CODEC.h264, sampleRate: VIDEO_RATE, startTime, profile },
      ...(withSound && audio
        ? [{
          id: AUDIO_CHANNEL,
          codec: CODEC.aac,
          sampleRate: audio.sampleRateHz,
          startTime,
          profile: PROFILE.audioAac,
        }]
        : []),
    ], { withZeros: false });
  }

  /** From the next picture on everything is so much later. */
  shift(ticks: number): void {
    this.#shift += ticks;
  }

  /** The next picture alone is displaced. */
  wobble(ticks: number): void {
    this.#wobble = ticks;
  }

  /** From the next key picture on, the pictures are those of another scene. */
  change(scene: CodedScene): void {
    this.#next = scene;
  }

  /** The packets of one unit: one NAL unit each, all but the first with a delta of 0. */
  packets(unit: SceneUnit, habits: ReadonlySet<string>): Uint8Array[] {
    const options = { withZeros: habits.has("zeros"), long: habits.has("long") };
    const pack = (channelId: number, timestampDelta: number, payload: Uint8Array) =>
      playbackPacket({ sessionId: this.#sessionId, channelId, timestampDelta, payload }, options);
    const extra: Uint8Array[] = [];
    if (habits.has("unknown") && this.#count++ % 5 === 0) {
      const type = [PACKET.clockSync, PACKET.metadata, 250][this.#count % 3] ?? 250;
      extra.push(packet(type, Uint8Array.of(8, 1)));
    }
    if (unit.kind === "audio") {
      const { audio } = this.#scene;
      if (!audio) return extra;
      const delta = this.#advance(AUDIO_CHANNEL, ticksOf(unit.ptsUs, audio.sampleRateHz));
      return [...extra, pack(AUDIO_CHANNEL, delta, adtsFrame(unit.data, audio))];
    }
    if (this.#next && unit.isKey) {
      this.#scene = this.#next;
      this.#next = undefined;
    }
    const picture = this.#scene.picture(unit.counter - 1);
    const ticks = ticksOf(unit.ptsUs, VIDEO_RATE) + this.#shift + this.#wobble;
    this.#wobble = 0;
    const delta = this.#advance(VIDEO_CHANNEL, ticks);
    return [
      ...extra,
      ...[...picture.parameterSets, ...picture.nals].map((nal, index) =>
        pack(VIDEO_CHANNEL, index === 0 ? delta : 0, nal)
      ),
    ];
  }

  #advance(channelId: number, ticks: number): number {
    const delta = ticks - (this.#ticks.get(channelId) ?? ticks);
    this.#ticks.set(channelId, ticks);
    return delta;
  }
}

function ticksOf(ptsUs: number, rate: number): number {
  return Math.round(ptsUs * rate / 1e6);
}
