/** What a plugin is granted, and that a frame of a plugin's can do no harm. */
import assert from "node:assert/strict";
import { FrameError, messageFrame, readFrames } from "../../core/plugins/messages.ts";
import { deniedAddresses, rightsOf } from "../../core/plugins/rights.ts";
import { seededRandom } from "../support/seeded_random.ts";

const nothing = { hosts: [], run: [], read: [], write: [], scratch: false };

Deno.test("a host that stands in the sink's options is granted, any other one is asked for", () => {
  const options = {
    url: "https://nas.local:8443/dav",
    deep: { server: "mq.local" },
    x: "s3://b.c/d",
  };
  const { rights, missing } = rightsOf({
    hosts: ["nas.local:8443", "mq.local:1883", "b.c", "evil.example", "nas.local:22"],
  }, { granted: nothing, options });
  assert.deepEqual(rights.hosts, ["nas.local:8443", "mq.local:1883", "b.c"]);
  assert.deepEqual(missing, ["--allow-host evil.example", "--allow-host nas.local:22"]);
});

Deno.test("a granted pattern covers hosts below it and nothing beside it", () => {
  const { missing } = rightsOf({
    hosts: ["s3.eu.amazonaws.com", "xamazonaws.com", "amazonaws.com", "*", "a b", "h,127.0.0.1"],
  }, { granted: { ...nothing, hosts: ["*.amazonaws.com"] }, options: {} });
  assert.deepEqual(missing.map((flag) => flag.split(" ")[1]), [
    "xamazonaws.com",
    "amazonaws.com",
    '"*"',
    '"a',
    '"h,127.0.0.1"',
  ]);
});

Deno.test("programs, files and a scratch folder are granted by name only", () => {
  const about = { needs: { run: ["rclone", "sh"], read: ["/etc/x"], scratch: true } };
  const { rights, missing } = rightsOf(about, {
    granted: { ...nothing, run: ["rclone"] },
    options: { program: "sh" },
  });
  assert.deepEqual(rights.run, ["rclone"]);
  assert.deepEqual(missing, ["--allow-run sh", "--allow-read /etc/x", "--allow-scratch"]);
});

Deno.test("addresses of this machine and of a cloud's metadata are refused unless granted by name", () => {
  assert.ok(deniedAddresses(["example.com"]).includes("127.0.0.0/8"));
  assert.ok(deniedAddresses(["example.com"]).includes("169.254.0.0/16"));
  assert.ok(!deniedAddresses(["localhost:9000"]).includes("127.0.0.0/8"));
  assert.ok(deniedAddresses(["localhost:9000"]).includes("169.254.0.0/16"));
});

Deno.test("frames come out whole however they are cut, and noise lets only a FrameError out", async () => {
  const random = seededRandom(6);
  for (let round = 0; round < 300; round++) {
    const messages = Array.from({ length: 5 }, (_, id) => ({
      t: "error" as const,
      id,
      message: "é".repeat(Math.floor(random() * 50)),
      kind: "retry" as const,
    }));
    const bytes = new Uint8Array(messages.flatMap((one) => [...messageFrame(one)]));
    const isNoisy = round % 2 === 1;
    if (isNoisy) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    const input = new ReadableStream<Uint8Array>({
      start(to) {
        for (let at = 0; at < bytes.length;) {
          const next = at + 1 + Math.floor(random() * 40);
          to.enqueue(bytes.slice(at, next));
          at = next;
        }
        to.close();
      },
    });
    try {
      const frames = await Array.fromAsync(readFrames(input, 1000));
      if (!isNoisy) assert.deepEqual(frames, messages.map((message) => ({ message })));
    } catch (error) {
      assert.ok(isNoisy && error instanceof FrameError, String(error));
    }
  }
});
