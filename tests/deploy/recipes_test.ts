/**
 * The recipes in `deploy/`: each is read by the tool that it is for, where this machine has it, and
 * every configuration in them is one that Camsink takes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { needs } from "../support/programs.ts";
import { ROOT } from "../support/release.ts";
import { inTempFolder, runCli } from "../support/run_cli.ts";
import { walkFiles } from "../support/walk_files.ts";
import { readBicep } from "./bicep.ts";

const DEPLOY = `${ROOT}deploy`;

async function run(program: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(program, { args }).output();
  const decoder = new TextDecoder();
  assert.equal(code, 0, decoder.decode(stdout) + decoder.decode(stderr));
  return decoder.decode(stdout) + decoder.decode(stderr);
}

for await (const path of walkFiles(DEPLOY)) {
  const name = path.slice(ROOT.length);
  if (name.endsWith(".jsonc")) {
    Deno.test(`${name} is a configuration without a fault, and holds no secret`, () =>
      inTempFolder(async (cwd) => {
        // The files that it names exist where it is used; the check is about the rest.
        const text = (await Deno.readTextFile(path)).replaceAll("/run/secrets", cwd)
          .replaceAll("VAULT", "example");
        for (const secret of ["nest_token", "azure_sas", "issue_token", "cookie"]) {
          await Deno.writeTextFile(`${cwd}/${secret}`, "sv=1&sig=x\n", { mode: 0o600 });
        }
        await Deno.writeTextFile(`${cwd}/camsink.jsonc`, text.replaceAll("STORAGE", "storage1"));
        const { code, stdout, stderr } = await runCli(["config", "validate"], { cwd });
        assert.equal(code, 0, stdout + stderr);
        assert.doesNotMatch(stdout + stderr, /warn/i);
      }));
  }
  if (name.endsWith(".sh")) {
    Deno.test(`${name} is a shell script without a slip`, () =>
      run("sh", "-n", path).then(() => {}));
  }
}

const shellcheck = needs("shellcheck");
Deno.test({
  name: `no script has what shellcheck warns of${shellcheck.reason}`,
  ignore: shellcheck.ignore,
  fn: async () => {
    const scripts = (await Array.fromAsync(walkFiles(DEPLOY))).filter((path) =>
      path.endsWith(".sh")
    );
    await run("shellcheck", "-s", "sh", "-S", "warning", ...scripts);
  },
});

const compose = needs("docker-compose");
Deno.test({
  name:
    `docker-compose understands the compose file, with and without the emulator${compose.reason}`,
  ignore: compose.ignore,
  fn: async () => {
    const file = `${DEPLOY}/compose/compose.yaml`;
    const plain = await run("docker-compose", "-f", file, "config");
    assert.match(plain, /read_only: true/);
    assert.doesNotMatch(plain, /^\s+ports:/m);
    await run("docker-compose", "-f", file, "--profile", "emulator", "config");
  },
});

const kubectl = needs("kubectl");
Deno.test({
  name: `kubectl renders the Kubernetes recipe, with its secrets as files${kubectl.reason}`,
  ignore: kubectl.ignore,
  fn: () =>
    inTempFolder(async (folder) => {
      for (const name of ["camsink.yaml", "kustomization.yaml", "camsink.jsonc"]) {
        await Deno.copyFile(`${DEPLOY}/kubernetes/${name}`, `${folder}/${name}`);
      }
      await Deno.mkdir(`${folder}/secrets`);
      await Deno.writeTextFile(`${folder}/secrets/nest_token`, "b.canary");
      await Deno.writeTextFile(`${folder}/secrets/azure_sas`, "sig=canary");
      const text = await run("kubectl", "kustomize", folder);
      assert.match(text, /kind: StatefulSet/);
      assert.match(text, /name: camsink-config-\w+/);
      assert.match(text, /secretName: camsink-secrets-\w+/);
      assert.match(text, /runAsNonRoot: true/);
      assert.doesNotMatch(text, /kind: Service\b|hostPort|canary/);
    }),
});

/** Kubernetes' own schemas, as a package; `.ci/run` fetches it. */
const SCHEMAS = ["npm:yaml@2.8.1", "npm:kubernetes-models@5.1.0"];
const alone = ["--no-lock", "--no-config", "--cached-only"];
const haveSchemas = (await new Deno.Command(Deno.execPath(), {
  args: [
    ...["run", "--quiet", ...alone, "--allow-read", "--allow-env"],
    `data:text/javascript,${SCHEMAS.map((name) => `import "${name}";`).join("")}`,
  ],
  stdout: "null",
  stderr: "null",
}).output()).success;

/** Says "apiVersion kind ok" or what is wrong, a line for each object on the standard input. */
const VALIDATE = `
const { parseAllDocuments } = await import("${SCHEMAS[0]}");
for (const document of parseAllDocuments(await new Response(Deno.stdin.readable).text())) {
  const object = document.toJS({ strict: true });
  const { [object.kind]: Model } = await import("${SCHEMAS[1]}/" + object.apiVersion);
  let said = "ok";
  try { new Model(object).validate(); } catch (error) { said = error.message; }
  console.log(object.apiVersion, object.kind, said);
}`;

async function validate(yaml: string): Promise<string[]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      ...alone,
      "--allow-read",
      "--allow-env",
      `data:text/javascript,${encodeURIComponent(VALIDATE)}`,
    ],
    ...{ stdin: "piped", stdout: "piped", stderr: "piped" },
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(yaml));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim().split("\n");
}

Deno.test({
  name: `Kubernetes' schemas take every object of the recipe, and find a slip in it${
    haveSchemas ? "" : " (skipped: the schemas are not in Deno's cache)"
  }`,
  ignore: !haveSchemas,
  fn: async () => {
    const yaml = await Deno.readTextFile(`${DEPLOY}/kubernetes/camsink.yaml`);
    assert.deepEqual(await validate(yaml), [
      "v1 Namespace ok",
      "v1 PersistentVolumeClaim ok",
      "apps/v1 StatefulSet ok",
      "networking.k8s.io/v1 NetworkPolicy ok",
    ]);
    const slip = yaml.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: yes please");
    assert.match((await validate(slip)).join("\n"), /StatefulSet .*readOnlyRootFilesystem/);
    // Nothing comes in, and nothing is mounted that is not there.
    assert.doesNotMatch(yaml, /kind: (Service|Ingress)$|containerPort|hostPort|hostNetwork/m);
    const mounted = [...yaml.matchAll(/\{ name: (\w+), mountPath:/g)].map(([, name]) => name);
    const volumes = [...(yaml.split("      volumes:")[1] ?? "").matchAll(/^ {8}- name: (\w+)$/gm)]
      .map(([, name]) => name);
    assert.deepEqual(mounted.sort(), volumes.sort());
  },
});

for (const name of ["main", "container_apps"]) {
  Deno.test(`azure/${name}.bicep is whole: brackets, texts, names and types; no port and no secret`, async () => {
    const text = await Deno.readTextFile(`${DEPLOY}/azure/${name}.bicep`);
    const { resources, params } = readBicep(text);
    assert.ok(params.includes("image"));
    const types = resources.map(({ type }) => type.replace("Microsoft.", ""));
    const expected = name === "main"
      ? [
        "Storage/storageAccounts/managementPolicies",
        "KeyVault/vaults",
        "ContainerInstance/containerGroups",
      ]
      : ["App/managedEnvironments", "App/containerApps"];
    for (const type of [...expected, "ManagedIdentity/userAssignedIdentities"]) {
      assert.ok(types.includes(type), `${type} is not among ${types.join(", ")}`);
    }
    assert.doesNotMatch(text, /ipAddress|ingress:|ports?:|listKeys|sharedAccessKey/);
    // Defects that the reading must see.
    for (
      const [from, to, finds] of [
        ["name: name", "name: nmae", /"nmae" is not declared/],
        [
          "param location string",
          "param name string = 'x'\nparam location string",
          /declared twice/,
        ],
        ["identity: {", "identity: ", /closes/],
        ["'UserAssigned'", "'UserAssigned", /text that is not closed/],
        ["@2023-01-31'", "'", /not how a resource is declared/],
      ] as const
    ) {
      assert.ok(text.includes(from), from);
      assert.throws(() => readBicep(text.replace(from, to)), finds);
    }
  });
}

const analyze = needs("systemd-analyze");
Deno.test({
  name: `systemd gives the unit an exposure of 3 or less${analyze.reason}`,
  ignore: analyze.ignore,
  fn: async () => {
    const said = await run(
      "systemd-analyze",
      ...["security", "--offline=true", "--no-pager", "--threshold=30"],
      `${DEPLOY}/systemd/camsink.service`,
    );
    assert.match(said, /Overall exposure level for camsink\.service: [0-2]\.\d/);
  },
});
