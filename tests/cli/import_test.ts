/** `camsink config import foggycam` as a whole program. */
import assert from "node:assert/strict";
import { inTempFolder, runCli } from "../support/run_cli.ts";

const FOGGYCAM = {
  username: "me@example.org",
  password: "correct-horse",
  path: "",
  frame_rate: 12,
  width: 1280,
  threshold: 200,
  clear_images: true,
  produce_video: true,
  upload_to_azure: true,
  az_account_name: "mystorage",
  az_sas_token: "?sv=2018-03-28&sig=VerySecretSignature%3D",
};

function inFoggycamFolder(
  content: string,
  body: (cwd: string) => Promise<void>,
): Promise<void> {
  return inTempFolder(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/config.json`, content);
    await body(cwd);
  });
}

Deno.test("import writes a configuration to stdout and its notes to stderr, without a secret", () =>
  inFoggycamFolder(JSON.stringify(FOGGYCAM), async (cwd) => {
    const { code, stdout, stderr } = await runCli(
      ["config", "import", "foggycam", "config.json"],
      { cwd },
    );
    assert.equal(code, 0, stderr);
    assert.match(stdout, /"type": "azure-blob"/);
    assert.match(stderr, /^note: /m);
    for (const secret of ["correct-horse", "VerySecretSignature"]) {
      assert.ok(!`${stdout}${stderr}`.includes(secret), secret);
    }
  }));

Deno.test("what import writes is valid, private, and not replaced without --force", () =>
  inFoggycamFolder(JSON.stringify(FOGGYCAM), async (cwd) => {
    const line = ["config", "import", "foggycam", "config.json", "--out", "camsink.jsonc"];
    assert.equal((await runCli(line, { cwd })).code, 0);
    const { code, stdout } = await runCli(["config", "validate"], { cwd });
    assert.equal(code, 0);
    assert.match(stdout, /camsink\.jsonc is valid/);
    if (Deno.build.os !== "windows") {
      assert.equal(((await Deno.stat(`${cwd}/camsink.jsonc`)).mode ?? 0) & 0o777, 0o600);
    }
    const again = await runCli(line, { cwd });
    assert.equal(again.code, 78);
    assert.match(again.stderr, /--force replaces it/);
    assert.equal((await runCli([...line, "--force"], { cwd })).code, 0);
  }));

for (
  const [what, content] of [
    ["broken JSON", '{"password": "correct-horse",'],
    ["a list", "[]"],
    ["nothing", ""],
  ] as const
) {
  Deno.test(`importing ${what} exits 78 and quotes nothing of the file`, () =>
    inFoggycamFolder(content, async (cwd) => {
      const { code, stdout, stderr } = await runCli(
        ["config", "import", "foggycam", "config.json"],
        { cwd },
      );
      assert.equal(code, 78);
      assert.equal(stdout, "");
      assert.match(stderr, /config\.json/);
      assert.ok(!stderr.includes("correct-horse"));
    }));
}
