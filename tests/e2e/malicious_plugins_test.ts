/**
 * Twelve plugins that mean harm, in one recording of the real program, beside an honest plugin and a
 * folder. None gets at anything, each that hangs or eats is ended, and no picture is lost meanwhile.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readPluginGraph, writeApprovals } from "../../core/plugins/mod.ts";
import { cameraCode, startNestSimulator } from "../../simulators/mod.ts";
import { readClip } from "../support/clip_frames.ts";
import { cliCommand, inTempFolder } from "../support/run_cli.ts";
import { walkFiles } from "../support/walk_files.ts";

/** What each does in its `put`; what it gets hold of it tells as LOOT. */
const DEEDS: Readonly<Record<string, string>> = {
  "reads-passwd": `
    const loot = [];
    for (const read of [
      () => Deno.readTextFile("/etc/passwd"),
      async () => (await import("node:fs")).readFileSync("/etc/passwd", "utf8"),
      async () => (await fetch("file:///etc/passwd")).text(),
      async () => (await import("file:///etc/" + "passwd", { with: { type: "text" } })).default,
      async () => (await import("data:text/javascript,import t from 'file:///etc/passwd' with " +
        "{type:'text'};export default t")).default,
      () => new Promise((got, failed) => {
        const code = "import t from 'file:///etc/passwd' with {type:'text'}; self.postMessage(t)";
        const worker = new Worker(URL.createObjectURL(new Blob([code])), { type: "module" });
        worker.onmessage = (event) => got(event.data);
        worker.onerror = (event) => { event.preventDefault(); failed(new Error("no")); };
      }),
    ]) try { loot.push(await read()); } catch { /* refused */ }
    if (loot.length) log.error("LOOT file " + loot);
    throw new SinkError("permanent", "reads-passwd got nothing");`,
  "reads-env": `
    const seen = JSON.stringify(Deno.env.toObject()) + JSON.stringify((await import("node:process")).default.env);
    if (/canary|TOKEN/.test(seen)) log.error("LOOT env " + seen);
    throw new SinkError("permanent", "reads-env got nothing");`,
  "other-host": `
    for (const go of [() => fetch(config.other), () => context.fetch(config.redirect),
      async () => { const { hostname, port } = new URL(config.other);
        await Deno.connect({ hostname, port: Number(port) }); }])
      try { await go(); log.error("LOOT host"); } catch { /* refused */ }
    throw new SinkError("permanent", "other-host got nothing");`,
  "metadata": `
    for (const host of ["169.254.169.254", "[fd00:ec2::254]", "metadata.google.internal"])
      try { await fetch("http://" + host + "/"); log.error("LOOT metadata"); }
      catch (error) { if (error.name !== "NotCapable") log.error("LOOT tried " + error); }
    throw new SinkError("permanent", "metadata got nothing");`,
  "spawns": `
    try { await new Deno.Command("id").output(); log.error("LOOT spawned"); } catch { /* refused */ }
    try { (await import("node:child_process")).execSync("id"); log.error("LOOT spawned"); } catch {}
    try { Deno.kill(Deno.ppid, "SIGTERM"); log.error("LOOT killed"); } catch { /* refused */ }
    try { await Deno.writeTextFile("/tmp/loot", "x"); log.error("LOOT written"); } catch {}
    throw new SinkError("permanent", "spawns got nothing");`,
  "loops": "for (;;);",
  "eats-memory": `
    const all = []; for (;;) all.push(new Uint8Array(1 << 24).fill(1));`,
  "floods-log": `
    for (let i = 0; i < 1_000_000; i++) console.log("x".repeat(1000));
    const line = new TextEncoder().encode("y".repeat(100_000) + "\\n");
    for (let i = 0; i < 10_000; i++) Deno.stderr.writeSync(line);
    throw new Error("floods-log was let");`,
  "exits": "Deno.exit(0);",
  "never-resolves": "return new Promise(() => {});",
  "huge-response": `
    const bytes = await (await context.fetch(config.endless)).arrayBuffer();
    log.error("LOOT all of " + bytes.length);`,
};

/** How each is told of. */
const EXPECTED: Readonly<Record<string, RegExp>> = {
  ...Object.fromEntries(
    ["reads-passwd", "reads-env", "other-host", "metadata", "spawns"]
      .map((name) => [name, new RegExp(`${name} got nothing`)]),
  ),
  "static-import": /imports what it may not:.*passwd: it lies outside/,
  loops: /did not stop when told to/,
  "never-resolves": /did not stop when told to/,
  "eats-memory": /it uses (\d+ MB of memory; \d+ are|more memory than is) allowed/,
  "huge-response": /it uses \d+ MB of memory; \d+ are allowed/,
  "floods-log": /floods the log|lines of the plugin are left out/,
  exits: /the plugin was ended: it ended itself \(exit code 0\)/,
};

const source = (name: string, body: string) =>
  `import { defineSink, encodeKey, httpSinkError, sendClip, SinkError } from "camsink";
export default defineSink({
  name: ${JSON.stringify(name)},
  config: { type: "object", additionalProperties: true },
  net: (config) => Object.entries(config).filter(([key]) => key !== "other").map(([, url]) => new URL(url).host),
  open: (context) => ({
    async put(clip, options) { const { config, log } = context; ${body} },
  }),
});
`;

const HONEST = `
    const answer = await sendClip(config.url + "/" + encodeKey(clip.key), { clip, options });
    if (!answer.ok) throw httpSinkError(answer, "PUT");
    return { state: "stored" };`;

Deno.test("twelve malicious plugins get at nothing and cost the recording no picture", () =>
  inTempFolder(async (folder) => {
    await Deno.mkdir(`${folder}/plugins`);
    const write = (name: string, text: string) =>
      Deno.writeTextFile(`${folder}/plugins/${name}.js`, text);
    for (const [name, body] of Object.entries(DEEDS)) await write(name, source(name, body));
    await write(
      "static-import",
      `import passwd from "file:///etc/passwd" with { type: "text" };\n` +
        source("static-import", `log.error("LOOT " + passwd)`),
    );
    await write("honest", source("honest", HONEST));
    // Two are started at a time. Those that need time of their own come first, so that on a slow
    // machine the stall timeout is not over before they have come as far as they want.
    const first = ["honest", "huge-response", "eats-memory", "floods-log"];
    const names = [...new Set([...first, ...Object.keys(DEEDS), "static-import"])];
    const approvals = await Promise.all(names.map(async (name) => {
      const from = `./plugins/${name}.js`;
      const graph = name === "static-import"
        ? { sha256: "0".repeat(64) }
        : await readPluginGraph(from, { folder });
      return [name, {
        ...{ from, sha256: graph.sha256, hosts: [], run: [], read: [], write: [] },
        ...{ scratch: false, schema: { type: "object" } },
      }] as const;
    }));
    await writeApprovals(`${folder}/camsink.json`, Object.fromEntries(approvals));

    let robbed = 0;
    const stored = new Map<string, string>();
    await using other = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, () => {
      robbed++;
      return new Response("loot");
    });
    const otherUrl = `http://127.0.0.1:${other.addr.port}/`;
    await using store = Deno.serve({
      port: 0,
      hostname: "127.0.0.1",
      onListen() {},
    }, async (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/redirect") return Response.redirect(otherUrl, 302);
      if (pathname === "/endless") {
        const part = new Uint8Array(1 << 20);
        return new Response(new ReadableStream({ pull: (to) => to.enqueue(part) }));
      }
      const hash = createHash("sha256");
      for await (const part of request.body ?? []) hash.update(part);
      stored.set(decodeURIComponent(pathname.slice(1)), hash.digest("hex"));
      return new Response(null, { status: 201 });
    });
    const url = `http://127.0.0.1:${store.addr.port}`;
    const options: Readonly<Record<string, Record<string, string>>> = {
      honest: { url },
      "other-host": { other: otherUrl, redirect: `${url}/redirect` },
      "huge-response": { endless: `${url}/endless` },
    };
    // What `other-host` is not to reach stands in its options, but its net() does not name it.
    await using cloud = await startNestSimulator({ cameras: [{ name: "Front door" }] });
    await Deno.writeTextFile(
      `${folder}/camsink.json`,
      JSON.stringify({
        accounts: {
          home: {
            type: "nest",
            accessToken: "env:NEST_TOKEN",
            endpoints: cloud.endpoints,
            ...{ width: 320, fps: 2 },
          },
        },
        clip: { length: "3s" },
        spool: { path: "./spool" },
        sinks: {
          local: { type: "local-folder", path: "./clips" },
          ...Object.fromEntries(
            names.map((
              name,
            ) => [name, { type: name, required: name === "honest", ...options[name] }]),
          ),
        },
      }),
    );
    // Ended as soon as everything was seen; a hung put is cut off after 30 s.
    const child = cliCommand(["capture", "--json"], {
      cwd: folder,
      env: { NEST_TOKEN: cloud.credentials.accessToken, CANARY: "canary-of-the-user" },
    }).spawn();
    const errors = new Response(child.stderr).text();
    const countClips = async () =>
      (await Array.fromAsync(walkFiles(`${folder}/clips`))).filter((path) => path.endsWith(".mp4"))
        .length;
    let isStopping = false;
    let stdout = "";
    const giveUp = setTimeout(() => child.kill("SIGTERM"), 150_000);
    const open = new Map(Object.entries(EXPECTED));
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      stdout += text;
      for (const line of stdout.slice(-20_000 - text.length).split("\n")) {
        for (const [name, pattern] of open) {
          if (line.includes(`"category":"${name}"`) && pattern.test(line)) open.delete(name);
        }
      }
      // The honest one has caught up too, so that what it is behind at the end is what is under way.
      if (!isStopping && open.size === 0 && stored.size >= await countClips() - 1) {
        isStopping = true;
        child.kill("SIGTERM");
      }
    }
    clearTimeout(giveUp);
    const { code } = await child.status;
    const stderr = await errors;
    assert.deepEqual([...open.keys()], [], `not seen; the end of the log: ${stdout.slice(-3000)}`);
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stdout + stderr, /LOOT/);
    assert.equal(robbed, 0);
    assert.ok(stdout.length < 4e6, `${stdout.length} bytes of log`);

    const lines = stdout.split("\n").filter((line) => line.startsWith("{")).map((line) =>
      JSON.parse(line) as unknown
    );

    // Nothing is missing: every picture that the camera gave is in the folder, in order.
    const summary = lines.at(-1) as {
      cameras: { framesCaptured: number; framesDropped: number; framesRecorded: number }[];
    };
    const [camera] = summary.cameras;
    assert.ok(camera && camera.framesCaptured > 40);
    assert.equal(camera.framesDropped, 0);
    const counters: number[] = [];
    const hashes = new Map<string, string>();
    for (const path of (await Array.fromAsync(walkFiles(`${folder}/clips`))).sort()) {
      const bytes = await Deno.readFile(path);
      hashes.set(
        path.slice(`${folder}/clips/`.length),
        createHash("sha256").update(bytes).digest("hex"),
      );
      for (const { strip } of (await readClip(bytes)).frames) {
        assert.equal(strip?.camera, cameraCode("Front door"));
        counters.push(strip?.counter ?? NaN);
      }
    }
    assert.equal(counters.length, camera.framesCaptured);
    assert.deepEqual(counters, [...counters].sort((a, b) => a - b));
    for (const [key, hash] of stored) assert.equal(hash, hashes.get(key));
    // The last ones may be on their way still.
    assert.ok(stored.size >= hashes.size - 3, `${stored.size} of ${hashes.size} clips`);
  }));
