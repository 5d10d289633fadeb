/**
 * The whole program as its users run it: a child process with the permissions of its task, the
 * simulated Nest cloud, Azurite, a folder; then every delivered clip is fetched, decoded, and the
 * counters and times in its pictures are compared with what the cameras gave.
 *
 * @module
 */
import assert from "node:assert/strict";
import { BlobServiceClient } from "@azure/storage-blob";
import {
  type Azurite,
  cameraCode,
  isAzuriteCached,
  type NestSimulator,
  startAzurite,
  startNestSimulator,
} from "../../simulators/mod.ts";
import { type Captured, captureUntil, haveFinished } from "../support/capture_until.ts";
import { type ClipContent, readClip } from "../support/clip_frames.ts";
import { cliCommand, inTempFolder, runCli } from "../support/run_cli.ts";
import { walkFiles } from "../support/walk_files.ts";

const azuriteMissing = await isAzuriteCached() ? "" : " (skipped: Azurite is not in Deno's cache)";

interface CaptureOptions {
  readonly folder: string;
  readonly cloud: NestSimulator;
  readonly sinks: Record<string, unknown>;
  /** It is stopped once each of so many cameras has so much. */
  readonly until: Parameters<typeof haveFinished>[0];
  readonly env?: Record<string, string>;
}

/** Records in `folder`. */
async function capture(
  { folder, cloud, sinks, until, env }: CaptureOptions,
): Promise<Captured> {
  await configure({ folder, cloud, sinks });
  return await captureUntil(
    cliCommand(["capture", "--json"], {
      cwd: folder,
      env: { NEST_TOKEN: cloud.credentials.accessToken, ...env },
    }),
    haveFinished(until),
  );
}

async function configure(
  { folder, cloud, sinks }: Pick<CaptureOptions, "folder" | "cloud" | "sinks">,
): Promise<void> {
  await Deno.writeTextFile(
    `${folder}/camsink.json`,
    JSON.stringify({
      accounts: {
        home: {
          type: "nest",
          accessToken: "env:NEST_TOKEN",
          endpoints: cloud.endpoints,
          width: 320,
          fps: 5,
        },
      },
      clip: { length: "3s" },
      spool: { path: "./spool" },
      sinks,
    }),
    { mode: 0o600 }, // it may hold a connection string
  );
}

interface Found {
  readonly bytes: Uint8Array;
  readonly content: ClipContent;
}

/** Every clip below a folder, by its key. */
async function clipsIn(folder: string): Promise<Map<string, Found>> {
  const clips = new Map<string, Found>();
  for await (const path of walkFiles(folder)) {
    const bytes = await Deno.readFile(path);
    clips.set(path.slice(folder.length + 1), { bytes, content: await readClip(bytes) });
  }
  return clips;
}

/** What must be true of one camera's clips in their order. Returns how many pictures they hold. */
function assertFaithful(clips: readonly Found[], camera: string): number {
  let lastCounter = 0;
  const offsMs: number[] = [];
  for (const { content } of clips) {
    const [first] = content.frames;
    assert.ok(first?.strip);
    for (const { strip, ptsMs } of content.frames) {
      assert.ok(strip, "a picture's strip cannot be read");
      assert.equal(strip.camera, cameraCode(camera));
      assert.ok(strip.counter > lastCounter, `${strip.counter} comes after ${lastCounter}`);
      lastCounter = strip.counter;
      offsMs.push(Math.abs(ptsMs - (strip.takenAtMs - first.strip.takenAtMs)));
    }
  }
  // The camera's clock and the clip's: apart by the answers' delays, of which some may be long.
  offsMs.sort((a, b) => a - b);
  const usualMs = offsMs[Math.floor(offsMs.length * 0.8)] ?? 0;
  assert.ok(usualMs < 400 && (offsMs.at(-1) ?? 0) < 5000, `off their times, in ms: ${offsMs}`);
  return offsMs.length;
}

/** The time in a clip's key. */
function startOfKeyMs(key: string): number {
  const [, date, hours, minutes, seconds] =
    /(\d{4}\/\d\d\/\d\d)\/\d{8}T(\d\d)(\d\d)(\d\d)Z/.exec(key) ?? [];
  return Date.parse(`${date?.replaceAll("/", "-")}T${hours}:${minutes}:${seconds}Z`);
}

const blobKey = (folder: string, name: string) => `${folder}/${name}`;

Deno.test({
  name: `every camera's pictures arrive in Azure and in the folder, in order and at their times, ` +
    `while one camera never answers${azuriteMissing}`,
  ignore: azuriteMissing !== "",
  fn: () =>
    inTempFolder(async (folder) => {
      await using azurite = await startAzurite();
      await using cloud = await startNestSimulator({
        cameras: [
          { name: "Front door" },
          { name: "../../x", region: "eu1" },
          { name: "nursery" },
          { name: "Silent" },
        ],
      });
      cloud.faults.add({ kind: "never", camera: "Silent" });
      const { code, lines, stderr } = await capture({
        folder,
        cloud,
        until: { cameras: 3, clips: 2, pictures: 20 },
        sinks: {
          azure: { type: "azure-blob", connectionString: azurite.connectionString },
          local: { type: "local-folder", path: "./clips" },
        },
      });
      assert.equal(code, 0, stderr);
      const summary = lines.at(-1) as unknown as {
        event: string;
        cameras: { name: string; framesCaptured: number; framesDropped: number; clips: number }[];
        sinks: { name: string; clipsDelivered: number; clipsWaiting: number }[];
      };
      assert.equal(summary.event, "summary");

      const local = await clipsIn(`${folder}/clips`);
      for (const camera of cloud.cameras.filter(({ name }) => name !== "Silent")) {
        const figures = summary.cameras.find(({ name }) => name === camera.name);
        assert.ok(figures, `${camera.name} is not in the summary`);
        const own = [...local].filter(([, { content }]) =>
          content.frames[0]?.strip?.camera === cameraCode(camera.name)
        ).sort(([a], [b]) => a < b ? -1 : 1);
        assert.equal(own.length, figures.clips);
        for (const [key, { content }] of own) {
          assert.match(key, /^[a-z0-9-]+\/\d{4}\/\d\d\/\d\d\/\d{8}T\d{6}Z\.mp4$/);
          const takenAtMs = content.frames[0]?.strip?.takenAtMs ?? 0;
          const offMs = startOfKeyMs(key) - takenAtMs;
          assert.ok(Math.abs(offMs) <= 2000, `${key} begins ${offMs} ms off its first picture`);
        }
        const pictures = assertFaithful(own.map(([, clip]) => clip), camera.name);
        assert.ok(
          pictures >= 0.99 * figures.framesCaptured && figures.framesCaptured >= 20,
          `${pictures} of ${figures.framesCaptured} pictures of ${camera.name} are in its clips`,
        );
        // A clip in the middle is as long as the time it covers, give or take the pause between two
        // pictures, which is long where the machine is busy.
        for (const [, { content }] of own.slice(1, -1)) {
          const times = content.frames.map(({ strip }) => strip?.takenAtMs ?? 0);
          const pauseMs = Math.max(...times.slice(1).map((time, i) => time - (times[i] ?? 0)));
          assert.ok(
            Math.abs(content.durationMs - 3000) <= 250 + pauseMs,
            `${content.durationMs} ms long`,
          );
        }
      }
      const silent = summary.cameras.find(({ name }) => name === "Silent");
      assert.equal(silent?.framesCaptured ?? 0, 0);

      await assertSameInAzure(azurite, local);
      for (const sink of summary.sinks) {
        assert.equal(sink.clipsDelivered, local.size);
        assert.equal(sink.clipsWaiting, 0);
      }
      const left = await Array.fromAsync(walkFiles(`${folder}/spool`));
      assert.deepEqual(left.filter((path) => path.endsWith(".mp4")), []);
    }),
});

/** The store holds the same clips, byte for byte, and says of them what it should. */
async function assertSameInAzure(azurite: Azurite, local: Map<string, Found>): Promise<void> {
  const service = BlobServiceClient.fromConnectionString(azurite.connectionString);
  const seen = new Set<string>();
  for await (const container of service.listContainers()) {
    const client = service.getContainerClient(container.name);
    for await (const item of client.listBlobsFlat({ includeMetadata: true })) {
      const key = blobKey(container.name, item.name);
      seen.add(key);
      const expected = local.get(key);
      assert.ok(expected, `${key} is in Azure alone`);
      const bytes = await client.getBlobClient(item.name).downloadToBuffer();
      assert.deepEqual(new Uint8Array(bytes), expected.bytes);
      assert.equal(item.properties.contentType, "video/mp4");
      assert.ok(item.properties.contentMD5, "the blob has no MD5");
      assert.match(item.metadata?.sha256 ?? "", /^[0-9a-f]{64}$/);
      assert.ok(item.metadata?.camera && item.metadata.start && item.metadata.end);
    }
  }
  assert.deepEqual([...seen].sort(), [...local.keys()].sort());
}

Deno.test({
  name: `clips wait for a sink that is down, and go to it after a restart${azuriteMissing}`,
  ignore: azuriteMissing !== "",
  fn: () =>
    inTempFolder(async (folder) => {
      await using cloud = await startNestSimulator({ cameras: [{ name: "door" }] });
      const azurite = await startAzurite();
      await azurite.stop();
      const sinks = {
        azure: { type: "azure-blob", connectionString: "env:AZURE" },
        local: { type: "local-folder", path: "./clips" },
      };
      const env = { AZURE: azurite.connectionString };
      const down = await capture({ folder, cloud, sinks, env, until: { cameras: 1, clips: 1 } });
      assert.equal(down.code, 0, down.stderr);
      const waiting = (await clipsIn(`${folder}/clips`)).size;
      assert.ok(waiting >= 1);
      assert.equal(
        (await Array.fromAsync(walkFiles(`${folder}/spool`))).filter((p) => p.endsWith(".mp4"))
          .length,
        waiting,
      );

      await using again = await startAzurite();
      const up = await capture({
        folder,
        cloud,
        sinks,
        until: { cameras: 1, clips: 1 },
        env: { AZURE: again.connectionString },
      });
      assert.equal(up.code, 0, up.stderr);
      await assertSameInAzure(again, await clipsIn(`${folder}/clips`));
    }),
});

Deno.test("a wrong token is told with its remedy, nothing is recorded, and no secret is shown", () =>
  inTempFolder(async (folder) => {
    await using cloud = await startNestSimulator({ cameras: [{ name: "door" }] });
    await configure({
      folder,
      cloud,
      sinks: { local: { type: "local-folder", path: "./clips" } },
    });
    // A recording that has nothing to record goes on trying; only its time ends it.
    const { code, stdout, stderr } = await runCli(["capture", "--json", "--for", "5s"], {
      cwd: folder,
      env: { NEST_TOKEN: "b.123456.wrong-token-canary" },
    });
    assert.equal(code, 69, stderr);
    assert.match(stdout, /access.?token/i);
    assert.match(stdout, /home\.nest\.com/);
    assert.doesNotMatch(stdout + stderr, /wrong-token-canary/);
  }));
