/**
 * Device Access from end to end: the real program records a WebRTC and an RTSP camera around events
 * that the simulated project tells by Pub/Sub, delivers to a folder and to Azurite, and tells a
 * webhook. The numbers and times in the recorded pictures show what was recorded of each event. Then
 * it is killed in the middle of one.
 *
 * @module
 */
import assert from "node:assert/strict";
import { BlobServiceClient } from "@azure/storage-blob";
import {
  isAzuriteCached,
  type SdmSimulator,
  startAzurite,
  startSdmSimulator,
} from "../../simulators/mod.ts";
import { startProgram } from "../chaos/program.ts";
import type { LogLine } from "../support/capture_until.ts";
import { inTempFolder, runCli } from "../support/run_cli.ts";
import { countUnits, readMarks } from "../support/scene_marks.ts";
import { walkFiles } from "../support/walk_files.ts";

const azuriteMissing = await isAzuriteCached() ? "" : " (skipped: Azurite is not in Deno's cache)";

const BEFORE_MS = 4000;
const AFTER_MS = 8000;
/** The scene's. */
const GOP_MS = 1000;
/** A busy machine may bring a picture so much later than it was taken, and it is held by then. */
const LATE_MS = 3000;

type Post = Readonly<Record<string, unknown>>;

/** A webhook that keeps what it gets. */
function startWebhook() {
  const posts: Post[] = [];
  let news = Promise.withResolvers<void>();
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    posts.push(await request.json());
    news.resolve();
    news = Promise.withResolvers();
    return new Response();
  });
  return {
    posts,
    url: `http://127.0.0.1:${server.addr.port}/secret-hook`,
    /** Resolves when such a message is there. */
    async until(matches: (post: Post) => boolean): Promise<Post> {
      while (true) {
        const found = posts.find(matches);
        if (found) return found;
        await news.promise;
      }
    },
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** The clips of a camera in a folder, in order. */
async function clipsOf(folder: string, camera: string) {
  const paths = await Array.fromAsync(walkFiles(folder));
  return await Promise.all(
    paths.filter((path) => path.includes(`/${camera}/`) && path.endsWith(".mp4")).sort()
      .map(async (path) => ({
        key: path.slice(folder.length + 1),
        ...await readMarks(await Deno.readFile(path)),
      })),
  );
}

/** From some time before the event to some time after it, and not a picture is missing. */
async function assertStretch(folder: string, camera: string, eventMs: number): Promise<string[]> {
  const clips = await clipsOf(folder, camera);
  const video = clips.flatMap((clip) => clip.video);
  const { lost, duplicated, reordered, unmarked } = countUnits(video);
  assert.deepEqual({ lost, duplicated, reordered, unmarked }, {
    ...{ lost: [], duplicated: [], reordered: [], unmarked: 0 },
  });
  const fromMs = (video[0]?.mark?.takenAtMs ?? NaN) - eventMs;
  const untilMs = (video.at(-1)?.mark?.takenAtMs ?? NaN) - eventMs;
  const told = `${camera}: recorded from ${fromMs} to ${untilMs} ms of the event`;
  assert.ok(fromMs <= -BEFORE_MS + 100 && fromMs >= -BEFORE_MS - GOP_MS - LATE_MS, told);
  assert.ok(untilMs >= AFTER_MS - LATE_MS && untilMs <= AFTER_MS + GOP_MS + 100, told);
  return clips.map(({ key }) => key);
}

/** Makes something happen now; gives when. */
function happen(cloud: SdmSimulator, camera: string, kind: "motion" | "person"): number {
  const atMs = Date.now();
  cloud.events.publish(cloud.camera(camera), kind, { atMs });
  return atMs;
}

Deno.test({
  name:
    `events of WebRTC and RTSP cameras are recorded, tagged, delivered and told, also over a kill${azuriteMissing}`,
  ignore: azuriteMissing !== "",
  fn: () =>
    inTempFolder(async (folder) => {
      await using azurite = await startAzurite();
      await using webhook = startWebhook();
      const size = { widthPx: 320, heightPx: 192 };
      await using cloud = await startSdmSimulator({
        cameras: [
          { customName: "yard", protocol: "WEB_RTC", ...size },
          { customName: "drive", protocol: "RTSP", ...size },
        ],
      });
      for (const camera of cloud.cameras) await cloud.media.scene(camera);
      const { projectId, clientId, clientSecret, refreshToken } = cloud.credentials;
      await Deno.writeTextFile(
        `${folder}/camsink.json`,
        JSON.stringify({
          accounts: {
            home: {
              type: "google-sdm",
              ...{ projectId, clientId },
              ...{ clientSecret: "env:CLIENT_SECRET", refreshToken: "env:REFRESH_TOKEN" },
              subscription: cloud.subscription,
              endpoints: cloud.endpoints,
              events: {
                mode: "event",
                before: `${BEFORE_MS / 1000}s`,
                after: `${AFTER_MS / 1000}s`,
              },
            },
          },
          clip: { length: "10m" },
          spool: { path: "./spool", keep: "1h" },
          sinks: {
            local: { type: "local-folder", path: "./clips" },
            azure: { type: "azure-blob", connectionString: "env:AZURE" },
          },
          alerts: {
            webhook: "env:HOOK",
            events: { cameras: { yard: "all", drive: ["person"] }, every: "1s" },
          },
        }),
      );
      const env = {
        ...{ CLIENT_SECRET: clientSecret, REFRESH_TOKEN: refreshToken },
        ...{ AZURE: azurite.connectionString, HOOK: webhook.url },
      };
      const finished = new Map<string, string>();
      const lines: LogLine[] = [];
      const start = () =>
        startProgram(["--config", `${folder}/camsink.json`], {
          ...{ env, finished, onLine: (line) => void lines.push(line) },
        });
      {
        await using program = start();
        await program.recording(2);
        await pause(BEFORE_MS + LATE_MS + GOP_MS); // so much can be held before the event
        assert.equal(finished.size, 0, "nothing is recorded while nothing happens");
        const yardMs = happen(cloud, "yard", "motion");
        const driveMs = happen(cloud, "drive", "person");
        happen(cloud, "drive", "motion");
        await program.until(() =>
          ["yard/", "drive/"].every((slug) =>
            [...finished.keys()].some((key) => key.startsWith(slug) && key.endsWith(".mp4"))
          )
        );
        const recorded = await webhook.until(({ event, subject }) =>
          event === "recorded" && subject === "drive"
        );
        await webhook.until(({ event, subject }) => event === "recorded" && subject === "yard");
        const yard = await assertStretch(`${folder}/clips`, "yard", yardMs);
        const drive = await assertStretch(`${folder}/clips`, "drive", driveMs);
        const told = webhook.posts.map(({ event, kind, subject }) => `${event} ${kind} ${subject}`);
        assert.deepEqual(told.sort(), [
          ...["happened motion yard", "happened person drive"],
          ...["recorded motion yard", "recorded person drive"],
        ]);
        const { clip, image } = recorded as {
          clip: { key: string; urls: Record<string, string> };
          image?: { key: string };
        };
        assert.ok(drive.includes(clip.key), clip.key);
        assert.ok(Object.keys(clip.urls).length > 0, JSON.stringify(recorded));
        assert.match(String(image?.key), /^drive\/.*\.jpg$/);
        assert.ok(!JSON.stringify(webhook.posts).includes("sig="), "no credentials are in it");

        // Where a user and a store see what happened.
        program.kill("SIGINT");
        await program.ended;
        const list = await runCli(["clips", "--json"], { cwd: folder, env });
        const rows: { key: string; tags: string[] }[] = JSON.parse(list.stdout);
        const tagsOf = (key: string | undefined) => rows.find((row) => row.key === key)?.tags;
        assert.deepEqual(tagsOf(yard[0]), ["motion"]);
        assert.deepEqual(tagsOf(drive[0]), ["motion", "person"]);
        assert.deepEqual(tagsOf(image?.key)?.at(-1), "event-image");
        const client = BlobServiceClient.fromConnectionString(azurite.connectionString)
          .getContainerClient("drive");
        const blob = await client.getBlobClient(String(drive[0]).slice("drive/".length))
          .getProperties();
        assert.equal(blob.metadata?.["tags"], "motion person");
      }
      const before = new Set(await Array.fromAsync(walkFiles(`${folder}/clips`)));
      {
        await using program = start();
        await program.recording(2);
        await pause(GOP_MS);
        happen(cloud, "yard", "person");
        // Until the clip is under way, and the event noted with it.
        await waitFor(async () =>
          (await openSidecars(`${folder}/spool/open`)).some((text) => text.includes("person"))
        );
        await pause(2 * GOP_MS); // something to recover
        program.kill("SIGKILL");
        await program.ended;
      }
      await using program = start();
      await program.until(({ event }) => event === "recovered");
      await waitFor(async () =>
        (await Array.fromAsync(walkFiles(`${folder}/clips`))).some((path) =>
          !before.has(path) && path.endsWith(".mp4")
        )
      );
      program.kill("SIGINT");
      await program.ended;
      const list = await runCli(["clips", "--json"], { cwd: folder, env });
      const mended = JSON.parse(list.stdout)
        .filter(({ recovered }: { recovered?: boolean }) => recovered);
      assert.deepEqual(
        mended.map(({ camera, tags }: { camera: string; tags: string[] }) => [camera, tags]),
        [["yard", ["person"]]],
      );
      const said = JSON.stringify(lines);
      for (const secret of [clientSecret, refreshToken, webhook.url]) {
        assert.ok(!said.includes(secret), "a secret is in the log");
      }
    }),
});

/** Resolves when something has happened, however long that takes. */
async function waitFor(isSo: () => Promise<boolean>): Promise<void> {
  while (!await isSo()) await pause(200);
}

/** What is noted of clips that are being recorded. */
async function openSidecars(folder: string): Promise<string[]> {
  const texts: string[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".json")) continue;
    texts.push(await Deno.readTextFile(`${folder}/${name}`).catch(() => "")); // gone meanwhile
  }
  return texts;
}
