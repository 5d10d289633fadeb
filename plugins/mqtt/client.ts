/**
 * One connection to an MQTT broker, from CONNECT to its end. It never connects again by itself: its
 * owner makes a new one.
 *
 * @module
 */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import {
  createPacketReader,
  DISCONNECT,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  type MqttLevel,
  type MqttMessage,
  type MqttPacket,
  MqttProtocolError,
  PINGREQ,
} from "./packets.ts";

/** The broker said no. `code` is a reason code of MQTT 5 (§2.4), also where 3.1.1 is spoken. */
export class MqttRefusal extends Error {
  /** Always `MqttRefusal`. */
  override readonly name = "MqttRefusal";
  /** Such as 0x87: not authorized. */
  readonly code: number;
  /** What it was asked for. */
  readonly asked: "connect" | "publish" | "subscribe";

  constructor(asked: MqttRefusal["asked"], code: number) {
    super(`the broker refused to ${asked}: reason 0x${code.toString(16)}`);
    this.asked = asked;
    this.code = code;
  }
}

/** Where and how. */
export interface MqttConnectOptions {
  readonly host: string;
  readonly port: number;
  /** Over TLS; `ca` (PEM) in place of the authorities that the system trusts. */
  readonly tls?: { readonly ca?: string | undefined } | undefined;
  readonly level: MqttLevel;
  readonly clientId: string;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** Published by the broker when this connection breaks. */
  readonly will?: MqttMessage | undefined;
  /** Called for each message of a topic subscribed to. */
  readonly onMessage?: (
    message: Extract<MqttPacket, { type: "publish" }>,
  ) => void;
  /** Ends the attempt; after that it has no effect. */
  readonly signal: AbortSignal;
}

/** A connection that the broker took. */
export interface MqttConnection {
  /** False once it broke or was ended. */
  readonly isOpen: boolean;
  /** QoS 1: resolves when the broker has taken the message. @throws {@linkcode MqttRefusal} */
  publish(message: MqttMessage): Promise<void>;
  /**
   * QoS 0: resolves when the broker has confirmed, and has sent what it retains (it answers in order).
   *
   * @throws {@linkcode MqttRefusal}
   */
  subscribe(topics: readonly string[]): Promise<void>;
  /** Says goodbye, after `last` if given, and ends; waits at most half a second for that. */
  end(last?: MqttMessage): Promise<void>;
  /** Breaks it; whatever waits rejects. */
  destroy(): void;
}

const CONNECT_MS = 20_000;
const KEEP_ALIVE_S = 30;
const GOODBYE_MS = 500;

/** From the return codes of 3.1.1 (§3.2.2.3) to those of 5. */
const CODE_OF_311: Readonly<Record<number, number>> = {
  1: 0x84,
  2: 0x85,
  3: 0x88,
  4: 0x86,
  5: 0x87,
};

/**
 * Connects.
 *
 * @throws {@linkcode MqttRefusal}, {@linkcode MqttProtocolError}, the socket's error, or the
 * signal's reason
 */
export async function connectMqtt(
  options: MqttConnectOptions,
): Promise<MqttConnection> {
  const { host, port, tls, level, signal } = options;
  signal.throwIfAborted();
  const socket: Socket = tls
    ? connectTls({
      host,
      port,
      ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    })
    : connectTcp({ host, port });
  const link = new Link(socket, options);
  const abort = () => link.fail(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  const late = setTimeout(
    () => link.fail(new Error("no answer within 20 s")),
    CONNECT_MS,
  );
  try {
    socket.once(tls ? "secureConnect" : "connect", () => {
      socket.write(encodeConnect({ ...options, keepAliveS: KEEP_ALIVE_S }));
    });
    const answer = await link.hear<Extract<MqttPacket, { type: "connack" }>>(
      "connack",
    );
    if (answer.code !== 0) {
      throw new MqttRefusal(
        "connect",
        level === 5 ? answer.code : CODE_OF_311[answer.code] ?? answer.code,
      );
    }
    link.keepAlive(answer.keepAliveS ?? KEEP_ALIVE_S);
    return link;
  } catch (error) {
    link.destroy();
    throw error;
  } finally {
    clearTimeout(late);
    signal.removeEventListener("abort", abort);
  }
}

class Link implements MqttConnection {
  readonly #socket: Socket;
  readonly #level: MqttLevel;
  readonly #onMessage: MqttConnectOptions["onMessage"];
  /** Those who wait for an answer, by its type and number. */
  readonly #waiting = new Map<string, PromiseWithResolvers<MqttPacket>>();
  #lastId = 0;
  #ended: Error | undefined;
  #pulse: ReturnType<typeof setInterval> | undefined;
  #isHeard = true;

  constructor(socket: Socket, options: MqttConnectOptions) {
    this.#socket = socket;
    this.#level = options.level;
    this.#onMessage = options.onMessage;
    const reader = createPacketReader(options.level);
    socket.on("data", (chunk) => {
      if (this.#ended) return;
      try {
        for (const packet of reader.push(chunk)) this.#take(packet);
      } catch (error) {
        this.fail(error instanceof Error ? error : new Error(String(error)));
      }
    });
    socket.on("error", (error) => this.fail(error));
    socket.on("close", () => this.fail(new Error("the connection broke")));
    socket.setNoDelay(true);
  }

  get isOpen(): boolean {
    return this.#ended === undefined;
  }

  #take(packet: MqttPacket): void {
    this.#isHeard = true;
    switch (packet.type) {
      case "publish":
        return this.#onMessage?.(packet);
      case "disconnect":
        return this.fail(
          new Error(
            `the broker ended the connection: reason 0x${packet.code.toString(16)}`,
          ),
        );
      default: {
        const name = "id" in packet ? `${packet.type} ${packet.id}` : packet.type;
        this.#waiting.get(name)?.resolve(packet);
        this.#waiting.delete(name);
      }
    }
  }

  /** Waits for an answer. */
  async hear<Packet extends MqttPacket>(name: string): Promise<Packet> {
    if (this.#ended) throw this.#ended;
    const wait = this.#waiting.get(name) ?? Promise.withResolvers<MqttPacket>();
    this.#waiting.set(name, wait);
    return await wait.promise as Packet;
  }

  keepAlive(seconds: number): void {
    if (seconds === 0 || this.#ended) return;
    this.#pulse = setInterval(() => {
      if (!this.#isHeard) {
        return this.fail(new Error("the broker has gone silent"));
      }
      this.#isHeard = false;
      this.#socket.write(PINGREQ);
    }, seconds * 1000);
  }

  async publish(message: MqttMessage): Promise<void> {
    const id = this.#nextId();
    const answer = this.hear<Extract<MqttPacket, { type: "puback" }>>(
      `puback ${id}`,
    );
    if (!this.#ended) {
      this.#socket.write(encodePublish(this.#level, message, id));
    }
    const { code } = await answer;
    if (code >= 0x80) throw new MqttRefusal("publish", code);
  }

  async subscribe(topics: readonly string[]): Promise<void> {
    const id = this.#nextId();
    const answer = this.hear<Extract<MqttPacket, { type: "suback" }>>(
      `suback ${id}`,
    );
    const pong = this.hear("pingresp");
    pong.catch(() => {}); // awaited below
    if (!this.#ended) {
      this.#socket.write(encodeSubscribe(this.#level, topics, id));
      this.#socket.write(PINGREQ);
    }
    const refused = (await answer).codes.find((code) => code >= 0x80);
    if (refused !== undefined) {
      throw new MqttRefusal("subscribe", refused === 0x80 ? 0x87 : refused);
    }
    await pong;
  }

  async end(last?: MqttMessage): Promise<void> {
    if (this.#ended) return;
    const closed = new Promise<void>((done) => this.#socket.once("close", () => done()));
    if (last) this.#socket.write(encodePublish(this.#level, last));
    this.#socket.end(DISCONNECT);
    let timer: ReturnType<typeof setTimeout> | undefined;
    await Promise.race([
      closed,
      new Promise<void>((done) => timer = setTimeout(done, GOODBYE_MS)),
    ]);
    clearTimeout(timer);
    this.destroy();
  }

  destroy(): void {
    this.fail(new Error("the connection was ended"));
  }

  fail(error: Error): void {
    if (this.#ended) return;
    this.#ended = error;
    clearInterval(this.#pulse);
    this.#socket.destroy();
    for (const { promise, reject } of this.#waiting.values()) {
      promise.catch(() => {}); // whoever waits hears it; a ping waits alone
      reject(error);
    }
    this.#waiting.clear();
  }

  #nextId(): number {
    this.#lastId = this.#lastId % 0xffff + 1;
    return this.#lastId;
  }
}

export { MqttProtocolError };
