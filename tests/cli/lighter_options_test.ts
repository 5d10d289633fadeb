/** Which of a camera's options are advised where a machine cannot keep up. */
import assert from "node:assert/strict";
import { configTables, lighterOptions } from "../../commands/rooms.ts";
import { parseConfig } from "../../core/config/load.ts";

Deno.test("a camera has the options of its kind, one of an account those of the account", async () => {
  const { config } = await parseConfig(
    `{ "accounts": { "home": { "type": "nest", "accessToken": "env:T", "cameras": "all" } },
       "cameras": { "yard": { "type": "snapshot", "url": "http://x/", "name": "Yard" },
                    "door": { "type": "rtsp", "url": "rtsp://x/" } } }`,
    { path: "/x.jsonc", tables: configTables, env: (name) => name === "T" ? "t" : undefined },
  );
  assert.deepEqual(lighterOptions(config, "Hall"), ["fps", "width"]);
  assert.deepEqual(lighterOptions(config, "Yard"), ["fps"]);
  assert.deepEqual(lighterOptions(config, "door"), []);
  assert.deepEqual(lighterOptions({ ...config, accounts: {} }, "Hall"), []);
});
