/** `camsink init`, `check` and `cameras` as whole programs against simulated cameras. */
import assert from "node:assert/strict";
import { startMjpegCamera } from "../../simulators/mjpeg_camera.ts";
import { startNestSimulator } from "../../simulators/nest/simulator.ts";
import { startSnapshotCamera } from "../../simulators/snapshot_camera.ts";
import { type CliResult, inTempFolder, runCli } from "../support/run_cli.ts";

interface World {
  readonly cwd: string;
  readonly run: (...args: string[]) => Promise<CliResult>;
  /** The flags that answer every question about a simulated Nest account. */
  readonly nestFlags: readonly string[];
  readonly token: string;
}

/** A simulated Nest cloud with two cameras, and a folder to set Camsink up in. */
function inNestWorld(body: (world: World) => Promise<void>): Promise<void> {
  return inTempFolder(async (cwd) => {
    await using cloud = await startNestSimulator({
      cameras: [
        { name: "Front Door", widthPx: 640, heightPx: 360 },
        { name: "Büro", widthPx: 640, heightPx: 360 },
      ],
    });
    const token = cloud.credentials.accessToken;
    await body({
      cwd,
      token,
      run: (...args) => runCli(args, { cwd, env: { TEST_TOKEN: token } }),
      nestFlags: [
        ...["--yes", "--source", "nest", "--access-token", "env:TEST_TOKEN", "--width", "640"],
        ...Object.entries(cloud.endpoints).flatMap((
          [name, url],
        ) => ["--endpoint", `${name}=${url}`]),
      ],
    });
  });
}

Deno.test("init by flags tries the account and the sink and writes a configuration that works", () =>
  inNestWorld(async ({ cwd, run, nestFlags, token }) => {
    const made = await run("init", ...nestFlags, "--sink", "local");
    assert.equal(made.code, 0, made.stderr);
    assert.match(made.stderr, /✓ account home: logged in; 2 cameras: Front Door, Büro/);
    assert.match(made.stderr, /✓ camera Front Door: 640x360 jpeg/);
    assert.match(made.stderr, /✓ sink local/);
    const text = await Deno.readTextFile(`${cwd}/camsink.jsonc`);
    assert.match(text, /"accessToken": "env:TEST_TOKEN"/);
    assert.match(text, /"\$schema": "\.\/camsink\.schema\.json"/);
    assert.ok(
      !`${text}${made.stdout}${made.stderr}`.includes(token),
      "the token itself is nowhere",
    );
    if (Deno.build.os !== "windows") {
      assert.equal(((await Deno.stat(`${cwd}/camsink.jsonc`)).mode ?? 0) & 0o777, 0o600);
    }

    const { code, stdout } = await run("cameras", "--json");
    assert.equal(code, 0);
    assert.deepEqual(
      JSON.parse(stdout).map((
        { account, name, state, widthPx, heightPx, recorded }: Record<string, unknown>,
      ) => ({ account, name, state, widthPx, heightPx, recorded })),
      ["Front Door", "Büro"].map((name) => ({
        account: "home",
        name,
        state: "online",
        widthPx: 640,
        heightPx: 360,
        recorded: true,
      })),
    );
  }));

Deno.test("check finds that everything holds, tells it as JSON too, and leaves no trace", () =>
  inNestWorld(async ({ cwd, run, nestFlags }) => {
    await run("init", ...nestFlags, "--sink", "local", "--skip-tests");
    const { code, stdout, stderr } = await run("check", "--json");
    const { ok, findings } = JSON.parse(stdout);
    assert.equal(ok, true, stdout + stderr);
    assert.equal(code, 0);
    const whats = findings.map(({ what }: { what: string }) => what).sort();
    assert.deepEqual(
      whats,
      ["account", "camera", "camera", "config", "disk", "encoder", "sink"],
    );
    const clips = await Array.fromAsync(Deno.readDir(`${cwd}/clips`)).catch(() => []);
    assert.deepEqual(clips, []);
  }));

Deno.test("check tells each failure with its fix and exits with the first one's code", () =>
  inNestWorld(async ({ cwd, run, nestFlags }) => {
    await run("init", ...nestFlags, "--local-path", "./clips", "--skip-tests");
    const file = `${cwd}/camsink.jsonc`;
    const text = await Deno.readTextFile(file);
    await Deno.writeTextFile(
      file,
      text.replace('"path": "./clips"', '"path": "./no/such/folder"')
        .replace('"cameras": "all"', '"cameras": ["Front Door", "Attic"]'),
    );
    const { code, stdout } = await run("check");
    assert.ok(code === 69 || code === 78, `${code}`);
    assert.match(stdout, /✗ sink +local/);
    assert.match(stdout, /✗ camera +home\/Attic.*no camera of this name/);
    assert.match(stdout, /✓ camera +home\/Front Door/);
    assert.equal(stdout.match(/fix:/g)?.length, 2, stdout);
    assert.match(stdout, /2 of \d+ failed/);
  }));

Deno.test("check tells a spool that cannot be made", () =>
  inNestWorld(async ({ cwd, run, nestFlags }) => {
    await run("init", ...nestFlags, "--local-path", "./clips", "--skip-tests");
    const file = `${cwd}/camsink.jsonc`;
    const text = await Deno.readTextFile(file);
    await Deno.writeTextFile(file, text.replace("./spool", "./camsink.jsonc/spool"));
    const { code, stdout } = await run("check");
    assert.equal(code, 74, stdout);
    assert.match(stdout, /✗ disk .*cannot be written/);
  }));

Deno.test("init does not replace a file unless it is forced to", () =>
  inNestWorld(async ({ cwd, run, nestFlags }) => {
    await Deno.writeTextFile(`${cwd}/camsink.jsonc`, "mine");
    const refused = await run("init", ...nestFlags);
    assert.equal(refused.code, 78);
    assert.match(
      refused.stderr,
      /camsink\.jsonc exists and was left as it is; --force replaces it\s*$/,
    );
    assert.equal(await Deno.readTextFile(`${cwd}/camsink.jsonc`), "mine");
    assert.equal((await run("init", ...nestFlags, "--force")).code, 0);
    assert.notEqual(await Deno.readTextFile(`${cwd}/camsink.jsonc`), "mine");
  }));

Deno.test("init with a refused login writes nothing and exits 77", () =>
  inNestWorld(async ({ cwd, nestFlags }) => {
    const { code, stderr } = await runCli(["init", ...nestFlags], {
      cwd,
      env: { TEST_TOKEN: "b.0000000.not-a-token-that-anybody-gave" },
    });
    assert.equal(code, 77, stderr);
    assert.match(stderr, /✗ account home/);
    assert.match(stderr, /nothing was written/);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(cwd)), []);
  }));

Deno.test("init sets up a snapshot camera with a login", () =>
  inTempFolder(async (cwd) => {
    await using camera = await startSnapshotCamera({
      name: "Yard",
      widthPx: 320,
      heightPx: 180,
      auth: { type: "digest", username: "me", password: "hush-hush" },
    });
    const { code, stderr } = await runCli(
      [
        ...["init", "--yes", "--source", "snapshot", "--url", camera.url, "--name", "yard"],
        ...["--username", "me", "--password", "file:pw", "--local-path", "./out"],
      ],
      { cwd: await withSecret(cwd, "hush-hush") },
    );
    assert.equal(code, 0, stderr);
    assert.match(stderr, /✓ camera yard: 320x180 jpeg/);
    assert.ok(!stderr.includes("hush-hush"));
  }));

Deno.test("init sets up an MJPEG camera, and tells one that is not there", () =>
  inTempFolder(async (cwd) => {
    await using camera = await startMjpegCamera({ name: "Yard", widthPx: 320, heightPx: 180 });
    const flags = ["init", "--yes", "--source", "mjpeg", "--name", "door"];
    const wrong = await runCli([...flags, "--url", `${camera.url}/nothing`], { cwd });
    assert.notEqual(wrong.code, 0);
    assert.match(wrong.stderr, /✗ camera door: .*404[^]*nothing was written/);
    const { code, stderr } = await runCli([...flags, "--url", camera.url], { cwd });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /✓ camera door: 320x180 jpeg/);
    assert.match(
      await Deno.readTextFile(`${cwd}/camsink.jsonc`),
      /"door": \{ "type": "mjpeg", "url": "http:/,
    );
  }));

async function withSecret(folder: string, secret: string): Promise<string> {
  await Deno.writeTextFile(`${folder}/pw`, secret, { mode: 0o600 });
  return folder;
}

/** What is missing or wrong in the flags, with what must be said; all are usage errors. */
const MISTAKES: readonly (readonly [flags: readonly string[], said: RegExp])[] = [
  [[], /give --source/],
  [["--source", "snapshot"], /give --url/],
  [["--source", "snapshot", "--url", "cam.local"], /--url: got "cam\.local", expected an address/],
  [["--source", "rtsp", "--url", "http://cam.local/"], /expected an address that .* rtsp:\/\//],
  [["--source", "onvif"], /give --url/],
  [
    ["--source", "rtsp", "--url", "rtsp://a:b@cam.local/"],
    /leave user name and password out of the URL/,
  ],
  [
    ["--source", "snapshot", "--url", "http://a:b@cam.local/"],
    /leave user name and password out of the URL/,
  ],
  [["--source", "nest"], /give --access-token, or --issue-token with --cookie/],
  [["--source", "nest", "--access-token", "b.123456"], /given by reference, env:NEST_TOKEN/],
  [["--source", "nest", "--issue-token", "env:A"], /give --cookie/],
  [
    ["--source", "nest", "--access-token", "env:A", "--cookie", "env:B"],
    /--access-token, or --issue-token with --cookie, but not both/,
  ],
  [["--source", "nest", "--access-token", "env:A", "--endpoint", "x=y"], /--endpoint: got "x=y"/],
];

for (const [flags, said] of MISTAKES) {
  Deno.test(`init ${flags.join(" ")} is a usage error that names the flag to give`, () =>
    inTempFolder(async (cwd) => {
      const { code, stderr } = await runCli(["init", "--yes", ...flags], { cwd });
      assert.equal(code, 2, stderr);
      assert.match(stderr, said);
      assert.ok(!stderr.includes("b.123456") && !stderr.includes("a:b@"), "no secret is repeated");
      assert.deepEqual(await Array.fromAsync(Deno.readDir(cwd)), []);
    }));
}
