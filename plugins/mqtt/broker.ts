/**
 * Debian's mosquitto for the test: on a port and with a password of its own, and an ear on its topics
 * that is not the sink's.
 *
 * @module
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { kill } from "node:process";
import { connectMqtt, type MqttConnection } from "./client.ts";

/** Where Debian puts it, which is not on every user's PATH. */
const MOSQUITTO = "/usr/sbin/mosquitto";

/** Why there is none on this machine. */
export function brokerUnavailable(): string | undefined {
  return spawnSync(MOSQUITTO, ["-h"]).error === undefined
    ? undefined
    : "mosquitto is not installed";
}

/** A running broker. */
export interface Broker extends AsyncDisposable {
  readonly port: number;
  readonly username: string;
  /** Ends it without a goodbye. */
  stop(): Promise<void>;
  /** Starts it again on the same port, with what it had saved. */
  start(): Promise<void>;
  /** Hears every message under these topics from now on; what is retained first. */
  listen(topics: readonly string[]): Promise<Heard>;
}

/** What was heard, and the way to stop. */
export interface Heard extends Disposable {
  readonly messages: {
    readonly topic: string;
    readonly text: string;
    readonly retain: boolean;
  }[];
  /** Resolves when everything that the broker had taken before this call has been heard. */
  settled(): Promise<void>;
}

/** Starts one. */
export async function startBroker(options: {
  readonly folder: string;
  readonly password: string;
  /** Files of a certificate and its key: then it speaks TLS. */
  readonly tls?: {
    readonly cert: string;
    readonly key: string;
    readonly ca: string;
  };
  /** Lines of an access list for the user `camsink`. */
  readonly acl?: readonly string[];
}): Promise<Broker> {
  const { folder, password, tls, acl } = options;
  const username = "camsink";
  const passwords = join(folder, "passwords");
  for (
    const [flags, name, word] of [[["-c"], username, password], [
      [],
      "ear",
      "ear",
    ]] as const
  ) {
    const made = spawnSync("mosquitto_passwd", [
      ...flags,
      "-b",
      passwords,
      name,
      word,
    ]);
    if (made.status !== 0) {
      throw new Error(`mosquitto_passwd: ${made.stdout}${made.stderr}`);
    }
  }
  const port = await freePort();
  const conf = join(folder, "mosquitto.conf");
  if (acl) {
    await writeFile(
      join(folder, "acl"),
      ["user ear", "topic readwrite #", `user ${username}`, ...acl, ""].join(
        "\n",
      ),
    );
  }
  await writeFile(
    conf,
    [
      `listener ${port} 127.0.0.1`,
      "allow_anonymous false",
      `password_file ${passwords}`,
      `user ${userInfo().username}`,
      "persistence true",
      `persistence_location ${folder}/`,
      "max_queued_messages 10000",
      "log_dest stderr",
      ...(acl ? [`acl_file ${join(folder, "acl")}`] : []),
      ...(tls ? [`certfile ${tls.cert}`, `keyfile ${tls.key}`] : []),
      "",
    ].join("\n"),
  );
  let child: ChildProcess | undefined;
  let gone: Promise<void> = Promise.resolve();
  const connections = new Set<MqttConnection>();

  const broker: Broker = {
    port,
    username,
    start: async () => {
      const started = spawn(MOSQUITTO, ["-c", conf], {
        stdio: ["ignore", "ignore", "pipe"],
      });
      child = started;
      gone = new Promise((done) => started.on("close", () => done()));
      await new Promise<void>((resolve, reject) => {
        let said = "";
        started.stderr.on("data", (data) => {
          said = (said + data).slice(-4000);
          if (/mosquitto version \S+ running/.test(said)) resolve();
        });
        started.on("error", reject);
        started.on(
          "close",
          () => reject(new Error(`mosquitto did not start: ${said}`)),
        );
      });
    },
    stop: async () => {
      // SIGKILL would lose what it keeps; a SIGTERM just after its start is forgotten by it.
      const ask = () => {
        try {
          // Not child.kill, which Deno lets send one signal only.
          if (child?.pid !== undefined) kill(child.pid, "SIGTERM");
        } catch {
          // it is gone already
        }
      };
      ask();
      const again = setInterval(ask, 100);
      await gone.finally(() => clearInterval(again));
    },
    listen: async (topics) => {
      const messages: { topic: string; text: string; retain: boolean }[] = [];
      const marks = new Map<string, () => void>();
      const connection = await connectMqtt({
        host: "127.0.0.1",
        port,
        tls: tls ? { ca: tls.ca } : undefined,
        level: 5,
        clientId: `ear-${crypto.randomUUID()}`,
        username: "ear",
        password: "ear",
        signal: AbortSignal.timeout(10_000),
        onMessage: ({ topic, payload, retain }) => {
          const text = new TextDecoder().decode(payload);
          if (topic === "ear/mark") return void marks.get(text)?.();
          messages.push({ topic, text, retain });
        },
      });
      connections.add(connection);
      await connection.subscribe([...topics, "ear/mark"]);
      return {
        messages,
        settled: async () => {
          const mark = crypto.randomUUID();
          const heard = new Promise<void>((resolve) => marks.set(mark, resolve));
          await connection.publish({ topic: "ear/mark", payload: mark });
          await heard;
        },
        [Symbol.dispose]: () => connection.destroy(),
      };
    },
    [Symbol.asyncDispose]: async () => {
      for (const connection of connections) connection.destroy();
      child?.kill("SIGKILL");
      await gone;
    },
  };
  await broker.start();
  return broker;
}

/** A port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer();
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(
        typeof address === "object" && address !== null ? address.port : 0,
      );
    })
  );
  await new Promise<void>((done) => server.close(() => done()));
  return port;
}
