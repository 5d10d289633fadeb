/**
 * A simulated RTSP camera (RFC 2326): the coded, counted scene over TCP or UDP, with logins and with
 * what cameras do wrong. It is written from the standards and knows nothing of Camsink's client.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createSocket } from "node:dgram";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { systemClock } from "../core/clock.ts";
import type { Clock } from "../core/types.ts";
import type { ServerTls } from "./http_server.ts";
import { createRtspDoor, type RtspAuth } from "./rtsp/door.ts";
import { byePacket, createPacketizer, type Packetizer } from "./rtsp/packets.ts";
import { type CodedScene, type CodedSceneOptions, createCodedScene } from "./scene/coded_scene.ts";

export type { RtspAuth } from "./rtsp/door.ts";

/** What a simulated RTSP camera is made from. */
export interface RtspCameraOptions extends CodedSceneOptions {
  /** 0, the default, takes any free port. */
  readonly port?: number;
  /** None by default. */
  readonly auth?: RtspAuth;
  /** Serve RTSPS with this certificate, which must name 127.0.0.1. */
  readonly tls?: ServerTls;
  /**
   * Looked at when a client asks for the description: the status with which it is refused, or nothing.
   * `query` is that of its address, `viewers` how many are being sent to already.
   */
  readonly refuses?: (
    client: { readonly query: URLSearchParams; readonly viewers: number },
  ) => string | undefined;
  /** Where parameter sets stand; `both` by default. */
  readonly parameterSets?: "both" | "description" | "in-band";
  /** `tcp` answers 461 to UDP, `udp` to TCP; both by default. */
  readonly transports?: "both" | "tcp" | "udp";
  /** A session ends when no request has come for so long; 60 s by default. */
  readonly sessionTimeoutS?: number;
  /** Moves the channels of the answer away from those that were asked for. */
  readonly channelOffset?: number;
  /** Gives numbers in [0, 1); makes nonces and session ids. */
  readonly random?: () => number;
  /** Closes the camera. */
  readonly signal?: AbortSignal;
}

/** What a simulated RTSP camera has done. */
export interface RtspCameraCounts {
  readonly connections: number;
  readonly requests: number;
  readonly sessions: number;
  readonly teardowns: number;
  readonly keepAlives: number;
  /** Sessions that ended because no request had come for too long. */
  readonly timeouts: number;
  /** Answers 401. */
  readonly challenged: number;
}

/** A running simulated RTSP camera, and what it may be made to do wrong. */
export interface RtspCamera extends AsyncDisposable {
  readonly scene: CodedScene;
  /** `rtsp://127.0.0.1:PORT/live` */
  readonly url: string;
  readonly served: RtspCameraCounts;
  /** Viewers that are being sent to now. */
  readonly viewers: number;
  /** While true it takes what is said and sends nothing. */
  hang(isHanging: boolean): void;
  /** Breaks all connections. */
  reset(): void;
  /** Ends all sessions with RTCP BYE. */
  sayBye(): void;
  /** Leaves out the next packets of video. */
  drop(packets: number): void;
  /** Sends each pair of the next packets of video the wrong way round. */
  swap(packets: number): void;
  /** Moves all timestamps. */
  jump(seconds: number): void;
  /** From the next key picture on, another scene: other parameter sets, another size. */
  show(scene: CodedScene): void;
  /** Answers DESCRIBE with a redirect. */
  redirect(url: string | undefined): void;
  /** Breaks all connections, frees the port. */
  close(): Promise<void>;
}

interface Viewer {
  readonly id: string;
  readonly socket: Socket;
  readonly stop: AbortController;
  readonly streams: Map<"video" | "audio", Stream>;
  /** When its last request came, monotonic ms. */
  heardMs: number;
}

interface Stream {
  readonly packetizer: Packetizer;
  /** Sends an RTP or an RTCP packet. */
  send(packet: Uint8Array, isRtcp: boolean): void;
  close(): void;
  readonly uri: string;
}

interface Request {
  readonly method: string;
  readonly uri: string;
  field(name: string): string;
}

const VIDEO = { payloadType: 96, rateHz: 90_000 };
const REPORT_US = 2_000_000;

/** Starts a camera; it runs until `close`, or until `signal` is aborted. */
export async function startRtspCamera(options: RtspCameraOptions): Promise<RtspCamera> {
  options.signal?.throwIfAborted();
  const scene = await createCodedScene(options);
  const camera = new Camera(options, scene);
  await camera.listen();
  options.signal?.addEventListener("abort", () => void camera.close(), { once: true });
  return camera;
}

class Camera implements RtspCamera {
  readonly scene: CodedScene;
  readonly served = {
    connections: 0,
    requests: 0,
    sessions: 0,
    teardowns: 0,
    keepAlives: 0,
    timeouts: 0,
    challenged: 0,
  };
  readonly #options: RtspCameraOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #server: ReturnType<typeof createServer>;
  readonly #sockets = new Set<Socket>();
  readonly #viewers = new Map<string, Viewer>();
  readonly #door: ReturnType<typeof createRtspDoor>;
  #shown: CodedScene;
  #next: CodedScene | undefined;
  #isHanging = false;
  #drop = 0;
  #swap = 0;
  #held: Uint8Array | undefined;
  #location: string | undefined;

  constructor(options: RtspCameraOptions, scene: CodedScene) {
    this.#options = options;
    this.scene = this.#shown = scene;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#door = createRtspDoor(options.auth ?? { type: "none" }, this.#random);
    const onSocket = (socket: Socket) => this.#onSocket(socket);
    this.#server = options.tls === undefined
      ? createServer(onSocket)
      : createTlsServer({ cert: options.tls.certPem, key: options.tls.keyPem }, onSocket);
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#options.port ?? 0, "127.0.0.1", resolve);
    });
  }

  get url(): string {
    const { port } = this.#server.address() as AddressInfo;
    return `${this.#options.tls === undefined ? "rtsp" : "rtsps"}://127.0.0.1:${port}/live`;
  }

  get viewers(): number {
    return this.#viewers.size;
  }

  hang(isHanging: boolean): void {
    this.#isHanging = isHanging;
  }

  reset(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  sayBye(): void {
    for (const { streams } of this.#viewers.values()) {
      for (const { packetizer, send } of streams.values()) send(byePacket(packetizer.ssrc), true);
    }
  }

  drop(packets: number): void {
    this.#drop = packets;
  }

  swap(packets: number): void {
    this.#swap = packets;
  }

  jump(seconds: number): void {
    for (const { streams } of this.#viewers.values()) {
      for (const { packetizer } of streams.values()) packetizer.jump(seconds);
    }
  }

  show(scene: CodedScene): void {
    this.#next = scene;
  }

  redirect(url: string | undefined): void {
    this.#location = url;
  }

  async close(): Promise<void> {
    for (const viewer of this.#viewers.values()) this.#end(viewer);
    this.reset();
    if (this.#server.listening) {
      await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #onSocket(socket: Socket): void {
    this.served.connections++;
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
        const head = text.slice(0, end).replace(/^[\r\n]+/, "");
        text = text.slice(end + 4);
        if (!this.#isHanging) this.#onRequest(socket, parseRequest(head));
      }
      if (text.length > 65_536) socket.destroy();
    });
    socket.on("error", () => {}); // the viewer has left
    socket.on("close", () => {
      this.#sockets.delete(socket);
      for (const viewer of this.#viewers.values()) if (viewer.socket === socket) this.#end(viewer);
    });
  }

  #onRequest(socket: Socket, request: Request): void {
    this.served.requests++;
    const answer = (
      status: string,
      fields: readonly (readonly [string, string])[] = [],
      body = "",
    ) => {
      const lines = [
        `RTSP/1.0 ${status}`,
        `CSeq: ${request.field("cseq")}`,
        ...fields.map(([name, value]) => `${name}: ${value}`),
        ...(body === "" ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
      ];
      socket.write(`${lines.join("\r\n")}\r\n\r\n${body}`);
    };
    const challenges = this.#door(request.method, request.uri, request.field("authorization"));
    if (challenges !== undefined && request.method !== "OPTIONS") {
      this.served.challenged++;
      return answer("401 Unauthorized", challenges.map((one) => ["WWW-Authenticate", one]));
    }
    const viewer = this.#viewers.get(request.field("session").split(";")[0] ?? "");
    if (viewer !== undefined) viewer.heardMs = this.#clock.monotonic();
    switch (request.method) {
      case "OPTIONS":
      case "GET_PARAMETER":
        if (viewer !== undefined) this.served.keepAlives++;
        if (request.method === "GET_PARAMETER" && viewer === undefined) {
          return answer("454 Session Not Found");
        }
        return answer("200 OK", [[
          "Public",
          "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN",
        ]]);
      case "DESCRIBE":
        if (this.#location !== undefined) {
          return answer("302 Moved Temporarily", [["Location", this.#location]]);
        }
        if (!request.uri.replace(/\?.*/, "").endsWith("/live")) return answer("404 Not Found");
        {
          const query = new URLSearchParams(/\?(.*)$/.exec(request.uri)?.[1] ?? "");
          const refusal = this.#options.refuses?.({ query, viewers: this.viewers });
          if (refusal !== undefined) return answer(refusal);
        }
        return answer("200 OK", [
          ["Content-Base", `${request.uri}/`],
          ["Content-Type", "application/sdp"],
        ], this.#description());
      case "SETUP":
        return this.#setUp(socket, { request, viewer, answer });
      case "PLAY": {
        if (viewer === undefined) return answer("454 Session Not Found");
        const begin = this.#shown.picturesTaken() - 1;
        const ptsUs = (begin - begin % this.#shown.video.gopPictures) * 1e6 / this.#shown.video.fps;
        const info = [...viewer.streams.values()].map(({ uri, packetizer }) =>
          `url=${uri};seq=${packetizer.nextSequence};rtptime=${packetizer.timestamp(ptsUs)}`
        );
        answer("200 OK", [["Session", viewer.id], ["RTP-Info", info.join(",")]]);
        this.#play(viewer).catch(() => {}); // it has left
        return;
      }
      case "TEARDOWN":
        this.served.teardowns++;
        answer("200 OK");
        if (viewer !== undefined) this.#end(viewer);
        return;
      default:
        return answer("501 Not Implemented");
    }
  }

  #setUp(
    socket: Socket,
    { request, viewer: known, answer }: {
      readonly request: Request;
      readonly viewer: Viewer | undefined;
      readonly answer: (
        status: string,
        fields?: readonly (readonly [string, string])[],
      ) => void;
    },
  ): void {
    const kind = request.uri.endsWith("track1")
      ? "video"
      : request.uri.endsWith("track2") && this.#shown.audio
      ? "audio"
      : undefined;
    if (kind === undefined) return answer("404 Not Found");
    const transport = request.field("transport");
    const { transports = "both", channelOffset = 0, sessionTimeoutS = 60 } = this.#options;
    const isTcp = /RTP\/AVP\/TCP/.test(transport);
    const channel = Number(/interleaved=(\d+)/.exec(transport)?.[1] ?? 0) + channelOffset;
    const ports = /client_port=(\d+)-(\d+)/.exec(transport)?.slice(1).map(Number) ?? [];
    const isTaken = isTcp ? transports !== "udp" : transports !== "tcp" && ports.length === 2;
    if (!isTaken) return answer("461 Unsupported Transport");
    const viewer: Viewer = known ?? {
      id: Math.floor(this.#random() * 2 ** 48).toString(16).padStart(12, "0"),
      socket,
      stop: new AbortController(),
      streams: new Map(),
      heardMs: this.#clock.monotonic(),
    };
    const packetizer = this.#packetizer(kind);
    const udp = isTcp ? undefined : createSocket("udp4");
    viewer.streams.set(kind, {
      uri: request.uri,
      packetizer,
      send(packet, isRtcp) {
        if (udp !== undefined) {
          udp.send(packet, ports[isRtcp ? 1 : 0] ?? 0, "127.0.0.1");
          return;
        }
        const header = Buffer.of(
          0x24,
          channel + (isRtcp ? 1 : 0),
          packet.length >> 8,
          packet.length & 255,
        );
        socket.write(header);
        socket.write(packet);
      },
      close: () => udp?.close(),
    });
    if (known === undefined) {
      this.served.sessions++;
      this.#viewers.set(viewer.id, viewer);
    }
    answer("200 OK", [
      ["Session", `${viewer.id};timeout=${sessionTimeoutS}`],
      [
        "Transport",
        isTcp
          ? `RTP/AVP/TCP;unicast;interleaved=${channel}-${channel + 1}`
          : `RTP/AVP;unicast;client_port=${ports.join("-")}`,
      ],
    ]);
  }

  #packetizer(kind: "video" | "audio"): Packetizer {
    const { video, audio } = this.#shown;
    const ssrc = Math.floor(this.#random() * 2 ** 32);
    return kind === "video" || !audio
      ? createPacketizer({ ...VIDEO, ssrc, codec: video.codec })
      : createPacketizer({
        payloadType: audioType(audio.codec),
        rateHz: audio.sampleRateHz,
        ssrc,
        codec: audio.codec,
      });
  }

  async #play(viewer: Viewer): Promise<void> {
    const { signal } = viewer.stop;
    const { parameterSets = "both", sessionTimeoutS = 60 } = this.#options;
    const mute = !viewer.streams.has("audio");
    let reportedUs = -Infinity;
    for await (const unit of this.#shown.play({ signal, mute })) {
      if (signal.aborted) return;
      if (this.#isHanging) continue;
      if (this.#clock.monotonic() - viewer.heardMs > sessionTimeoutS * 1000) {
        this.served.timeouts++;
        viewer.socket.destroy();
        return this.#end(viewer);
      }
      const stream = viewer.streams.get(unit.kind);
      if (stream === undefined) continue;
      if (unit.kind === "audio") {
        for (const packet of stream.packetizer.audio(unit)) stream.send(packet, false);
        continue;
      }
      if (unit.isKey && this.#next !== undefined) {
        this.#shown = this.#next;
        this.#next = undefined;
      }
      const picture = this.#shown.picture(unit.counter - 1);
      if (unit.ptsUs - reportedUs >= REPORT_US) {
        reportedUs = unit.ptsUs;
        for (const { packetizer, send } of viewer.streams.values()) {
          send(packetizer.report(unit.ptsUs, this.#shown.origin.wallMs + unit.ptsUs / 1000), true);
        }
      }
      const sets = parameterSets === "description" ? [] : picture.parameterSets;
      for (const packet of stream.packetizer.video(picture, sets)) this.#send(stream, packet);
    }
  }

  #send(stream: Stream, packet: Uint8Array): void {
    if (this.#drop > 0) {
      this.#drop--;
      return;
    }
    if (this.#swap > 0 && this.#held === undefined) {
      this.#swap--;
      this.#held = packet;
      return;
    }
    stream.send(packet, false);
    if (this.#held !== undefined) stream.send(this.#held, false);
    this.#held = undefined;
  }

  #end(viewer: Viewer): void {
    viewer.stop.abort();
    this.#viewers.delete(viewer.id);
    for (const stream of viewer.streams.values()) stream.close();
    viewer.streams.clear();
  }

  #description(): string {
    const { video, audio } = this.#shown;
    const { parameterSets = "both", name } = this.#options;
    const sets = parameterSets === "in-band" ? [] : video.parameterSets;
    const sprop = sets.map((set) => Buffer.from(set).toString("base64"));
    const format = video.codec === "h264"
      ? [
        "packetization-mode=1",
        ...(sprop.length ? [`sprop-parameter-sets=${sprop.join(",")}`] : []),
      ]
      : sprop.map((text, index) => `sprop-${["vps", "sps", "pps"][index]}=${text}`);
    const lines = [
      ...["v=0", "o=- 1 1 IN IP4 127.0.0.1", `s=${name.replaceAll(/[\r\n]/g, " ")}`, "t=0 0"],
      ...["a=control:*", `m=video 0 RTP/AVP ${VIDEO.payloadType}`],
      `a=rtpmap:${VIDEO.payloadType} ${video.codec.toUpperCase()}/90000`,
      ...(format.length ? [`a=fmtp:${VIDEO.payloadType} ${format.join(";")}`] : []),
      "a=control:track1",
    ];
    if (audio) {
      const type = audioType(audio.codec);
      lines.push(`m=audio 0 RTP/AVP ${type}`);
      if (audio.codec === "aac") {
        const rates = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000];
        const config = 2 << 11 | rates.indexOf(audio.sampleRateHz) << 7 | audio.channels << 3;
        lines.push(
          `a=rtpmap:${type} mpeg4-generic/${audio.sampleRateHz}/${audio.channels}`,
          `a=fmtp:${type} streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;` +
            `indexdeltalength=3;config=${config.toString(16).padStart(4, "0")}`,
        );
      } else if (audio.codec === "opus") {
        lines.push(`a=rtpmap:${type} opus/48000/2`, `a=fmtp:${type} sprop-stereo=0`);
      }
      lines.push("a=control:track2");
    }
    return `${lines.join("\r\n")}\r\n`;
  }
}

function audioType(codec: "aac" | "opus" | "pcma" | "pcmu"): number {
  return codec === "pcmu" ? 0 : codec === "pcma" ? 8 : 97;
}

function parseRequest(head: string): Request {
  const [start = "", ...lines] = head.split("\r\n");
  const [method = "", uri = ""] = start.split(" ");
  const fields = new Map(lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()];
  }));
  return { method, uri, field: (name) => fields.get(name) ?? "" };
}
