/**
 * The import of foggycam's `config.json`: what comes out passes our own schema, says what changed
 * its meaning, and holds no secret of the old file.
 *
 * @module
 */
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { importFoggycam } from "../../core/config/foggycam_import.ts";
import { type Config, parseConfig } from "../../core/config/load.ts";
import { configTables } from "../../commands/rooms.ts";

/** As foggycam 1.0's own sample, filled in. */
const OLD = {
  username: "someone@example.com",
  password: "canary-password",
  path: "/srv/cams",
  frame_rate: 12,
  width: 1920,
  threshold: 200,
  clear_images: true,
  produce_video: true,
  upload_to_azure: true,
  az_account_name: "mystorage",
  az_sas_token: "?sv=2017-04-17&se=2018-12-31T00:00:00Z&sig=canary-signature%3D",
};

const SECRETS = { NEST_TOKEN: "t", AZURE_SAS: "s", NEST_ISSUE_TOKEN: "i", NEST_COOKIE: "c" };

/** The imported configuration as our own schema, with the real types, understands it. */
async function imported(old: unknown): Promise<{ config: Config; notes: string; text: string }> {
  const { config: text, notes } = importFoggycam(old);
  const variables: Readonly<Record<string, string>> = SECRETS;
  const { config, warnings } = await parseConfig(text, {
    path: "/home/me/camsink.jsonc",
    tables: configTables,
    env: (name) => variables[name],
  });
  deepEqual(warnings, []);
  return { config, notes: notes.join("\n"), text };
}

interface Options {
  readonly width: number;
  readonly fps: number;
  readonly accessToken?: { readonly reference: string };
  readonly cookie?: { readonly reference: string };
}

Deno.test("every key of foggycam 1.x has its place in a configuration that our schema takes", async () => {
  const { config, notes } = await imported(OLD);
  const { type, cameras, options } = config.accounts.home ?? {};
  const nest = options as Options;
  deepEqual([type, cameras, nest.width, nest.fps], ["nest", "all", 1920, 2]);
  equal(nest.accessToken?.reference, "env:NEST_TOKEN");
  deepEqual(config.clip, { lengthMs: 15_000 });
  equal((config.sinks.local?.options as { path: string }).path, "/srv/cams");
  equal(config.sinks.azure?.enabled, true);
  const azure = config.sinks.azure?.options as { account: string; container: string };
  deepEqual([azure.account, azure.container], ["mystorage", "foggycam"]);
  match(notes, /password login is dead/);
  match(notes, /home\.nest\.com\/session/);
  match(notes, /Firefox or in a private window of Safari/);
  match(notes, /threshold 200 and frame_rate 12: .* played for 17 s .* set to 15 s/);
  match(notes, /The old one ends on 2018-12-31/);
});

Deno.test("no secret of the old file is in the new one or in the notes", async () => {
  const { notes, text } = await imported({ ...OLD, issue_token: "canary-issue", cookie: "canary" });
  ok(!/canary|someone@|sig=/.test(text + notes), text + notes);
});

Deno.test("an empty file gives foggycam's own values", async () => {
  const { config, text } = await imported({});
  deepEqual(config.clip, { lengthMs: 15_000 });
  deepEqual(Object.keys(config.sinks), ["local"]);
  equal((config.accounts.home?.options as Options).width, 1280);
  equal((config.sinks.local?.options as { path: string }).path, "/home/me/clips");
  match(text, /\/\/ "azure": \{/);
});

Deno.test('the text "false" is false', async () => {
  const { config, notes } = await imported({
    ...OLD,
    upload_to_azure: "false",
    produce_video: "False",
    clear_images: "0",
  });
  equal(config.sinks.azure?.enabled, false);
  match(notes, /upload_to_azure: the text "false" is taken for false/);
  match(notes, /produce_video was false: Camsink always makes video/);
  ok(!notes.includes("clear_images was false"), "without video there was nothing to clear");
  match((await imported({ ...OLD, clear_images: "no" })).notes, /clear_images was false/);
});

Deno.test("upload_to_azure decides whether the Azure sink is on", async () => {
  for (const [value, enabled] of [[true, true], [false, false], ["true", true], [0, false]]) {
    const { config } = await imported({ ...OLD, upload_to_azure: value });
    equal(config.sinks.azure?.enabled, enabled, String(value));
  }
});

Deno.test("numbers may be texts, and numbers that make no sense are told and replaced", async () => {
  const { config, notes } = await imported({
    ...OLD,
    width: "640",
    frame_rate: "fast",
    threshold: -5,
  });
  equal((config.accounts.home?.options as Options).width, 640);
  match(notes, /frame_rate: expected a number from 0\.1 to 1000; 12 is taken instead/);
  match(notes, /threshold: expected a number from 1 to 1000000; 200 is taken instead/);
});

Deno.test("the clip length is near to threshold by frame_rate and divides the hour", async () => {
  for (
    const [threshold, frame_rate, seconds] of [
      [200, 12, 15],
      [200, 24, 8.33],
      [50, 24, 2],
      [1000, 10, 100],
      [100_000, 10, 10_000],
      [720, 12, 60],
    ] as const
  ) {
    const { config } = await imported({ ...OLD, threshold, frame_rate });
    const { lengthMs } = config.clip;
    equal(3_600_000 % lengthMs, 0);
    const ratio = lengthMs / 1000 / seconds;
    ok(
      ratio > 0.7 && ratio < 1.45 || lengthMs === 5000 || lengthMs === 3_600_000,
      `${threshold} ${frame_rate} ${lengthMs}`,
    );
  }
});

Deno.test("an account name given as an address is understood, and one that is none is left out", async () => {
  const { config } = await imported({
    ...OLD,
    az_account_name: "https://MyStorage.blob.core.windows.net/",
  });
  equal((config.sinks.azure?.options as { account: string }).account, "mystorage");
  const wrong = await imported({ ...OLD, az_account_name: "my storage!" });
  equal(wrong.config.sinks.azure, undefined);
  match(wrong.notes, /az_account_name: expected the name of a storage account/);
  const missing = await imported({ ...OLD, az_account_name: "", az_sas_token: null });
  match(missing.notes, /upload_to_azure was true but az_account_name is missing/);
  match(missing.notes, /az_sas_token is missing/);
});

Deno.test("unknown keys are named without their values", async () => {
  const { notes } = await imported({ ...OLD, retention: "canary-value" });
  match(notes, /Keys that foggycam did not have were left out: "retention"/);
  ok(!notes.includes("canary-value"));
});

Deno.test("the C# version's file becomes a Google account", async () => {
  const { config, notes } = await imported({
    ffmpeg_path: "/usr/bin/ffmpeg",
    issue_token: "https://accounts.google.com/o/oauth2/iframerpc?x=1",
    cookie: "SIDCC=1",
    api_key: "k",
    user_agent: "u",
    nest_api_hostname: "https://home.nest.com",
    camera_api_hostname: "https://webapi.camera.home.nest.com",
    camera_auth_cookie: "website_ft",
  });
  equal((config.accounts.home?.options as Options).cookie?.reference, "env:NEST_COOKIE");
  equal(config.encoder.path, "/usr/bin/ffmpeg");
  match(notes, /issue_token and cookie: they were not copied/);
  match(notes, /api_key: not needed any more/);
});

Deno.test("a path with quotes and backslashes stays what it is", async () => {
  const path = String.raw`/srv/"my" \cams // x`;
  const { config } = await imported({ ...OLD, path });
  equal((config.sinks.local?.options as { path: string }).path, path);
});

Deno.test("what is no object is refused without showing it", () => {
  for (const [value, got] of [["x", "a string"], [null, "null"], [[], "a list"], [5, "a number"]]) {
    throws(() => importFoggycam(value), new RegExp(`no foggycam configuration: .* got ${got}`));
  }
});
