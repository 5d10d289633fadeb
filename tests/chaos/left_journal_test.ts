/**
 * The real program with what one before it left behind: pictures that waited for their encoder when it
 * was killed.
 *
 * @module
 */
import assert from "node:assert/strict";
import { systemClock } from "../../core/clock.ts";
import { cameraSlug, openSpool } from "../../core/spool/mod.ts";
import { startNestSimulator } from "../../simulators/mod.ts";
import { createScene } from "../../simulators/scene/scene.ts";
import { keepLog } from "../delivery/fakes.ts";
import { inTempFolder } from "../support/run_cli.ts";
import { walkFiles } from "../support/walk_files.ts";
import { createPictureCount } from "./picture_count.ts";
import { startProgram } from "./program.ts";

Deno.test("pictures that a killed program could only keep as they came are delivered as a clip", () =>
  inTempFolder(async (root) => {
    const name = "yard";
    const fromMs = Date.UTC(2026, 7, 21, 12);
    {
      await using spool = await openSpool({
        ...{ path: `${root}/spool`, clock: systemClock, log: keepLog(), sinks: ["local"] },
        recover: () => Promise.resolve({ state: "empty" }),
      });
      const scene = createScene({ name, widthPx: 320, heightPx: 180 });
      const journal = spool.journal({ camera: name, slug: cameraSlug(name) });
      await journal.append(Array.from({ length: 8 }, (_, index) => ({
        data: scene.frame({ counter: index + 1, takenAtMs: fromMs + index * 200 }),
        capturedAtMs: fromMs + index * 200,
        ptsUs: index * 200_000,
      })));
      await journal.end({ keep: true });
    }
    await using simulator = await startNestSimulator({ cameras: [{ name }] });
    const config = `${root}/camsink.json`;
    await Deno.writeTextFile(
      config,
      JSON.stringify({
        accounts: {
          home: {
            ...{ type: "nest", accessToken: "env:LEFT_TOKEN", width: 320, fps: 5 },
            endpoints: simulator.endpoints,
          },
        },
        spool: { path: `${root}/spool` },
        sinks: { local: { type: "local-folder", path: `${root}/clips` } },
      }),
    );
    const recorded = Promise.withResolvers<void>();
    const delivered = Promise.withResolvers<string>();
    await using program = startProgram(["--config", config, "--log-level", "debug"], {
      env: { LEFT_TOKEN: simulator.credentials.accessToken },
      finished: new Map(),
      onLine({ event, key }) {
        if (event === "journal-recorded") recorded.resolve();
        if (event === "clip-delivered" && String(key).includes("/2026/08/21/")) {
          delivered.resolve(String(key));
        }
      },
    });
    const ended = program.ended.then(() => assert.fail("the program ended by itself"));
    const [key] = await Promise.race([Promise.all([delivered.promise, recorded.promise]), ended]);
    ended.catch(() => {}); // now it shall
    program.kill("SIGINT");
    await program.ended;
    const pictures = createPictureCount();
    for await (const path of walkFiles(`${root}/clips`)) {
      if (path.endsWith(key)) await pictures.add(path);
    }
    assert.deepEqual(
      pictures.timesMs(name),
      Array.from({ length: 8 }, (_, index) => fromMs + index * 200),
    );
    assert.deepEqual(await Array.fromAsync(Deno.readDir(`${root}/spool/open`)), []);
  }));
