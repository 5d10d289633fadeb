/**
 * The real program with its spool on one disk and its sink on another, both of which fill up and are
 * emptied again.
 *
 * @module
 */
import assert from "node:assert/strict";
import { openSpoolView } from "../../core/spool/mod.ts";
import { startNestSimulator } from "../../simulators/mod.ts";
import { mountSmallDisk, smallDisks } from "../support/small_disk.ts";
import { walkFiles } from "../support/walk_files.ts";
import { createPictureCount } from "./picture_count.ts";
import type { LogLine } from "../support/capture_until.ts";
import { startProgram } from "./program.ts";

const { ignore, reason } = await smallDisks();

/** Fills a disk to the last byte; the returned function makes the room again. */
async function fill(path: string): Promise<() => Promise<void>> {
  const ballast = `${path}/ballast`;
  using file = await Deno.open(ballast, { write: true, createNew: true });
  // The program writes there too: how much fits is known when no more does.
  for (let sizeBytes = 2 ** 20; sizeBytes >= 4096;) {
    await file.write(new Uint8Array(sizeBytes)).catch(() => sizeBytes /= 4);
  }
  return () => Deno.remove(ballast);
}

const event = (name: string, more: LogLine = {}) => (line: LogLine) =>
  line.event === name && Object.entries(more).every(([key, value]) => line[key] === value);

Deno.test({
  name:
    `full disks under spool and sink stop nothing for good, are told, and cost no clip${reason}`,
  ignore,
  async fn() {
    await using spoolDisk = await mountSmallDisk(48);
    await using sinkDisk = await mountSmallDisk(48);
    assert.ok(spoolDisk && sinkDisk);
    await using simulator = await startNestSimulator({
      cameras: [{ name: "door" }, { name: "yard" }],
    });
    const config = `${sinkDisk.path}/camsink.json`;
    await Deno.writeTextFile(
      config,
      JSON.stringify({
        accounts: {
          home: {
            type: "nest",
            accessToken: "env:DISK_TOKEN",
            width: 320,
            fps: 5,
            endpoints: simulator.endpoints,
          },
        },
        clip: { length: "2s" },
        spool: { path: `${spoolDisk.path}/spool` },
        sinks: { local: { type: "local-folder", path: `${sinkDisk.path}/clips` } },
      }),
    );
    const finished = new Map<string, string>();
    await using program = startProgram(["--config", config], {
      env: { DISK_TOKEN: simulator.credentials.accessToken },
      finished,
    });
    await program.recording(2);

    // The sink's disk: recording does not notice.
    const emptySink = await fill(sinkDisk.path);
    await program.until(event("sink-parked", { sink: "local" }));
    await program.until(event("alert-begin", { kind: "sink-parked" }));
    await program.until(event("clip-finished"), 4);
    await emptySink();

    // The spool's disk: both cameras stop, are told, and go on by themselves.
    const emptySpool = await fill(spoolDisk.path);
    await program.until(event("gap-begin"), 2);
    await program.until(event("alert-begin", { kind: "disk-low" }));
    await emptySpool();
    await program.until(event("gap-end"), 2);
    await program.until(event("clip-finished"), 2);
    program.kill("SIGINT");
    await program.ended;

    const delivered = new Map<string, string>();
    const pictures = createPictureCount();
    for await (const path of walkFiles(`${sinkDisk.path}/clips`)) {
      delivered.set(path.slice(`${sinkDisk.path}/clips/`.length), await pictures.add(path));
    }
    // What the end was too short to deliver waits for the next start.
    using spool = await openSpoolView(`${spoolDisk.path}/spool`, { now: () => Date.now() });
    for (const [key, sha256] of finished) {
      const found = delivered.get(key) ?? spool.get(key);
      if (typeof found === "object") assert.equal(await spool.check(found), "ok", key);
      assert.equal(typeof found === "object" ? found.sha256 : found, sha256, `${key} is lost`);
    }
    assert.equal(pictures.clipsCorrupt + pictures.duplicates, 0);
  },
});
