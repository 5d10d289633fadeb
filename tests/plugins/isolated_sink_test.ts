/** What crosses from a plugin's process to delivery: kinds, waits, and what a program is found by. */
import assert from "node:assert/strict";
import { stat, writeFile } from "node:fs/promises";
import { systemClock } from "../../core/clock.ts";
import { createDelivery } from "../../core/delivery/mod.ts";
import { createBoard } from "../../core/status/board.ts";
import { Watch } from "../../core/status/conditions.ts";
import { type SinkError, sinkErrorKind } from "../../core/types.ts";
import { clipOnDisk, testClip } from "../../kit/clips.ts";
import { isolated } from "../../kit/mod.ts";
import { FakeSpool, freshStatus, keepLog, makeClip } from "../delivery/fakes.ts";
import { PATIENT } from "../kit/support.ts";
import { inTempFolder } from "../support/run_cli.ts";

const log = { debug() {}, info() {}, warn() {}, error() {} };

const sink = (needs: string, open: string) =>
  `import { defineSink, SinkError } from "camsink";
export default defineSink({
  name: "toy",
  config: { type: "object", properties: {}, additionalProperties: false },
  net: () => [],
  ${needs}
  open: () => { ${open} },
});
`;

const put = { signal: new AbortController().signal, attempt: 1, progress: () => {} };

Deno.test("an open() that fails for a while is tried again, when it says", () =>
  inTempFolder(async (folder) => {
    const text = sink("", `throw new SinkError("retry", "no line", { retryAfterMs: 7000 });`);
    await writeFile(`${folder}/toy.js`, text);
    await using host = await isolated("./toy.js", { folder, limits: PATIENT.limits });
    await assert.rejects(host.open({ config: {}, log }), (error: SinkError) => {
      assert.equal(sinkErrorKind(error), "retry");
      assert.equal(error.retryAfterMs, 7000);
      return error.message === "no line";
    });
  }));

Deno.test("an error that names no wait asks for none", () =>
  inTempFolder(async (folder) => {
    const text = sink("", `return { put() { throw new SinkError("retry", "not now"); } };`);
    await writeFile(`${folder}/toy.js`, text);
    await using host = await isolated("./toy.js", { folder, limits: PATIENT.limits });
    const { sink: toy, dispose } = await host.open({ config: {}, log });
    try {
      await assert.rejects(toy.put(testClip(1), put), (error: SinkError) => {
        assert.equal(error.retryAfterMs, undefined);
        return error.message === "not now";
      });
    } finally {
      await dispose();
    }
  }));

Deno.test("a plugin sees PATH only where it may run a program, and nothing else of the user's", () =>
  inTempFolder(async (folder) => {
    const open = `return { async put() {
      const { env } = await import("node:process");
      throw new SinkError("permanent", Object.keys(env).sort().join(" "));
    } };`;
    const seen = async (needs: string) => {
      await writeFile(`${folder}/toy.js`, sink(needs, open));
      await using host = await isolated("./toy.js", { folder, limits: PATIENT.limits });
      const { sink: toy, dispose } = await host.open({ config: {}, log });
      try {
        return await toy.put(testClip(1), put).then(() => "", (error) => String(error.message));
      } finally {
        await dispose();
      }
    };
    assert.doesNotMatch(await seen(""), /PATH|HOME|USER/);
    const kept =
      /^(PATH|PATHEXT|HOME|USER|USERPROFILE|XDG_CONFIG_HOME|APPDATA|RCLONE_CONFIG|LANG|.*_proxy)$/i;
    const names = (await seen(`needs: () => ({ run: ["true"] }),`)).split(" ");
    assert.ok(names.includes("PATH"));
    assert.deepEqual(names.filter((name) => !kept.test(name)), []);
  }));

Deno.test("a clip's file is handed over by a name of its own, and nothing beside it can be read", () =>
  inTempFolder(async (folder) => {
    const text = `import { defineSink, provenBytes, SinkError } from "camsink";
export default defineSink({
  name: "toy",
  config: { type: "object", properties: { file: { type: "string" } }, required: ["file"] },
  net: () => [],
  open: ({ config: { file } }) => ({
    async put(clip, options) {
      for (const read of [() => Deno.readFileSync(file), () => [...Deno.readDirSync(file + "/..")]])
        try { read(); throw new SinkError("permanent", "read what it was not handed"); }
        catch (error) { if (error.name !== "NotCapable") throw error; }
      let rest = 0;
      for await (const part of clip.open(300_000)) rest += part.length;
      for await (const part of provenBytes(clip, options)) rest += 0 * part.length;
      return { state: "stored", etag: String(rest) };
    },
  }),
});
`;
    await writeFile(`${folder}/toy.js`, text);
    const clip = await clipOnDisk(1_000_000, folder);
    await using host = await isolated("./toy.js", { folder, limits: PATIENT.limits });
    const { sink, dispose } = await host.open({ config: { file: clip.path }, log });
    try {
      const byPipe = () => assert.fail("it was read in this process");
      const told: number[] = [];
      const { etag } = await sink.put({ ...clip, open: byPipe }, {
        ...put,
        progress: (bytes) => told.push(bytes),
      });
      assert.equal(etag, "700000");
      assert.equal(told.at(-1), 1_000_000);
      assert.equal((await stat(clip.path ?? "")).nlink, 1, "the name is still there");
      // One that may not be read past Camsink, such as one that is slowed down, comes by the pipe.
      assert.equal((await sink.put({ ...clip, path: undefined }, put)).etag, "700000");
      // So does one whose disk gives no second name: another disk than the spool's, or a file that is
      // gone. Who opens the clip is told.
      for (const path of ["/proc/version", `${folder}/gone.mp4`]) {
        const opened: number[] = [];
        const open = (fromByte = 0) => {
          opened.push(fromByte);
          return clip.open(fromByte);
        };
        assert.equal((await sink.put({ ...clip, path, open }, put)).etag, "700000");
        assert.deepEqual(opened, [300_000, 0]);
      }
    } finally {
      await dispose();
    }
  }));

Deno.test("the owner is told when the credential of a plugin's sink runs out", () =>
  inTempFolder(async (folder) => {
    const text = `import { defineSink } from "camsink";
let endsAtMs;
export default defineSink({
  name: "toy",
  config: { type: "object", properties: { endsAtMs: { type: "number" } }, required: ["endsAtMs"] },
  net: () => [],
  open: ({ config }) => ({
    get credentialExpiresAtMs() { return endsAtMs; },
    // Known when the credential is first used.
    put: () => { endsAtMs = config.endsAtMs; return Promise.resolve({ state: "stored" }); },
  }),
});
`;
    await writeFile(`${folder}/toy.js`, text);
    const endsAtMs = systemClock.now() + 47.5 * 3_600_000;
    await using host = await isolated("./toy.js", { folder, limits: PATIENT.limits });
    const { sink, dispose } = await host.open({ config: { endsAtMs }, log });
    const stop = new AbortController();
    const spool = new FakeSpool();
    const status = freshStatus("phone");
    const board = createBoard(systemClock.monotonic());
    board.sinks.set("phone", status);
    const watch = new Watch(systemClock);
    const told = () =>
      watch.look({ board, silentAccounts: new Map() }).find(({ kind }) =>
        kind === "credential-expiring"
      );
    assert.equal(told(), undefined);
    spool.add(makeClip(0));
    const running = createDelivery({
      ...{ name: "phone", sink, spool, status, clock: systemClock, random: Math.random },
      log: keepLog(),
    }).run(stop.signal);
    try {
      while (status.credentialExpiresAtMs === undefined) await systemClock.sleep(10);
      assert.match(told()?.message ?? "", /^the credential expires in 1d23h.*no restart/);
    } finally {
      stop.abort();
      await running;
      await dispose();
    }
  }));
