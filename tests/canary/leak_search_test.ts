/**
 * @module
 */
import assert from "node:assert/strict";
import { createLeakSearch } from "./leak_search.ts";

Deno.test("a secret is found where two parts of what was printed meet, and in a file", async () => {
  const search = createLeakSearch({ token: "Cnry+/1234567890", other: "Cnry0987654321" });
  search.printed("x".repeat(999_990) + " Cnry+/12");
  assert.deepEqual(search.leaks(), []);
  search.printed("34567890 ");
  search.printed("x".repeat(1_000_000));
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/status.json`, '{"reason":"Cnry0987654321"}');
    await Deno.writeTextFile(`${folder}/clip.mp4`, "Cnry+/1234567890");
    await search.files(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  const leaks = search.leaks();
  assert.ok(leaks.includes("printed: token as raw"), String(leaks));
  assert.ok(leaks.includes("status.json: other as raw"), String(leaks));
  assert.ok(!leaks.some((leak) => leak.startsWith("clip.mp4")));
  assert.ok(search.searched > 2_000_000);
});
