/** The command line as a whole: help, versions, mistakes, exit codes, streams. */
import assert from "node:assert/strict";
import project from "../../deno.json" with { type: "json" };
import { inTempFolder, runCli } from "../support/run_cli.ts";

const COMMANDS = [
  "capture",
  "status",
  "init",
  "check",
  "cameras",
  "config",
  "clips",
  "verify",
  "google-token",
  "bench",
  "simulate",
  "completions",
];

Deno.test("help lists every command in groups with examples, on stdout, with exit code 0", () =>
  inTempFolder(async (cwd) => {
    const { code, stdout, stderr } = await runCli(["--help"], { cwd });
    assert.equal(code, 0);
    assert.equal(stderr, "");
    for (const command of COMMANDS) assert.match(stdout, new RegExp(`^  ${command} `, "m"));
    for (const group of ["Record:", "Set up:", "Try out:", "Help:", "Examples:"]) {
      assert.ok(stdout.includes(`\n${group}`), group);
    }
    assert.ok(stdout.split("\n").every((line) => line.length <= 100), "no line is too wide");
  }));

Deno.test("no arguments at all show the help", () =>
  inTempFolder(async (cwd) => {
    const bare = await runCli([], { cwd });
    const help = await runCli(["help"], { cwd });
    assert.equal(bare.code, 0);
    assert.equal(bare.stdout, help.stdout);
  }));

for (
  const command of [
    ...COMMANDS.slice(0, 4),
    "config import",
    "simulate nest",
    "verify",
  ]
) {
  Deno.test(`${command} --help explains the command's own flags`, () =>
    inTempFolder(async (cwd) => {
      const { code, stdout } = await runCli([...command.split(" "), "--help"], { cwd });
      assert.equal(code, 0);
      assert.ok(stdout.includes(`Usage: camsink ${command}`), stdout);
      assert.ok(stdout.includes("--log-level"), stdout);
    }));
}

Deno.test("--version tells the version of deno.json", () =>
  inTempFolder(async (cwd) => {
    const { code, stdout } = await runCli(["--version"], { cwd });
    assert.equal(code, 0);
    assert.ok(stdout.startsWith(`camsink ${project.version}`), stdout);
    assert.ok(stdout.includes(`Deno ${Deno.version.deno}`), stdout);
  }));

/** Each mistake with what must be said about it; all end with exit code 2 and an empty stdout. */
const MISTAKES: readonly (readonly [line: string, said: RegExp])[] = [
  ["captrue", /unknown command or argument "captrue"; did you mean "capture"\?/],
  ["config shcema", /unknown command or argument "shcema"; did you mean "schema"\?/],
  ["capture --confg x", /unknown flag "--confg"; did you mean "--config"\?/],
  ["capture --for soon", /--for.*expected a duration such as 20s.*soon/],
  ["capture --for 0s", /expected a duration/],
  ["capture --log-level loud", /--log-level.*loud/],
  ["check extra", /extra/],
  ["config", /after "config" comes one of .*validate/],
  ["simulate", /after "simulate" comes one of .*nest.*camera/],
  ["config import", /KIND/],
  ["config import motion x.conf", /foggycam.*motion|motion.*foggycam/],
  ["simulate nest --cameras 0", /--cameras/],
  ["simulate nest --port 99999", /--port/],
  ["init --source webcam", /--source/],
  ["init --fps 100", /between 0\.01 and 30/],
  ["completions tcsh", /tcsh/],
];

for (const [line, said] of MISTAKES) {
  Deno.test(`"camsink ${line}" is a usage error that says what is wrong`, () =>
    inTempFolder(async (cwd) => {
      const { code, stdout, stderr } = await runCli(line.split(" "), { cwd });
      assert.equal(code, 2, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, /^camsink: /);
      assert.match(stderr.split("\n")[0] ?? "", said);
      assert.ok(!stderr.includes("\x1b"), "no colours without a terminal");
    }));
}

Deno.test("colours are forced by FORCE_COLOR and taken away by --no-color and NO_COLOR", () =>
  inTempFolder(async (cwd) => {
    const escape = "\x1b[";
    const forced = { FORCE_COLOR: "1" };
    assert.ok((await runCli(["nope"], { cwd, env: forced })).stderr.includes(escape));
    assert.ok((await runCli(["--help"], { cwd, env: forced })).stdout.includes(escape));
    const plain = [
      await runCli(["nope", "--no-color"], { cwd, env: forced }),
      await runCli(["nope"], { cwd, env: { ...forced, NO_COLOR: "1" } }),
      await runCli(["--help"], { cwd, env: { ...forced, NO_COLOR: "1" } }),
    ];
    for (const { stdout, stderr } of plain) assert.ok(!`${stdout}${stderr}`.includes(escape));
  }));

const FAULTY = `{
  "cameras": { "yard": { "type": "snapshot", "url": "http://cam.local/x.jpg", "fsp": 5 } },
  "sinks": { "local": { "type": "local-foldr", "path": 5 } }
}`;

for (const command of ["capture", "check", "cameras", "config validate"]) {
  Deno.test(`${command} with a faulty configuration names every fault and exits 78`, () =>
    inTempFolder(async (cwd) => {
      await Deno.writeTextFile(`${cwd}/camsink.jsonc`, FAULTY);
      const { code, stdout, stderr } = await runCli(command.split(" "), { cwd });
      assert.equal(code, 78, stderr);
      const said = stdout + stderr;
      assert.match(said, /cameras\.yard: unknown key "fsp".*did you mean "fps"|fsp.*fps/);
      assert.match(said, /sinks\.local.*local-foldr.*local-folder/);
      assert.doesNotMatch(said, /at file:/, "no stack");
    }));
}

for (const command of ["check", "cameras", "config validate"]) {
  Deno.test(`${command} without a configuration says how to make one and exits 78`, () =>
    inTempFolder(async (cwd) => {
      const { code, stdout, stderr } = await runCli(command.split(" "), { cwd });
      assert.equal(code, 78);
      assert.match(stdout + stderr, /no camsink\.jsonc.*camsink init/);
    }));
}

Deno.test("a named configuration that is not there is an error, not the demo", () =>
  inTempFolder(async (cwd) => {
    const { code, stderr } = await runCli(["capture", "--config", "none.jsonc"], { cwd });
    assert.equal(code, 78);
    assert.match(stderr, /none\.jsonc/);
  }));

Deno.test("--debug shows where an error came from", () =>
  inTempFolder(async (cwd) => {
    const { stderr } = await runCli(["cameras", "--debug"], { cwd });
    assert.match(stderr, /at .*rooms\.ts/);
  }));

Deno.test("config validate --json lists the faults as data", () =>
  inTempFolder(async (cwd) => {
    await Deno.writeTextFile(`${cwd}/camsink.jsonc`, FAULTY);
    const { code, stdout } = await runCli(["config", "validate", "--json"], { cwd });
    assert.equal(code, 78);
    const { ok, problems } = JSON.parse(stdout);
    assert.equal(ok, false);
    assert.ok(problems.length >= 2);
    assert.ok(problems.every((problem: { line: number }) => problem.line >= 2));
  }));

Deno.test("config schema prints a JSON Schema that names every section", () =>
  inTempFolder(async (cwd) => {
    const { code, stdout } = await runCli(["config", "schema"], { cwd });
    assert.equal(code, 0);
    const { properties } = JSON.parse(stdout);
    for (const key of ["accounts", "cameras", "clip", "encoder", "spool", "sinks"]) {
      assert.ok(key in properties, key);
    }
  }));
