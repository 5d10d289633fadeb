/**
 * `camsink init` for Device Access: the consent, by an address that is pasted, and by a browser on this
 * machine that follows the redirect of Google's (simulated) page.
 *
 * @module
 */
import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import type { InitArguments } from "../../commands/arguments.ts";
import { init } from "../../commands/init.ts";
import type { Prompter } from "../../commands/prompter.ts";
import { createTerminal } from "../../commands/terminal.ts";
import { systemClock } from "../../core/clock.ts";
import { startSdmSimulator } from "../../simulators/sdm/simulator.ts";
import { inTempFolder } from "../support/run_cli.ts";

Deno.test("the consent of a browser elsewhere becomes a refresh token in a private file, and works", async () => {
  await consent("elsewhere");
});

Deno.test("a browser on this machine comes back by itself, and is told that it can go", async () => {
  assert.equal(await consent("here"), "Camsink has it. You can close this page.\n");
});

Deno.test("a consent that was refused in the browser is said, and nothing is written", async () => {
  await assert.rejects(consent("here", { refuse: true }), /Google says "access_denied"/);
});

/** Leads through it; gives the page that the browser shows in the end. */
async function consent(where: "here" | "elsewhere", { refuse = false } = {}): Promise<string> {
  let page = Promise.resolve("");
  await inTempFolder(async (cwd) => {
    await using cloud = await startSdmSimulator({
      cameras: [{ customName: "Hall", widthPx: 320, heightPx: 180 }],
    });
    for (const camera of cloud.cameras) await cloud.media.scene(camera);
    const { projectId, clientId, clientSecret } = cloud.credentials;
    let pasted = "";
    const wrong: string[] = [];
    const answers: Record<string, string> = {
      "client secret: where": "paste",
      "Where is it?": where,
      "client secret": clientSecret,
    };
    const find = (message: string) =>
      Object.entries(answers).find(([words]) => message.includes(words))?.[1] ?? "";
    const shown: Promise<void>[] = [];
    const prompter: Prompter = {
      interactive: true,
      async text({ message, usual, validate }) {
        if (!message.includes("address that the browser shows")) return usual ?? "";
        await Promise.all(shown);
        for (const text of ["nonsense", "http://localhost:8125/?code=x&state=old"]) {
          wrong.push(validate?.(text) ?? "");
        }
        assert.equal(validate?.(pasted), undefined);
        return pasted;
      },
      password: ({ message }) => Promise.resolve(find(message)),
      choose: ({ message, choices, usual }) => {
        const value = choices.find(({ value }) => value === find(message))?.value ?? usual;
        assert.ok(value !== undefined, message);
        return Promise.resolve(value);
      },
      chooseSome: ({ usual }) => Promise.resolve(usual),
      note(_title, text) {
        const [url] = /http\S+partnerconnections\S+/.exec(text) ?? [];
        if (url === undefined) return;
        // What the browser does. Sent to this machine, it goes there.
        if (where === "here") {
          const refused = `${new URL(url).searchParams.get("redirect_uri")}?error=access_denied`;
          page = fetch(refuse ? refused : url).then((response) => response.text());
          return;
        }
        // Google sends it to an address that leads nowhere.
        shown.push(
          fetch(url, { redirect: "manual" }).then(async (response) => {
            pasted = response.headers.get("location") ?? "";
            await response.body?.cancel();
          }),
        );
      },
      busy: (_message, task) => task(),
      done() {},
    };
    const args: InitArguments = {
      command: "init",
      out: `${cwd}/camsink.jsonc`,
      source: "google-sdm",
      name: "home",
      projectId,
      clientId,
      endpoints: Object.entries(cloud.endpoints).map(([name, url]) => `${name}=${url}`),
      sinks: ["local"],
      localPath: `${cwd}/clips`,
      yes: false,
      force: false,
      skipTests: false,
      debug: false,
      noColor: false,
    };
    const lines: string[] = [];
    const code = await init(args, {
      terminal: createTerminal({
        env: () => undefined,
        stdoutIsTerminal: false,
        stderrIsTerminal: false,
        size: () => ({ columns: 80, rows: 24 }),
        writeOut: (text) => lines.push(text),
        writeErr: (text) => lines.push(text),
      }),
      stop: new AbortController().signal,
      hardStop: new AbortController().signal,
      clock: systemClock,
      random: Math.random,
      debug: false,
      prompter,
    });
    assert.equal(code, 0, lines.join("\n"));
    if (where === "elsewhere") {
      assert.match(wrong[0] ?? "", /expected an address/);
      assert.match(wrong[1] ?? "", /another try/);
    }
    const config = await readFile(`${cwd}/camsink.jsonc`, "utf8");
    assert.match(config, /"refreshToken": "file:\.\/camsink\.secrets\/google-refresh-token"/);
    assert.ok(!config.includes(clientSecret));
    const { mode } = await stat(`${cwd}/camsink.secrets/google-refresh-token`);
    assert.equal(mode & 0o777, 0o600);
    assert.ok(lines.some((line) => /account home: logged in; 1 camera: Hall/.test(line)));
    assert.ok(lines.some((line) => /camera Hall: 320x180 h264/.test(line)), lines.join("\n"));
  });
  return await page;
}
