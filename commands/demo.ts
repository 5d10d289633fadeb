/**
 * The embedded demo: a simulated Nest cloud with three cameras and the Azurite blob emulator, and a
 * configuration that records the one into the other. From there on nothing is simulated: the same
 * program runs as with a configuration of the user's own.
 *
 * @module
 */
import { mkdir, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { type Config, parseConfig } from "../core/config/load.ts";
import { formatBytes } from "../core/config/values.ts";
import { getLog } from "../core/log.ts";
import { isAzuriteCached, startAzurite } from "../simulators/azurite.ts";
import { startNestSimulator } from "../simulators/nest/simulator.ts";
import type { CaptureArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { configTables } from "./rooms.ts";

/** The demo's surroundings, running until disposed. */
export interface Demo extends AsyncDisposable {
  readonly config: Config;
}

/** Three cameras: one with a live stream and sound, two that are asked for pictures. */
const ACCOUNTS = [
  { name: "Front door", widthPx: 1280, heightPx: 720, fps: 5, region: "us1", live: { fps: 15 } },
  { name: "Garden", widthPx: 1280, heightPx: 720, fps: 2, region: "eu1", live: undefined },
  { name: "Nursery", widthPx: 640, heightPx: 360, fps: 10, region: "us1", live: undefined },
] as const;

/** Starts the cloud and the emulator. */
export async function prepareDemo(
  { noAzure }: CaptureArguments,
  context: CommandContext,
): Promise<Demo> {
  const log = getLog("demo");
  await using started = new AsyncDisposableStack();
  log.info(
    "This is the demo: three simulated Nest cameras, one of them live and with sound, recorded and " +
      "delivered for real. " +
      "To record your own cameras: camsink init",
    { event: "demo" },
  );
  const cloud = started.use(
    await startNestSimulator({
      cameras: ACCOUNTS.map(({ name, widthPx, heightPx, region, live }) => ({
        ...{ name, widthPx, heightPx, region },
        ...(live ? { live: { ...live, cacheFolder: "./demo/scenes" } } : {}),
      })),
    }),
  );
  // Live streams are always TLS: the configuration names the authority of the simulated ones.
  const ca = await mkdir("./demo", { recursive: true }).then(() => resolve("demo/ca.pem"));
  await writeFile(ca, cloud.caPem ?? "");
  const blobs = noAzure ? undefined : await startBlobs(context);
  if (blobs) started.use(blobs);
  const text = JSON.stringify({
    // One account for each rate: `fps` belongs to an account.
    accounts: Object.fromEntries(ACCOUNTS.map(({ name, fps, widthPx }) => [
      name,
      {
        type: "nest",
        accessToken: cloud.credentials.accessToken,
        endpoints: cloud.endpoints,
        cameras: [name],
        ca,
        width: widthPx,
        fps,
      },
    ])),
    clip: { length: "10s" },
    // Not the spool of the configuration that its user writes next in this folder.
    spool: { path: "./demo/spool" },
    sinks: {
      ...(blobs ? { azure: { type: "azure-blob", connectionString: blobs.connectionString } } : {}),
      local: { type: "local-folder", path: "./clips" },
    },
  });
  const { config } = await parseConfig(text, {
    tables: configTables,
    path: `${Deno.cwd()}/demo.json`,
  });
  const running = started.move();
  return { config, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

/** The blob emulator, or nothing where it cannot be had. */
async function startBlobs(context: CommandContext) {
  const log = getLog("demo");
  try {
    if (!await isAzuriteCached()) {
      log.info(
        "Fetching the Azurite blob emulator, once: about 270 MB (--no-azure leaves it out)",
      );
    }
    let told = 0;
    return await startAzurite({
      signal: context.stop,
      onProgress: (bytes: number) => {
        if (bytes < told + 25e6) return;
        told = bytes;
        log.info(`${formatBytes(bytes)} of about 270 MB`);
      },
    });
  } catch (error) {
    if (context.stop.aborted) throw error;
    log.warn(
      "Going on with the folder alone, because the blob emulator cannot be had: " +
        `${error instanceof Error ? error.message : error} (--no-azure does without it at once)`,
    );
    return undefined;
  }
}
