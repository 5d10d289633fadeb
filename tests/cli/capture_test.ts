/**
 * What `capture` says and how it ends when there is nothing to record yet.
 *
 * @module
 */
import assert from "node:assert/strict";
import { capture } from "../../commands/capture.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { inTempFolder, runCli } from "../support/run_cli.ts";

Deno.test("Ctrl-C while the demo is being prepared is no failure", async () => {
  const stop = AbortSignal.abort(new DOMException("stopped", "AbortError"));
  const exitCode = await capture(
    { command: "capture", json: true, demo: true, noAzure: false, debug: false, noColor: true },
    {
      terminal: {
        ...{ isTerminal: false, color: false, dataColor: false },
        size: () => ({ columns: 80, rows: 24 }),
        ...{ out: () => {}, err: () => {}, footer: () => {} },
      },
      ...{ clock: createFakeClock(), random: () => 0.5, stop, hardStop: stop, debug: false },
    },
  );
  assert.equal(exitCode, 0);
});

Deno.test("capture warns when everything that it could record is switched off", () =>
  inTempFolder(async (cwd) => {
    await Deno.writeTextFile(
      `${cwd}/camsink.jsonc`,
      JSON.stringify({
        cameras: { yard: { type: "snapshot", url: "http://127.0.0.1:1/", enabled: false } },
        sinks: { local: { type: "local-folder", path: "./clips" } },
      }),
    );
    const { code, stdout } = await runCli(["capture", "--for", "100ms"], { cwd });
    assert.equal(code, 69);
    assert.match(stdout, /nothing is recorded: every account and camera/);
  }));
