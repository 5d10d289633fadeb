/**
 * Simulated Nest cameras with live streams (NexusTalk) for the bench `passthrough`, in a process of
 * their own: `nexus_cameras.ts NUMBER CACHE_FOLDER`. Prints a line of JSON, an account for a
 * configuration and the authority of the streams, and serves until stdin is closed.
 *
 * @module
 */
import { startNestSimulator } from "../simulators/nest/simulator.ts";

const [number = "1", cacheFolder = "."] = Deno.args;
const cloud = await startNestSimulator({
  cameras: Array.from({ length: Number(number) }, (_, i) => ({
    ...{ name: `cam${i}`, widthPx: 1920, heightPx: 1080, region: "us1" },
    live: { fps: 25, gopPictures: 50, bitsPerSecond: 3_000_000, cacheFolder },
  })),
});
console.log(JSON.stringify({
  accessToken: cloud.credentials.accessToken,
  endpoints: cloud.endpoints,
  caPem: cloud.caPem,
}));
for await (const _ of Deno.stdin.readable);
Deno.exit(0);
