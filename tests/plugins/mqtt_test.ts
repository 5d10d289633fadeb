/** The `mqtt` sink with Debian's mosquitto: what the conformance kit does not ask for. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createPacketReader, MqttProtocolError } from "../../plugins/mqtt/packets.ts";
import { brokerUnavailable, startBroker } from "../../plugins/mqtt/broker.ts";
import mqtt from "../../plugins/mqtt/mod.ts";
import { type Clip, type Sink, sinkErrorKind } from "../../mod.ts";
import { createLoopbackCertificate } from "../../simulators/mod.ts";
import { seededRandom } from "../support/seeded_random.ts";
import { PATIENCE_MS } from "../support/until.ts";

const PASSWORD = "test-mqtt-5e0b11";
const missing = brokerUnavailable();
const reason = missing ? ` (skipped: ${missing})` : "";

function clip(minute: number, more: Partial<Clip> = {}): Clip {
  const start = new Date(Date.UTC(2026, 7, 21, 14, minute));
  return {
    key: `yard/2026/08/21/20260821T14${String(minute).padStart(2, "0")}00Z.mp4`,
    camera: "Yard",
    start,
    end: new Date(start.getTime() + 60_000),
    bytes: 1000,
    sha256: String(minute).padStart(64, "0"),
    contentType: "video/mp4",
    open: () => {
      throw new Error("its bytes are not wanted");
    },
    ...more,
  };
}

const options = () => ({
  signal: AbortSignal.timeout(PATIENCE_MS),
  attempt: 1,
  progress: () => {},
});

async function open(config: Record<string, unknown>): Promise<Sink> {
  const result = await mqtt.config["~standard"].validate(config) as {
    value?: never;
    issues?: unknown;
  };
  assert.equal(result.issues, undefined, JSON.stringify(result.issues));
  const log = () => {};
  return await mqtt.open({
    name: "home",
    config: result.value as never,
    log: { debug: log, info: log, warn: log, error: log },
    fetch,
  });
}

async function failure(put: Promise<unknown>): Promise<Error> {
  return await put.then(
    () => assert.fail("expected it to fail"),
    (error) => error,
  );
}

function brokerTest(
  name: string,
  run: (
    world: {
      readonly folder: string;
      readonly broker: Awaited<ReturnType<typeof startBroker>>;
      readonly config: Record<string, unknown>;
    },
  ) => Promise<void>,
  more: { readonly acl?: readonly string[] } = {},
): void {
  Deno.test({
    name: `${name}${reason}`,
    ignore: missing !== undefined,
    fn: async () => {
      const folder = await mkdtemp(join(tmpdir(), "camsink-mqtt-"));
      try {
        await writeFile(join(folder, "password"), PASSWORD);
        await using broker = await startBroker({
          folder,
          password: PASSWORD,
          ...more,
        });
        await run({
          folder,
          broker,
          config: {
            url: `mqtt://127.0.0.1:${broker.port}`,
            username: broker.username,
            password: `file:${join(folder, "password")}`,
          },
        });
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  });
}

brokerTest(
  "Home Assistant is told of a camera, of its newest clip and of the end",
  async (world) => {
    const sink = await open({
      ...world.config,
      clipsUrl: "https://nas.local/clips/",
    });
    await sink.put(clip(5), options());
    await sink.put(clip(6), options());
    using heard = await world.broker.listen(["#"]);
    const kept = new Map(
      heard.messages.map(({ topic, text }) => [topic, text]),
    );
    assert.deepEqual([...kept.keys()].sort(), [
      "camsink/status",
      "camsink/yard/last",
      "camsink/yard/recent",
      "homeassistant/binary_sensor/camsink_yard/clips/config",
      "homeassistant/sensor/camsink_yard/last_clip/config",
    ]);
    assert.equal(kept.get("camsink/status"), "online");
    assert.deepEqual(JSON.parse(kept.get("camsink/yard/last") ?? ""), {
      event: "clip",
      key: clip(6).key,
      camera: "Yard",
      start: "2026-08-21T14:06:00.000Z",
      end: "2026-08-21T14:07:00.000Z",
      seconds: 60,
      bytes: 1000,
      sha256: clip(6).sha256,
      contentType: "video/mp4",
      url: `https://nas.local/clips/${clip(6).key}`,
    });
    assert.deepEqual(
      JSON.parse(
        kept.get("homeassistant/sensor/camsink_yard/last_clip/config") ?? "",
      ),
      {
        unique_id: "camsink_yard_last_clip",
        name: "Last clip",
        device_class: "timestamp",
        value_template: "{{ value_json.end }}",
        json_attributes_topic: "camsink/yard/last",
        state_topic: "camsink/yard/last",
        availability_topic: "camsink/status",
        device: {
          identifiers: ["camsink_yard"],
          name: "Yard",
          manufacturer: "Camsink",
        },
        origin: { name: "Camsink" },
      },
    );
    await sink.close?.();
    await heard.settled();
    assert.equal(
      heard.messages.findLast(({ topic }) => topic === "camsink/status")?.text,
      "offline",
    );
  },
);

brokerTest(
  "without Home Assistant nothing is said to it",
  async ({ broker, config }) => {
    const sink = await open({ ...config, homeAssistant: false });
    await sink.put(clip(5), options());
    using heard = await broker.listen(["homeassistant/#"]);
    assert.deepEqual(heard.messages, []);
    await sink.close?.();
  },
);

brokerTest(
  "a clip that was held up is told of, and the newest stays the newest",
  async (world) => {
    using heard = await world.broker.listen(["camsink/yard/#"]);
    const sink = await open(world.config);
    await sink.put(clip(30), options());
    assert.deepEqual(await sink.put(clip(10), options()), { state: "stored" });
    await heard.settled();
    const keys = (topic: string) =>
      heard.messages.filter((message) => message.topic === topic)
        .map(({ text }) => JSON.parse(text).key);
    assert.deepEqual(keys("camsink/yard/clip"), [clip(30).key, clip(10).key]);
    assert.deepEqual(keys("camsink/yard/last"), [clip(30).key]);
    // By another process, and not the last one of its camera.
    const next = await open(world.config);
    assert.deepEqual(await next.put(clip(30), options()), {
      state: "already-there",
    });
    assert.equal(
      sinkErrorKind(
        await failure(next.put(clip(10, { sha256: "f" }), options())),
      ),
      "conflict",
    );
    await sink.close?.();
    await next.close?.();
  },
);

brokerTest(
  "a broker that is down, comes, goes and comes again costs no event and makes none twice",
  async (world) => {
    const { broker, config } = world;
    await broker.stop();
    const sink = await open(config);
    const error = await failure(sink.put(clip(1), options()));
    assert.equal(sinkErrorKind(error), "retry");
    assert.match(
      error.message,
      /no answer from 127\.0\.0\.1:\d+: nothing listens there: start the broker/,
    );
    await broker.start();
    assert.deepEqual(await sink.put(clip(1), options()), { state: "stored" });
    await broker.stop();
    assert.equal(
      sinkErrorKind(await failure(sink.put(clip(2), options()))),
      "retry",
    );
    await broker.start();
    using heard = await broker.listen(["camsink/#"]);
    assert.deepEqual(await sink.put(clip(1), options()), {
      state: "already-there",
    });
    assert.deepEqual(await sink.put(clip(2), options()), { state: "stored" });
    await heard.settled();
    const told = heard.messages.filter(({ topic }) => topic === "camsink/yard/clip");
    assert.deepEqual(told.map(({ text }) => JSON.parse(text).key), [
      clip(2).key,
    ]);
    const states = heard.messages.filter(({ topic }) => topic === "camsink/status");
    assert.equal(states.at(-1)?.text, "online");
    await sink.close?.();
  },
);

brokerTest(
  "a Camsink that stops does not make the other one look dead",
  async ({ broker, config }) => {
    const stays = await open(config);
    const stops = await open(config);
    await stays.put(clip(1), options());
    await stops.put(clip(2), options());
    using heard = await broker.listen(["camsink/status"]);
    await stops.close?.();
    await heard.settled(); // the goodbye was heard, by the one that stays, too
    await stays.put(clip(3), options());
    await heard.settled();
    assert.equal(heard.messages.at(-1)?.text, "online");
    await stays.close?.();
  },
);

brokerTest(
  "a wrong password parks the sink, and the password is not said",
  async (world) => {
    await writeFile(join(world.folder, "password"), "wrong-9f31");
    const sink = await open(world.config);
    for (const tried of [sink.put.bind(sink, clip(1), options()), () => sink.check?.(options())]) {
      const error = await failure((async () => await tried())());
      assert.equal(sinkErrorKind(error), "auth");
      assert.match(
        error.message,
        /refused the connection: the user name or password is wrong/,
      );
      assert.ok(!Deno.inspect(error).includes("wrong-9f31"));
    }
    await sink.close?.();
  },
);

brokerTest(
  "a topic that the user may not write to parks the sink",
  async ({ config }) => {
    const sink = await open(config);
    const error = await failure(sink.put(clip(1), options()));
    assert.equal(sinkErrorKind(error), "auth");
    assert.match(error.message, /refused to publish: the user lacks the right/);
    await sink.close?.();
  },
  {
    acl: [
      "topic read camsink/#",
      "topic write camsink/status",
      "topic write homeassistant/#",
    ],
  },
);

Deno.test({
  name: `TLS with an authority of one's own, which has to be named${reason}`,
  ignore: missing !== undefined,
  fn: async () => {
    const folder = await mkdtemp(join(tmpdir(), "camsink-mqtts-"));
    try {
      const { certPem, keyPem, caPem } = createLoopbackCertificate();
      const files = {
        cert: join(folder, "cert.pem"),
        key: join(folder, "key.pem"),
      };
      await writeFile(files.cert, certPem);
      await writeFile(files.key, keyPem);
      await writeFile(join(folder, "ca.pem"), caPem);
      await writeFile(join(folder, "password"), PASSWORD);
      await using broker = await startBroker({
        folder,
        password: PASSWORD,
        tls: { ...files, ca: caPem },
      });
      const config = {
        url: `mqtts://127.0.0.1:${broker.port}`,
        username: broker.username,
        password: `file:${join(folder, "password")}`,
      };
      const trusting = await open({
        ...config,
        ca: `file:${join(folder, "ca.pem")}`,
      });
      await trusting.check?.(options());
      assert.deepEqual(await trusting.put(clip(1), options()), {
        state: "stored",
      });
      await trusting.close?.();
      const wary = await open(config);
      const error = await failure(wary.put(clip(2), options()));
      assert.equal(sinkErrorKind(error), "retry");
      assert.match(
        error.message,
        /the certificate of 127\.0\.0\.1:\d+ is not trusted .* "ca"/s,
      );
      await wary.close?.();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
});

Deno.test("whatever bytes a broker sends, the reader gives packets or its own error", () => {
  const random = seededRandom(1883);
  const heads = [0x20, 0x30, 0x31, 0x32, 0x40, 0x90, 0xd0, 0xe0, 0xf0];
  let packets = 0;
  let errors = 0;
  for (let turn = 0; turn < 20_000; turn++) {
    const level = random() < 0.5 ? 4 : 5;
    const body = Uint8Array.from(
      { length: Math.floor(random() * 40) },
      () => random() < 0.5 ? Math.floor(random() * 4) : Math.floor(random() * 256),
    );
    const length = random() < 0.9 ? [body.length] : [0xff, 0xff, 0xff, Math.floor(random() * 256)];
    const bytes = [
      heads[Math.floor(random() * heads.length)] ?? 0,
      ...length,
      ...body,
    ];
    const reader = createPacketReader(level);
    try {
      // In two pieces, as TCP may have it.
      const cut = Math.floor(random() * bytes.length);
      packets += reader.push(Uint8Array.from(bytes.slice(0, cut))).length;
      packets += reader.push(Uint8Array.from(bytes.slice(cut))).length;
    } catch (error) {
      if (!(error instanceof MqttProtocolError)) throw error;
      errors++;
    }
  }
  assert.ok(
    packets > 1000 && errors > 1000,
    `${packets} packets, ${errors} errors`,
  );
});
