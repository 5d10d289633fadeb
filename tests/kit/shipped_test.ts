/**
 * The conformance kit against every plugin that we ship, each in a process of its own as it runs for
 * its users, and with a real server where there is one.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { isolated, type SinkTest } from "../../kit/mod.ts";
import { PATIENT, testWithKit } from "./support.ts";

const PLUGINS = new URL("../../plugins/", import.meta.url);

for (const { name } of readdirSync(PLUGINS, { withFileTypes: true })) {
  const folder = new URL(`${name}/`, PLUGINS);
  const tests = await import(new URL("camsink.test.ts", folder).href) as Record<string, SinkTest>;
  for (const [which, test] of Object.entries(tests)) {
    testWithKit(which === "default" ? name : `${name}, ${which}`, {
      host: () =>
        isolated(fileURLToPath(folder), {
          folder: fileURLToPath(PLUGINS),
          limits: PATIENT.limits,
        }),
      test,
      skip: await test.unavailable?.(),
    });
  }

  Deno.test(`${name}: its README names every option, its package every import`, () => {
    const readme = readFileSync(new URL("README.md", folder), "utf8");
    const source = readFileSync(new URL("mod.ts", folder), "utf8");
    const options = /export interface \w+Options \{([\s\S]*?)\n\}/.exec(source)?.[1] ?? "";
    for (const [, option] of options.matchAll(/readonly (\w+)\??:/g)) {
      assert.match(readme, new RegExp(`\`${option}\``), `the option ${option}`);
    }
    const { imports } = JSON.parse(readFileSync(new URL("deno.json", folder), "utf8"));
    const ours = JSON.parse(readFileSync(new URL("../../deno.json", import.meta.url), "utf8"));
    for (const [, specifier = ""] of source.matchAll(/^(?:import|\} from)\b.*"([^"]+)";$/gm)) {
      if (specifier === "camsink" || /^(node:|\.)/.test(specifier)) continue;
      assert.equal(imports[specifier], ours.imports[specifier], specifier);
    }
  });
}
