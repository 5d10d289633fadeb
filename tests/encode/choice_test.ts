/** Which engines there are, and what is said when one is missing. */
import assert from "node:assert/strict";
import { createEncoders } from "../../core/encode/mod.ts";
import { needs } from "../support/programs.ts";
import { createTestLog, encodeAll, pictures } from "./support.ts";

const ffmpeg = needs("ffmpeg");
const NO_CORE = { scriptUrl: "data:text/javascript,", wasmUrl: "file:///nowhere/core.wasm" };

Deno.test("auto encodes in-process where there is no system ffmpeg, and warns of nothing", async () => {
  const log = createTestLog();
  await using encoders = await createEncoders({ path: "/nowhere/ffmpeg", workers: 1, log });
  assert.deepEqual(encoders.engines.map((engine) => engine.name), ["wasm"]);
  const coded = await encodeAll(encoders.forCamera(), pictures({ count: 25 }));
  assert.equal(coded.length, 25);
  assert.equal(encoders.describe("yard")?.name, "wasm ultrafast");
  assert.ok((encoders.describe("yard")?.speed ?? 0) > 0);
  assert.deepEqual(log.lines.filter((line) => !line.startsWith("debug")), []);
});

Deno.test({
  name: `auto takes the system ffmpeg where wasm cannot be loaded, and says why${ffmpeg.reason}`,
  ignore: ffmpeg.ignore,
  async fn() {
    const log = createTestLog();
    await using encoders = await createEncoders({ log, core: NO_CORE });
    const coded = await encodeAll(encoders.forCamera(), pictures({ count: 25 }));
    assert.equal(coded.length, 25);
    assert.equal(encoders.describe("yard")?.name, "system veryfast");
    assert.match(
      log.lines[0] ?? "",
      /^warn: encoding with the system ffmpeg, because wasm: cannot/,
    );
  },
});

Deno.test("with neither engine the error says what is wrong with both and what to do", async () => {
  const log = createTestLog();
  await assert.rejects(
    createEncoders({ path: "/nowhere/ffmpeg", core: NO_CORE, log }),
    (error: Error) => {
      assert.match(error.message, /encoder\.use: "auto" finds no encoder that works/);
      assert.match(error.message, /wasm: cannot load ffmpeg\.wasm/);
      assert.match(error.message, /system: cannot run \/nowhere\/ffmpeg.*install ffmpeg/);
      return true;
    },
  );
});

Deno.test("an engine that was asked for by name is not replaced by another", async () => {
  const log = createTestLog();
  await assert.rejects(
    createEncoders({ use: "system", path: "/nowhere/ffmpeg", log }),
    /encoder\.use: "system" finds no encoder/,
  );
});

Deno.test({
  name: `the probe times every engine and names what is missing${ffmpeg.reason}`,
  ignore: ffmpeg.ignore,
  async fn() {
    const log = createTestLog();
    const jpegs = pictures({ count: 20 }).map((unit) => unit.data);
    const { signal } = new AbortController();
    await using both = await createEncoders({ workers: 1, log });
    const probes = await both.probe(jpegs, { signal });
    assert.deepEqual(probes.map((probe) => [probe.engine, probe.ok]), [
      ["wasm", true],
      ["system", true],
    ]);
    assert.ok(probes.every((probe) => probe.ok && probe.picturesPerSecond > 1));
    await using one = await createEncoders({ path: "/nowhere/ffmpeg", workers: 1, log });
    const system = (await one.probe(jpegs, { signal })).find((probe) => probe.engine === "system");
    assert.ok(system && !system.ok);
    assert.match(system.error, /not found/);
  },
});
