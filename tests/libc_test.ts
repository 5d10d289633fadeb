/** What is asked of the C library. */
import assert from "node:assert/strict";

/** How much of the program is mapped before and after, MiB; and that it goes on. */
const START = `
  import { giveBackStart } from "./core/libc.ts";
  const mappedMib = () =>
    Number(/^RssFile:\\s+(\\d+) kB/m.exec(Deno.readTextFileSync("/proc/self/status"))[1]) / 1024;
  const before = mappedMib();
  giveBackStart();
  const after = mappedMib();
  const digest = await crypto.subtle.digest("SHA-256", new Uint8Array(3));
  console.log(before, after, new Uint8Array(digest)[0]);
`;

/** How much the heap grows by 20 blocks of half a MiB after one of a MiB was freed, MiB. */
const PROGRAM = `
  import { giveBackFreedMemory } from "./core/libc.ts";
  const heapMib = () => {
    const line = Deno.readTextFileSync("/proc/self/maps").split("\\n").find((l) => l.endsWith("[heap]"));
    const [from, to] = line.split(" ")[0].split("-").map((text) => parseInt(text, 16));
    return (to - from) / 2 ** 20;
  };
  giveBackFreedMemory();
  for (let round = 0; round < 5; round++) {
    new Uint8Array(2 ** 20).fill(1);
    gc(); // ends the sweep of the one before
  }
  const before = heapMib();
  const blocks = Array.from({ length: 20 }, () => new Uint8Array(2 ** 19).fill(1));
  console.log(heapMib() - before, blocks.length);
`;

async function run(program: string): Promise<number[]> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--v8-flags=--expose-gc", program],
    cwd: new URL("../", import.meta.url),
  }).output();
  assert.notEqual(stdout.length, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).split(" ").map(Number);
}

Deno.test({
  name: "large blocks do not stay in the heap, whatever was freed before",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const [growth = NaN] = await run(PROGRAM);
    assert.ok(growth < 1, `${growth} MiB`);
  },
});

Deno.test({
  name: "what the start has mapped of the program is given back, and comes again",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const [before = NaN, after = NaN, digest] = await run(START);
    assert.ok(after < before / 2, `${before} MiB, then ${after} MiB`);
    assert.equal(digest, 0x70); // of three zeros
  },
});
