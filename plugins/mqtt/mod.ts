/**
 * The sink that tells of each clip over MQTT, and shows the cameras in Home Assistant by themselves.
 *
 * MQTT cannot be asked what was published. So the broker itself keeps, as a retained message per
 * camera, which clips were told of last: a repeated one is known by it, also to the next process. The
 * clip's bytes are not read.
 *
 * @module
 */
import * as v from "valibot";
import {
  type Clip,
  defineSink,
  duration,
  httpUrl,
  isPublicHost,
  type PutOptions,
  type PutResult,
  type Secret,
  secret,
  type Sink,
  SinkError,
  type SinkPlugin,
} from "camsink";
import { connectMqtt, type MqttConnection, MqttProtocolError, MqttRefusal } from "./client.ts";
import {
  cameraTopic,
  clipEvent,
  discovery,
  parseRecent,
  type Recent,
  RECENT_CLIPS,
} from "./events.ts";
import type { MqttMessage } from "./packets.ts";

/** Options of the `mqtt` sink. */
export interface MqttOptions {
  /** The broker: `mqtt://HOST[:1883]`, or `mqtts://HOST[:8883]` with TLS. */
  readonly url: string;
  /** Of the login. */
  readonly username?: string;
  /** Of the login. */
  readonly password?: Secret;
  /** A certificate authority (PEM) in place of those that the system trusts. */
  readonly ca?: Secret;
  /** In front of every topic. */
  readonly topic: string;
  /** Whether Home Assistant finds the cameras. */
  readonly homeAssistant: boolean;
  /** Home Assistant's own prefix. */
  readonly discoveryPrefix: string;
  /** In Home Assistant, clips have stopped when none came for so long, ms. */
  readonly quietAfter: number;
  /** Where the clips can be found: put in front of the key. */
  readonly clipsUrl?: string;
  /** The version of MQTT that is spoken. */
  readonly mqttVersion: "5" | "3.1.1";
}

const BROKER = 'expected a broker such as "mqtt://nas.local" or "mqtts://nas.local:8883"';

// deno-lint-ignore no-control-regex -- control characters are what is looked for
const TOPIC = /^[^/+#\u0000-\u001f]+(\/[^/+#\u0000-\u001f]+)*$/;

const topicText = (what: string) =>
  v.pipe(
    v.string(`expected a topic such as "${what}"`),
    v.regex(
      TOPIC,
      `expected a topic such as "${what}", without "+", "#" and slashes at its ends`,
    ),
    v.maxLength(200, "expected a topic of at most 200 letters"),
  );

const schema = v.pipe(
  v.strictObject({
    url: v.pipe(
      v.string(BROKER),
      v.check((text) => {
        if (!/^mqtts?:\/\//.test(text) || !URL.canParse(text)) return false;
        const { hostname, pathname, search, hash } = new URL(text);
        return hostname !== "" && (pathname === "" || pathname === "/") &&
          search + hash === "";
      }, BROKER),
      v.check(
        (text) =>
          !URL.canParse(text) ||
          new URL(text).username + new URL(text).password === "",
        'the URL must not hold credentials: give "username" and "password" beside it',
      ),
      v.check(
        (text) => !text.startsWith("mqtt:") || !URL.canParse(text) || !isPublicHost(new URL(text)),
        "expected mqtts:// for a broker outside your own network: MQTT itself guards neither the " +
          "password nor what is said",
      ),
      v.description("The broker: `mqtt://HOST`, or `mqtts://HOST` with TLS."),
    ),
    username: v.optional(v.pipe(
      v.string("expected a user name"),
      v.nonEmpty("expected a user name"),
      v.description("The user's name, where the broker wants one."),
    )),
    password: v.optional(v.pipe(secret(), v.description("The password."))),
    ca: v.optional(v.pipe(
      secret(),
      v.description(
        "With `mqtts:`, the certificate authority that the broker's certificate is of, in PEM, " +
          "such as `file:/etc/mosquitto/ca.crt`; those of the system if left out.",
      ),
    )),
    topic: v.optional(
      v.pipe(topicText("camsink"), v.description("In front of every topic.")),
      "camsink",
    ),
    homeAssistant: v.optional(
      v.pipe(
        v.boolean("expected true or false"),
        v.description(
          "Home Assistant shows the cameras by itself (MQTT discovery).",
        ),
      ),
      true,
    ),
    discoveryPrefix: v.optional(
      v.pipe(
        topicText("homeassistant"),
        v.description("Where Home Assistant looks for discovery messages."),
      ),
      "homeassistant",
    ),
    quietAfter: v.optional(
      v.pipe(
        duration({ minMs: 60_000 }),
        v.description(
          "In Home Assistant, clips have stopped when none came for so long.",
        ),
      ),
      "30m",
    ),
    clipsUrl: v.optional(v.pipe(
      httpUrl(),
      v.description(
        "Where another sink's clips are to be found: stands in front of the key.",
      ),
    )),
    mqttVersion: v.optional(
      v.pipe(
        v.picklist(["5", "3.1.1"], 'expected "5" or "3.1.1"'),
        v.description(
          "The version that the broker speaks. With `3.1.1` it cannot refuse topics.",
        ),
      ),
      "5",
    ),
  }),
  v.check(
    ({ username, password }) => password === undefined || username !== undefined,
    'a "password" needs a "username" beside it',
  ),
  v.check(
    ({ url, ca }) => ca === undefined || url.startsWith("mqtts:"),
    '"ca" is for TLS: begin "url" with "mqtts://", or leave it out',
  ),
  v.description(
    "An MQTT broker that is told of each clip, and Home Assistant by it.",
  ),
);

/** The `mqtt` sink. */
const mqtt: SinkPlugin<MqttOptions> = defineSink<MqttOptions>({
  name: "mqtt",
  config: schema,
  net: ({ url }) => [addressOf(url).address],
  open: ({ config }): Sink => new MqttSink(config),
});
export default mqtt;

function addressOf(
  url: string,
): { host: string; port: number; address: string; tls: boolean } {
  const { protocol, hostname, port } = new URL(url);
  const tls = protocol === "mqtts:";
  const number = Number(port || (tls ? 8883 : 1883));
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  return { host, port: number, address: `${hostname}:${number}`, tls };
}

interface Session {
  readonly connection: MqttConnection;
  /** What it was made with: another one makes another session. */
  readonly credential: string;
  /** What the broker keeps, by camera. */
  readonly recents: Map<string, Recent>;
  /** Cameras that Home Assistant was told of. */
  readonly announced: Set<string>;
}

class MqttSink implements Sink {
  readonly #options: MqttOptions;
  readonly #closing = new AbortController();
  #session: Session | undefined;
  /** Done when all puts before the next are: their messages are in order. */
  #before: Promise<unknown> = Promise.resolve();

  constructor(options: MqttOptions) {
    this.#options = options;
  }

  async put(clip: Clip, options: PutOptions): Promise<PutResult> {
    const signal = AbortSignal.any([options.signal, this.#closing.signal]);
    signal.throwIfAborted();
    const camera = cameraTopic(clip.key);
    const before = this.#before;
    const mine = Promise.withResolvers<void>();
    this.#before = Promise.all([before, mine.promise]);
    try {
      await unlessAborted(before, signal);
      return await this.#tell(clip, camera, { ...options, signal });
    } finally {
      mine.resolve();
    }
  }

  async #tell(
    clip: Clip,
    camera: string,
    options: PutOptions,
  ): Promise<PutResult> {
    const { signal } = options;
    const { topic, clipsUrl } = this.#options;
    try {
      const session = await this.#connected(signal);
      const say = (message: MqttMessage) =>
        unlessAborted(session.connection.publish(message), signal);
      const recent = session.recents.get(camera);
      const known = recent?.clips.find(([key]) => key === clip.key);
      if (known?.[1] === clip.sha256) {
        options.progress(clip.bytes);
        return { state: "already-there" };
      }
      if (known !== undefined) {
        throw new SinkError(
          "conflict",
          `another clip was told of as ${clip.key}`,
        );
      }
      if (this.#options.homeAssistant && !session.announced.has(camera)) {
        const messages = discovery({
          topic,
          prefix: this.#options.discoveryPrefix,
          camera,
          cameraName: clip.camera,
          quietAfterMs: this.#options.quietAfter,
        });
        for (const message of messages) await say(message);
        session.announced.add(camera);
      }
      const payload = clipEvent(clip, clipsUrl);
      await say({ topic: `${topic}/${camera}/clip`, payload });
      const end = clip.end.toISOString();
      const isNewest = recent === undefined || end >= recent.newest;
      const next: Recent = {
        newest: isNewest ? end : recent.newest,
        clips: [...recent?.clips ?? [], [clip.key, clip.sha256] as const].slice(
          -RECENT_CLIPS,
        ),
      };
      await say({
        topic: `${topic}/${camera}/recent`,
        payload: JSON.stringify(next),
        retain: true,
      });
      session.recents.set(camera, next);
      // A clip that was held up must not take the place of a newer one.
      if (isNewest) {
        await say({ topic: `${topic}/${camera}/last`, payload, retain: true });
      }
      options.progress(clip.bytes);
      return { state: "stored" };
    } catch (error) {
      if (signal.aborted) this.#drop();
      signal.throwIfAborted();
      throw this.#toSinkError(error, `cannot tell of ${clip.key}`);
    }
  }

  /** Logs in beside what is under way and publishes an empty message to `TOPIC/check`. */
  async check({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    let connection: MqttConnection | undefined;
    try {
      connection = await this.#connect(await this.#credentials(), signal);
      await unlessAborted(
        connection.publish({
          topic: `${this.#options.topic}/check`,
          payload: "",
        }),
        signal,
      );
      await connection.end();
    } catch (error) {
      connection?.destroy();
      signal.throwIfAborted();
      throw this.#toSinkError(error, "a test failed");
    }
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.connection.end(this.#status("offline"));
    this.#closing.abort(new SinkError("retry", "the sink was closed"));
  }

  #status(payload: "online" | "offline"): MqttMessage {
    return { topic: `${this.#options.topic}/status`, payload, retain: true };
  }

  #drop(): void {
    this.#session?.connection.destroy();
    this.#session = undefined;
  }

  async #credentials(): Promise<
    Readonly<Record<"password" | "ca", string | undefined>>
  > {
    const { password, ca } = this.#options;
    return { password: await reveal(password), ca: await reveal(ca) };
  }

  async #connect(
    { password, ca }: Readonly<Record<"password" | "ca", string | undefined>>,
    signal: AbortSignal,
    more: {
      will?: MqttMessage;
      onMessage?: Parameters<typeof connectMqtt>[0]["onMessage"];
    } = {},
  ): Promise<MqttConnection> {
    const { url, username, mqttVersion } = this.#options;
    const { host, port, tls } = addressOf(url);
    return await connectMqtt({
      host,
      port,
      tls: tls ? { ca } : undefined,
      level: mqttVersion === "5" ? 5 : 4,
      // Of its own: brokers end a connection when another one comes with its name.
      clientId: `camsink-${crypto.randomUUID().slice(0, 13)}`,
      username,
      password,
      signal,
      ...(more.will ? { will: more.will } : {}),
      ...(more.onMessage ? { onMessage: more.onMessage } : {}),
    });
  }

  async #connected(signal: AbortSignal): Promise<Session> {
    const credentials = await this.#credentials();
    const credential = JSON.stringify(credentials);
    const old = this.#session;
    if (old?.connection.isOpen && old.credential === credential) return old;
    this.#drop();
    const { topic } = this.#options;
    const recents = new Map<string, Recent>();
    let isReady = false;
    const connection = await this.#connect(credentials, signal, {
      will: this.#status("offline"),
      onMessage: ({ topic: place, payload, retain }) => {
        if (place === `${topic}/status`) {
          // An older connection's will, or another Camsink that stops: we are still here.
          const isOffline = new TextDecoder().decode(payload) === "offline";
          if (
            isOffline && isReady && !retain &&
            this.#session?.connection === connection
          ) {
            connection.publish(this.#status("online")).catch(() => {});
          }
          return;
        }
        // What comes later is what we said ourselves.
        if (!retain || isReady) return;
        const recent = parseRecent(payload);
        const camera = place.slice(topic.length + 1).replace(/\/recent$/, "");
        if (recent !== undefined) recents.set(camera, recent);
      },
    });
    try {
      await unlessAborted(
        connection.subscribe([`${topic}/+/recent`, `${topic}/status`]),
        signal,
      );
      isReady = true;
      await unlessAborted(connection.publish(this.#status("online")), signal);
    } catch (error) {
      connection.destroy();
      throw error;
    }
    this.#session = { connection, credential, recents, announced: new Set() };
    return this.#session;
  }

  #toSinkError(error: unknown, what: string): SinkError {
    if (error instanceof SinkError) return error;
    const { address } = addressOf(this.#options.url);
    if (error instanceof MqttRefusal) {
      // Many brokers say "not authorized" of a wrong password, too.
      const code = error.asked === "connect" && error.code === 0x87 ? 0x86 : error.code;
      const [kind, why] = REFUSALS[code] ?? ["retry", undefined];
      const done = error.asked === "connect"
        ? "refused the connection"
        : `refused to ${error.asked}`;
      return new SinkError(
        kind,
        `${what}: ${address} ${done}: ${why ?? `reason 0x${error.code.toString(16)}`}`,
      );
    }
    this.#drop();
    if (error instanceof RangeError) {
      return new SinkError("permanent", `${what}: ${error.message}`);
    }
    if (error instanceof MqttProtocolError) {
      return new SinkError(
        "retry",
        `${what}: ${address} does not speak MQTT ${this.#options.mqttVersion}: ${error.message}`,
      );
    }
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    const text = error instanceof Error ? error.message : String(error);
    if (/cert|issuer|self.signed|altname/i.test(`${code} ${text}`)) {
      return new SinkError(
        "retry",
        `${what}: the certificate of ${address} is not trusted (${text}): name its authority in ` +
          '"ca", or correct the host in "url"',
      );
    }
    const why = code === "ECONNREFUSED"
      ? "nothing listens there: start the broker, or correct the port"
      : code === "ENOTFOUND" || /dns|lookup/i.test(text)
      ? "the host is unknown: check its name and the network"
      : text;
    return new SinkError("retry", `${what}: no answer from ${address}: ${why}`);
  }
}

/** What a reason code (MQTT 5 §2.4) means for delivery. */
const REFUSALS: Readonly<
  Record<number, readonly ["retry" | "auth" | "full" | "permanent", string]>
> = {
  0x84: [
    "auth",
    'it does not speak this version of MQTT: set "mqttVersion" to the other one',
  ],
  0x86: [
    "auth",
    'the user name or password is wrong: look at "username" and "password"',
  ],
  0x87: [
    "auth",
    "the user lacks the right: its README lists the topics",
  ],
  0x8a: ["auth", "the broker has banned this client"],
  0x8c: [
    "auth",
    "the broker wants another way to log in than name and password",
  ],
  0x90: ["permanent", "the broker does not accept the topic"],
  0x95: ["permanent", "the message is too large for the broker"],
  0x97: ["full", "a quota of the broker is used up"],
  0x9a: ["auth", "the broker keeps no retained messages: switch that on"],
  0x9b: ["auth", "the broker does not take messages of QoS 1: allow that"],
};

async function reveal(secret: Secret | undefined): Promise<string | undefined> {
  if (secret === undefined) return undefined;
  try {
    return await secret.reveal();
  } catch (error) {
    throw new SinkError(
      "auth",
      error instanceof Error ? error.message : String(error),
    );
  }
}

/** What a promise gives, or the signal's reason. */
async function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  promise.catch(() => {}); // it may fail after it was left behind
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
