/**
 * The conformance kit against Debian's mosquitto: `camsink plugin test .`
 *
 * @module
 */
import type { SinkTest } from "camsink";
import { brokerUnavailable, startBroker } from "./broker.ts";

const PASSWORD = "kit-mqtt-5e0b11";

function testOf(mqttVersion: "5" | "3.1.1"): SinkTest {
  return {
    unavailable: brokerUnavailable,
    start: async ({ folder }) => {
      const broker = await startBroker({ folder, password: PASSWORD });
      // Everything that was said of clips, also what was said twice.
      const heard = await broker.listen(["kit/+/clip"]);
      return {
        url: `mqtt://127.0.0.1:${broker.port}`,
        config: (url) => ({
          url,
          username: broker.username,
          topic: "kit",
          mqttVersion,
        }),
        secrets: { password: PASSWORD },
        carries: "events",
        store: { hasChecksums: false },
        objects: async () => {
          await heard.settled();
          return heard.messages.map(({ text }, index) => ({
            name: String(index),
            read: () => new TextEncoder().encode(text),
          }));
        },
        [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
      };
    },
  };
}

/** The same in the older version of the protocol. */
export const mqtt311Test: SinkTest = testOf("3.1.1");

const test: SinkTest = testOf("5");
export default test;
