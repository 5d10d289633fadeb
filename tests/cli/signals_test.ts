/** How the program ends when it is told to: by one signal, by two, by the end of its time. */
import assert from "node:assert/strict";
import { startSnapshotCamera } from "../../simulators/snapshot_camera.ts";
import { cliCommand, inTempFolder } from "../support/run_cli.ts";

const noSignals = Deno.build.os === "windows";

/** Starts a simulated cloud and waits until it has printed its configuration. */
async function startSimulation(cwd: string) {
  const child = cliCommand(["simulate", "nest", "--cameras", "1"], { cwd }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let printed = "";
  while (!/^\}$/m.test(printed)) {
    const { value, done } = await reader.read();
    if (done) break;
    printed += value;
  }
  const end = async () => {
    const [status] = await Promise.all([
      child.status,
      reader.cancel(),
      child.stderr.cancel(),
    ]);
    return status;
  };
  return { child, printed, end };
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test({
    name: `${signal} ends a command in order, with exit code 0`,
    ignore: noSignals,
    fn: () =>
      inTempFolder(async (cwd) => {
        const { child, printed, end } = await startSimulation(cwd);
        assert.match(printed, /"type": "nest"/);
        child.kill(signal);
        const { code } = await end();
        assert.equal(code, 0);
      }),
  });
}

Deno.test({
  name: "one press of Ctrl-C that arrives twice is still one: exit code 0",
  ignore: noSignals,
  fn: () =>
    inTempFolder(async (cwd) => {
      const { child, end } = await startSimulation(cwd);
      child.kill("SIGINT");
      child.kill("SIGINT");
      const { code } = await end();
      assert.equal(code, 0);
    }),
});

/** Records one simulated camera with these sinks; `untilSaid` waits for a word in the log. */
async function startCapture(cwd: string, options: { url: string; sinks: unknown }) {
  await Deno.writeTextFile(
    `${cwd}/camsink.jsonc`,
    JSON.stringify({
      cameras: { yard: { type: "snapshot", url: options.url, fps: 5 } },
      sinks: options.sinks,
    }),
    { mode: 0o600 }, // it may hold a connection string
  );
  const child = cliCommand(["capture"], { cwd }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  const readUntil = async (stop: (text: string) => boolean) => {
    while (!stop(said)) {
      const { value, done } = await reader.read();
      if (done) break;
      said += value;
    }
  };
  return {
    child,
    untilSaid: (words: string) => readUntil((text) => text.includes(words)),
    end: async () => {
      const [{ code }, stderr] = await Promise.all([
        child.status,
        new Response(child.stderr).text(),
        readUntil(() => false),
      ]);
      return { code, stderr, lines: said.trimEnd().split("\n") };
    },
  };
}

Deno.test({
  name: "SIGTERM ends a recording with its clip delivered and the summary as the last line",
  ignore: noSignals,
  fn: () =>
    inTempFolder(async (cwd) => {
      await using camera = await startSnapshotCamera({ name: "Yard", widthPx: 320, heightPx: 180 });
      const sinks = { local: { type: "local-folder", path: "./clips" } };
      const { child, untilSaid, end } = await startCapture(cwd, { url: camera.url, sinks });
      await untilSaid('"event":"recording"');
      const startMs = performance.now();
      child.kill("SIGTERM");
      const { code, stderr, lines } = await end();
      const tookMs = performance.now() - startMs;
      assert.equal(code, 0, stderr);
      assert.ok(tookMs <= 30_000, `${tookMs} ms`);
      const summary = JSON.parse(lines.at(-1) ?? "");
      assert.equal(summary.event, "summary");
      assert.ok(summary.total.framesCaptured >= 1);
      assert.equal(summary.total.deliveries, summary.total.clips);
      assert.equal(summary.sinks[0].clipsWaiting, 0);
      for (const line of lines) JSON.parse(line);
    }),
});

Deno.test({
  name: "a second signal ends a recording within a second, with exit code 130",
  ignore: noSignals,
  fn: () =>
    inTempFolder(async (cwd) => {
      await using camera = await startSnapshotCamera({ name: "Yard", widthPx: 320, heightPx: 180 });
      // A store that takes the connection and never answers holds up the end.
      const held: Promise<Response>[] = [];
      const silence = Promise.withResolvers<Response>();
      await using store = Deno.serve(
        { hostname: "127.0.0.1", port: 0, onListen: () => {} },
        () => {
          held.push(silence.promise);
          return silence.promise;
        },
      );
      const endpoint = `http://127.0.0.1:${store.addr.port}/devstoreaccount1`;
      const sinks = {
        stuck: {
          type: "azure-blob",
          connectionString: `DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;` +
            `AccountKey=${btoa("no key at all, not even a secret")};BlobEndpoint=${endpoint};`,
        },
      };
      const { child, untilSaid, end } = await startCapture(cwd, { url: camera.url, sinks });
      await untilSaid('"event":"recording"');
      child.kill("SIGINT");
      await untilSaid('"event":"clip-finished"');
      const startMs = performance.now();
      // Those within the first 0.4 s count as the first key press.
      const again = setInterval(() => {
        try {
          child.kill("SIGINT");
        } catch {
          // It has ended.
        }
      }, 50);
      const { code, stderr } = await end();
      const tookMs = performance.now() - startMs;
      clearInterval(again);
      silence.resolve(new Response(null, { status: 503 }));
      assert.equal(code, 130, stderr);
      assert.match(stderr, /stopped at once/);
      assert.ok(tookMs <= 30_000, `${tookMs} ms`);
    }),
});
