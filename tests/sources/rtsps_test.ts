/** RTSP over TLS: how its connection is read, against a real socket in simulated time. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { connectRtsp } from "../../core/sources/rtsp/connection.ts";
import { parseRtspUrl } from "../../core/sources/rtsp/url.ts";
import { createLoopbackCertificate } from "../../simulators/mod.ts";
import { testBothWays } from "../support/both_ways.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { until } from "../support/until.ts";

const FRAMES = 500;
const PACKET_BYTES = 1400;

testBothWays(
  "all that a camera has sent over TLS is read at one moment, not a few packets of it",
  async () => {
    const { caPem, certPem, keyPem } = createLoopbackCertificate();
    const folder = await Deno.makeTempDir();
    try {
      const ca = join(folder, "ca.pem");
      await Deno.writeTextFile(ca, caPem);
      using listener = Deno.listenTls({
        ...{ hostname: "127.0.0.1", port: 0, cert: certPem, key: keyPem },
      });
      const accepted = listener.accept().then(async (conn) => {
        await conn.handshake();
        return conn;
      });
      const url = parseRtspUrl(`rtsps://127.0.0.1:${listener.addr.port}/`);
      assert.ok(url);
      const clock = createFakeClock();
      const given: number[] = [];
      const connection = await connectRtsp({
        ...{ url, ca, clock, signal: new AbortController().signal },
        onFrame: (_channel, data, from) =>
          void given.push((data[from] ?? 0) << 8 | data[from + 1]!),
        onRest: () => {},
        onRead: () => {},
        onLost: () => {},
      });
      using camera = await accepted;
      connection.channels.add(0);
      connection.gather(true);
      await clock.advance(150); // what is read first may have been asked for before it was gathered
      const sending = (async () => {
        for (let number = 0; number < FRAMES; number++) {
          const frame = new Uint8Array(4 + PACKET_BYTES);
          frame.set([0x24, 0, PACKET_BYTES >> 8, PACKET_BYTES & 255, number >> 8, number & 255]);
          for (let at = 0; at < frame.length;) at += await camera.write(frame.subarray(at));
        }
      })();
      await until(() => clock.sleepers > 0);
      await clock.advance(100);
      // Time stands still: whatever waited for another moment would never come.
      await until(() => given.length === FRAMES, () => `${given.length} of ${FRAMES} packets`);
      assert.deepEqual(given, Array.from({ length: FRAMES }, (_, index) => index));
      await sending;
      connection.close();
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
);
