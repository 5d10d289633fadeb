/**
 * Small tables of account, camera and sink types for the tests of the configuration: made like the
 * real ones, but standing still while those grow.
 *
 * @module
 */
import * as v from "valibot";
import type { ConfigTables } from "../../core/config/schema.ts";
import { duration, filePath, httpUrl, secret, size } from "../../core/config/values.ts";

const fps = v.pipe(
  v.optional(
    v.pipe(
      v.number("expected pictures a second, from 0.01 to 30"),
      v.minValue(0.01, "expected pictures a second, from 0.01 to 30"),
      v.maxValue(30, "expected pictures a second, from 0.01 to 30"),
    ),
    1,
  ),
  v.description("Pictures a second."),
);

const nest = v.pipe(
  v.strictObject({
    accessToken: v.optional(v.pipe(secret(), v.description("The token of a Nest account."))),
    issueToken: v.optional(secret()),
    cookie: v.optional(secret()),
    cameras: v.optional(v.union([v.literal("all"), v.array(v.string())]), "all"),
    width: v.optional(v.pipe(v.number(), v.integer(), v.minValue(64), v.maxValue(4096)), 1280),
    fps,
    ca: v.optional(filePath()),
    endpoints: v.optional(v.strictObject({ home: v.optional(httpUrl()) }), {}),
  }),
  v.check(
    ({ accessToken, issueToken, cookie }) =>
      (accessToken === undefined) !== (issueToken === undefined && cookie === undefined),
    'give either "accessToken", or "issueToken" and "cookie"',
  ),
  v.description("A Nest web account."),
);

const snapshot = v.strictObject({
  url: v.pipe(httpUrl(), v.description("Where the picture is.")),
  fps,
  username: v.optional(v.string()),
  password: v.optional(secret()),
  timeout: v.optional(duration({ minMs: 100, maxMs: 60_000 }), "10s"),
});

const azureBlob = v.strictObject({
  account: v.string("expected the name of the storage account"),
  sasToken: v.optional(secret()),
  container: v.optional(v.string("expected a container name or template"), "{camera}"),
  blockSize: v.optional(size()),
});

const localFolder = v.strictObject({ path: filePath() });

/** Tables that do not change. */
export const tables: ConfigTables = {
  accountTypes: { nest: { options: nest } },
  cameraTypes: { snapshot: { options: snapshot } },
  sinkTypes: { "azure-blob": { config: azureBlob }, "local-folder": { config: localFolder } },
};
