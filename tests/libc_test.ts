/** What is asked of the C library. */
import assert from "node:assert/strict";

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

async function heapGrowthMib(): Promise<number> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--v8-flags=--expose-gc", PROGRAM],
    cwd: new URL("../", import.meta.url),
  }).output();
  const [growth] = new TextDecoder().decode(stdout).split(" ");
  assert.ok(growth, new TextDecoder().decode(stderr));
  return Number(growth);
}

Deno.test({
  name: "large blocks do not stay in the heap, whatever was freed before",
  ignore: Deno.build.os !== "linux",
  async fn() {
    assert.ok(await heapGrowthMib() < 1);
  },
});
