/** `camsink update --check` against announcements good and bad. */
import assert from "node:assert/strict";
import project from "../../deno.json" with { type: "json" };
import { inTempFolder, runCli } from "../support/run_cli.ts";

/** Asks a server that answers so. */
async function ask(answer: () => Response, ...flags: string[]) {
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, answer);
  let result = { code: -1, stdout: "", stderr: "" };
  await inTempFolder(async (cwd) => {
    result = await runCli(
      ["update", "--check", ...flags],
      {
        cwd,
        env: { CAMSINK_UPDATE_URL: `http://127.0.0.1:${server.addr.port}/latest?key=s3cret` },
      },
    );
  });
  return result;
}

Deno.test("a newer release is told with where to get it, and exit code 1", async () => {
  const { code, stdout } = await ask(() =>
    Response.json({ tag_name: "v99.1.0", html_url: "https://example.org/v99.1.0" })
  );
  assert.equal(code, 1);
  assert.match(stdout, /Camsink 99\.1\.0 is out.*https:\/\/example\.org\/v99\.1\.0/);
});

Deno.test("nothing newer: exit code 0, also as JSON", async () => {
  const { code, stdout } = await ask(() => Response.json({ version: project.version }), "--json");
  assert.equal(code, 0);
  const { installed, latest, newer } = JSON.parse(stdout);
  assert.deepEqual([installed, latest, newer], [project.version, project.version, false]);
});

Deno.test("an older release and a pre-release of this one are not newer", async () => {
  for (const version of ["1.0.0", `${project.version}-rc.1`]) {
    assert.equal((await ask(() => Response.json({ version }))).code, 0, version);
  }
});

for (
  const [what, answer] of Object.entries({
    "an error": () => new Response("no", { status: 503 }),
    "no JSON": () => new Response("<html>"),
    "a version that is none": () => Response.json({ version: "latest; rm -rf /" }),
    "too much": () => new Response("x".repeat(2_000_000)),
  })
) {
  Deno.test(`${what} ends with exit code 69, and the address is told without its query`, async () => {
    const { code, stderr } = await ask(answer);
    assert.equal(code, 69, stderr);
    assert.match(stderr, /127\.0\.0\.1:\d+ does not tell the newest release.*--from URL/);
    assert.doesNotMatch(stderr, /s3cret/);
  });
}

Deno.test("where nobody said where releases are announced, that is said, and nothing is asked", () =>
  inTempFolder(async (cwd) => {
    const { code, stderr } = await runCli(["update", "--check"], { cwd });
    assert.equal(code, 2, stderr);
    assert.match(stderr, /--from URL or CAMSINK_UPDATE_URL/);
  }));

Deno.test("without --check nothing is asked", () =>
  inTempFolder(async (cwd) => {
    assert.equal((await runCli(["update"], { cwd })).code, 2);
  }));
