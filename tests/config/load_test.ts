/**
 * Where the configuration is found, what is made of it, and what is said about its secrets.
 *
 * @module
 */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError, findConfig, loadConfig, parseConfig } from "../../core/config/load.ts";
import { EXAMPLE } from "../../core/config/reference.ts";
import { revealedSecrets } from "../../core/config/values.ts";
import { tables } from "./tables.ts";

/** A folder of its own with these files; gone afterwards. */
async function withFiles(
  files: Readonly<Record<string, string>>,
  use: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "camsink-config-"));
  try {
    for (const [name, text] of Object.entries(files)) {
      const path = join(folder, name);
      await mkdir(join(path, ".."), { recursive: true });
      await writeFile(path, text, { mode: 0o600 });
    }
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** An environment with these variables and no others. */
const envOf = (variables: Readonly<Record<string, string>>) => (name: string) => variables[name];

const CAMERA = `{ "cameras": { "y": { "type": "snapshot", "url": "http://x/" } },
  "sinks": { "l": { "type": "local-folder", "path": "./clips" } } }`;
const withPassword = (password: string, more = "") =>
  `{
  "cameras": { "y": { "type": "snapshot", "url": "http://x/", "password": "${password}"${more} } },
  "sinks": { "l": { "type": "local-folder", "path": "./clips" } } }`;

async function messageOf(work: Promise<unknown>): Promise<string> {
  let message = "";
  await rejects(work, (error) => {
    ok(error instanceof ConfigError, String(error));
    message = error.message;
    return true;
  });
  return message;
}

Deno.test("the file named by --config comes first, then the variable's, the folder's, the user's", async () => {
  await withFiles({
    "cli.jsonc": "{}",
    "env.jsonc": "{}",
    "work/camsink.json": "{}",
    "work/camsink.jsonc": "{}",
    "xdg/camsink/camsink.jsonc": "{}",
    "home/.config/camsink/camsink.json": "{}",
  }, async (folder) => {
    const env = {
      CAMSINK_CONFIG: "../env.jsonc",
      XDG_CONFIG_HOME: join(folder, "xdg"),
      HOME: join(folder, "home"),
    };
    const { CAMSINK_CONFIG: _named, ...plain } = env;
    const { XDG_CONFIG_HOME: _xdg, ...home } = plain;
    const cwd = join(folder, "work");
    const found = async (variables: Record<string, string>, from = cwd, explicit?: string) =>
      (await findConfig({ cwd: from, env: envOf(variables), explicit }))?.slice(folder.length + 1);
    equal(await found(env, cwd, "../cli.jsonc"), "cli.jsonc");
    equal(await found(env), "env.jsonc");
    equal(await found(plain), "work/camsink.jsonc");
    await rm(join(cwd, "camsink.jsonc"));
    equal(await found(plain), "work/camsink.json");
    equal(await found(plain, folder), "xdg/camsink/camsink.jsonc");
    equal(await found(home, folder), "home/.config/camsink/camsink.json");
    equal(await found({}, folder), undefined);
  });
});

Deno.test("a named file that is not there is an error that says who named it", async () => {
  await withFiles({}, async (folder) => {
    const options = { cwd: folder, env: envOf({ CAMSINK_CONFIG: "away.json" }) };
    equal(
      await messageOf(findConfig(options)),
      `${folder}/away.json has a problem:\n  there is no such file, but $CAMSINK_CONFIG names it; ` +
        "make one with: camsink init",
    );
    ok(
      (await messageOf(findConfig({ ...options, explicit: "x.json" }))).includes("--config names"),
    );
  });
});

Deno.test("the example of the reference page loads, with every default in its place", async () => {
  const { config, warnings } = await parseConfig(EXAMPLE, {
    path: "/etc/camsink/camsink.jsonc",
    tables,
    isWindows: false,
    env: envOf({ NEST_TOKEN: "b.1", AZURE_SAS: "sig=1" }),
  });
  deepEqual(warnings, []);
  deepEqual(config.clip, { lengthMs: 60_000 });
  deepEqual(config.encoder, { use: "auto", quality: "standard" });
  deepEqual(config.spool, { path: "/etc/camsink/spool", whenFull: "stop" });
  deepEqual(Object.keys(config.sinks), ["azure", "local"]);
  equal(config.sinks.local?.enabled, true);
  deepEqual(config.sinks.local?.options, { path: "/etc/camsink/clips" });
  equal(config.accounts.home?.cameras, "all");
  const home = config.accounts.home?.options as { accessToken: { reference: string }; fps: number };
  equal(home.accessToken.reference, "env:NEST_TOKEN");
  equal(home.fps, 2);
  deepEqual(config.cameras.yard, {
    type: "snapshot",
    enabled: true,
    name: "yard",
    options: { url: "http://cam.local/snap.jpg", fps: 5, timeout: 10_000 },
  });
});

Deno.test("sizes and durations of the spool come out in bytes and milliseconds", async () => {
  const { config } = await parseConfig(
    `{ "cameras": { "y": { "type": "snapshot", "url": "http://x/", "name": "Yard" } },
       "spool": { "path": "~/s", "limit": "20GB", "keep": "7d", "reserve": "1GiB",
                  "whenFull": "drop-oldest" },
       "encoder": { "path": "bin/ffmpeg", "workers": 2, "quality": "high" } }`,
    { path: "/etc/camsink.jsonc", tables, env: envOf({ HOME: "/home/me" }) },
  );
  deepEqual(config.spool, {
    path: "/home/me/s",
    limitBytes: 20e9,
    keepMs: 604_800_000,
    reserveBytes: 2 ** 30,
    whenFull: "drop-oldest",
  });
  deepEqual(config.encoder, { use: "auto", quality: "high", path: "/etc/bin/ffmpeg", workers: 2 });
  equal(config.cameras.y?.name, "Yard");
});

Deno.test("a sink's pace comes out in bytes, and the alerts' addresses as secrets", async () => {
  const text = `{ "cameras": { "y": { "type": "snapshot", "url": "http://x/" } },
    "sinks": { "l": { "type": "local-folder", "path": "/c", "limit": { "perDay": "20GB" },
      "bandwidth": "2MB/s", "required": false, "concurrency": 2 } },
    "alerts": { "webhook": "https://hooks.example/T0/secret-path", "heartbeat": "env:BEAT" } }`;
  const { config, warnings } = await parseConfig(text, {
    path: "/x.jsonc",
    tables,
    env: envOf({ BEAT: "https://beat.example/1" }),
  });
  deepEqual(config.sinks.l, {
    type: "local-folder",
    enabled: true,
    required: false,
    perDayBytes: 20e9,
    bytesPerSecond: 2e6,
    concurrency: 2,
    options: { path: "/c" },
  });
  equal(await config.alerts.webhook?.reveal(), "https://hooks.example/T0/secret-path");
  equal(config.alerts.heartbeat?.reference, "env:BEAT");
  deepEqual(warnings, []);
});

Deno.test("an alert's address by reference must be there", async () => {
  const text = `{ "cameras": { "y": { "type": "snapshot", "url": "http://x/" } },
    "sinks": { "l": { "type": "local-folder", "path": "/c" } },
    "alerts": { "webhook": "env:HOOK" } }`;
  const said = await messageOf(parseConfig(text, { path: "/x.jsonc", tables, env: envOf({}) }));
  ok(said.includes("alerts.webhook: the environment variable HOOK is not set"), said);
});

Deno.test("comments, trailing commas and a byte order mark are fine", async () => {
  await parseConfig(
    `\uFEFF// mine\n{ "cameras": { /* one */ "y": { "type": "snapshot",
    "url": "http://x/", }, }, }`,
    { path: "/x.jsonc", tables, env: envOf({}) },
  );
});

Deno.test("a configuration without a sink works, with a warning", async () => {
  const { warnings } = await parseConfig(
    `{ "cameras": { "y": { "type": "snapshot", "url": "http://x/" } },
       "sinks": { "l": { "type": "local-folder", "enabled": false, "path": "x" } } }`,
    { path: "/x.jsonc", tables, env: envOf({}) },
  );
  deepEqual(warnings, ["sinks: none is switched on, so clips stay in the spool and go nowhere"]);
});

Deno.test("a literal secret works, with a warning that says how to move it and not what it is", async () => {
  await withFiles({ "camsink.jsonc": withPassword("hunter2-hunter2") }, async (folder) => {
    const path = join(folder, "camsink.jsonc");
    const load = () => loadConfig(path, { tables, env: envOf({}), isWindows: false });
    try {
      deepEqual((await load()).warnings, [
        "cameras.y.password: the secret stands in the file itself; put it into the environment " +
        'variable CAMSINK_Y_PASSWORD and write "env:CAMSINK_Y_PASSWORD", or into a file of its ' +
        'own (chmod 600) and write "file:PATH"',
      ]);
      ok(revealedSecrets.has("hunter2-hunter2"), "the log knows it from here on");
    } finally {
      revealedSecrets.delete("hunter2-hunter2");
    }
  });
});

Deno.test("a configuration that holds secrets and that others can read is refused, unless the user allows it", async () => {
  await withFiles({ "camsink.jsonc": withPassword("hunter2-hunter2") }, async (folder) => {
    const path = join(folder, "camsink.jsonc");
    const load = (more: Partial<Parameters<typeof loadConfig>[1]> = {}) =>
      loadConfig(path, { tables, env: envOf({}), isWindows: false, ...more });
    const open = `it holds secrets itself, and ${path} can be read by other users of this machine`;
    try {
      for (const mode of [0o644, 0o640, 0o604]) {
        await chmod(path, mode);
        equal(
          await messageOf(load()),
          `${path} has a problem:\n  ${open}; run: chmod 600 ${path} ` +
            "(or set CAMSINK_ALLOW_OPEN_SECRETS=1 to allow it)",
        );
      }
      const allowed = await load({ env: envOf({ CAMSINK_ALLOW_OPEN_SECRETS: "1" }) });
      equal(allowed.warnings.at(-1), open);
      equal((await load({ isWindows: true })).warnings.length, 1, "Windows has no such modes");
      equal(
        (await load({ env: envOf({ CREDENTIALS_DIRECTORY: folder }) })).warnings.length,
        1,
        "what systemd hands over is for the service alone",
      );
      await symlink("..2026_11_24", join(folder, "..data"));
      equal((await load()).warnings.length, 1, "a volume of Kubernetes is for the pod alone");
    } finally {
      revealedSecrets.delete("hunter2-hunter2");
    }
  });
});

Deno.test("the local emulator's connection string is no secret", async () => {
  const { warnings } = await parseConfig(withPassword("UseDevelopmentStorage=true"), {
    path: "/x.jsonc",
    tables,
    env: envOf({}),
  });
  deepEqual(warnings, []);
});

Deno.test("a file without secrets may be read by everybody", async () => {
  await withFiles({ "camsink.jsonc": CAMERA }, async (folder) => {
    await chmod(join(folder, "camsink.jsonc"), 0o644);
    const { warnings, path } = await loadConfig(join(folder, "camsink.jsonc"), {
      tables,
      env: envOf({}),
      isWindows: false,
    });
    deepEqual(warnings, []);
    equal(path, join(folder, "camsink.jsonc"));
  });
});

Deno.test("a secret's file stands relative to the configuration and is read when it is used", async () => {
  await withFiles({
    "camsink.jsonc": withPassword("file:secrets/cam"),
    "secrets/cam": "first-value\n",
  }, async (folder) => {
    const { config } = await loadConfig(join(folder, "camsink.jsonc"), { tables, env: envOf({}) });
    const options = config.cameras.y?.options as {
      password: { reference: string; reveal(): Promise<string> };
    };
    equal(options.password.reference, `file:${folder}/secrets/cam`);
    equal(await options.password.reveal(), "first-value");
    await writeFile(join(folder, "secrets/cam"), "second-value");
    equal(await options.password.reveal(), "second-value");
    for (const value of ["first-value", "second-value"]) ok(revealedSecrets.delete(value));
  });
});

Deno.test("a secret's file that others can read is refused, unless the user allows it", async () => {
  await withFiles({
    "camsink.jsonc": withPassword("file:cam.secret"),
    "cam.secret": "a-password",
  }, async (folder) => {
    const path = join(folder, "camsink.jsonc");
    const secret = join(folder, "cam.secret");
    for (const mode of [0o640, 0o604, 0o660]) {
      await chmod(secret, mode);
      equal(
        await messageOf(loadConfig(path, { tables, env: envOf({}), isWindows: false })),
        `${path} has a problem:\n  cameras.y.password: ${secret} can be read by other users of ` +
          `this machine; run: chmod 600 ${secret} (or set CAMSINK_ALLOW_OPEN_SECRETS=1 to allow ` +
          "it) (line 2)",
      );
    }
    const allowed = envOf({ CAMSINK_ALLOW_OPEN_SECRETS: "1" });
    deepEqual((await loadConfig(path, { tables, env: allowed, isWindows: false })).warnings, [
      `cameras.y.password: ${secret} can be read by other users of this machine`,
    ]);
    const managed = envOf({ CREDENTIALS_DIRECTORY: folder });
    deepEqual(
      (await loadConfig(path, { tables, env: managed, isWindows: false })).warnings,
      [],
      "systemd's own folder says nothing by its modes",
    );
  });
});

Deno.test("a secret that is not there is only a warning where the file alone is looked at", async () => {
  const { warnings } = await parseConfig(withPassword("env:NOT_SET"), {
    path: "/x.jsonc",
    tables,
    env: envOf({}),
    requireSecrets: false,
  });
  deepEqual(warnings, [
    "cameras.y.password: the environment variable NOT_SET is not set; expected it to hold the " +
    "secret",
  ]);
});

Deno.test("what is switched off needs no secret", async () => {
  await parseConfig(withPassword("env:NOT_SET", ', "enabled": false'), {
    path: "/x.jsonc",
    tables,
    env: envOf({}),
  });
});

Deno.test("a configuration that cannot be read says so", async () => {
  await withFiles({}, async (folder) => {
    const path = join(folder, "camsink.jsonc");
    equal(
      await messageOf(loadConfig(path, { tables })),
      `${path} has a problem:\n  there is no such file; make one with: camsink init`,
    );
    await mkdir(path);
    ok((await messageOf(loadConfig(path, { tables }))).includes("it cannot be read: EISDIR"));
  });
});

Deno.test("a sink's schema may come from any library that speaks Standard Schema", async () => {
  const foreign = {
    "~standard": {
      version: 1,
      vendor: "another",
      validate: (value: unknown) => {
        const { url } = value as { url?: unknown };
        return typeof url === "string"
          ? { value: { url: new URL(url).href } }
          : { issues: [{ message: "expected a URL", path: ["url"] }] };
      },
    },
  } as const;
  const withForeign = { ...tables, sinkTypes: { webdav: { config: foreign } } };
  const text = (url: string) =>
    `{ "cameras": { "y": { "type": "snapshot", "url": "http://x/" } },
       "sinks": { "w": { "type": "webdav", "url": ${url} } } }`;
  const options = { path: "/x.jsonc", tables: withForeign, env: envOf({}) };
  const { config } = await parseConfig(text('"http://dav"'), options);
  deepEqual(config.sinks.w, {
    type: "webdav",
    enabled: true,
    required: true,
    options: { url: "http://dav/" },
  });
  ok(
    (await messageOf(parseConfig(text("5"), options))).includes(
      "sinks.w.url: got 5, expected a URL",
    ),
  );
});
