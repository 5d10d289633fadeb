/** The completion scripts, run by the shells that they are for. */
import assert from "node:assert/strict";
import { delimiter } from "node:path";
import { findProgram, needs } from "../support/programs.ts";
import { CLI_COMMAND, inTempFolder, runCli } from "../support/run_cli.ts";

for (const shell of ["bash", "zsh", "fish"]) {
  Deno.test(`completions ${shell} prints a script that names the program`, () =>
    inTempFolder(async (cwd) => {
      const { code, stdout } = await runCli(["completions", shell], { cwd });
      assert.equal(code, 0);
      assert.ok(stdout.includes("camsink"), stdout);
    }));

  const program = needs(shell);
  Deno.test({
    name: `${shell} itself finds no mistake in its completion script${program.reason}`,
    ignore: program.ignore,
    fn: () =>
      inTempFolder(async (cwd) => {
        const { stdout } = await runCli(["completions", shell], { cwd });
        await Deno.writeTextFile(`${cwd}/script`, stdout);
        const { success, stderr } = await new Deno.Command(findProgram(shell) ?? shell, {
          args: ["-n", `${cwd}/script`],
        }).output();
        assert.ok(success, new TextDecoder().decode(stderr));
      }),
  });
}

const bash = needs("bash");
Deno.test({
  name: `bash completes commands, flags and values${bash.reason}`,
  ignore: bash.ignore,
  fn: () =>
    inTempFolder(async (cwd) => {
      const { stdout } = await runCli(["completions", "bash"], { cwd });
      await Deno.writeTextFile(`${cwd}/script`, stdout);
      // What the installed program would be: the script calls `camsink` by its name.
      const words = [Deno.execPath(), ...CLI_COMMAND].map((word) => `'${word}'`).join(" ");
      await Deno.writeTextFile(`${cwd}/camsink`, `#!/bin/sh\nexec ${words} "$@"\n`, {
        mode: 0o755,
      });
      const complete = async (line: string) => {
        const typed = line.split(" ");
        const script = `source ./script
COMP_WORDS=(${typed.map((word) => `'${word}'`).join(" ")})
COMP_CWORD=${typed.length - 1}
COMP_LINE='${line}'
COMP_POINT=${line.length}
_camsink
printf '%s\\n' "\${COMPREPLY[@]}"`;
        const { stdout } = await new Deno.Command(findProgram("bash") ?? "bash", {
          args: ["--norc", "-c", script],
          cwd,
          env: { PATH: `${cwd}${delimiter}${Deno.env.get("PATH") ?? ""}` },
        }).output();
        return new TextDecoder().decode(stdout).split("\n").map((word) => word.trim());
      };
      assert.ok((await complete("camsink ca")).includes("capture"));
      assert.ok((await complete("camsink config ")).includes("validate"));
      assert.ok((await complete("camsink capture --f")).includes("--for"));
      assert.ok((await complete("camsink init --source n")).includes("nest"));
    }),
});
