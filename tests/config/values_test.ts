/**
 * Durations, sizes, secrets and addresses as people write them.
 *
 * @module
 */
import { equal, match, ok, rejects } from "node:assert/strict";
import * as v from "valibot";
import {
  duration,
  filePath,
  formatBytes,
  formatDuration,
  httpUrl,
  makeSecret,
  parseDurationMs,
  parseSizeBytes,
  revealedSecrets,
} from "../../core/config/values.ts";

Deno.test("durations are numbers with units, one after the other", () => {
  const cases: readonly (readonly [string, number | undefined])[] = [
    ["500ms", 500],
    ["60s", 60_000],
    ["1.5m", 90_000],
    ["2min", 120_000],
    ["1h30m", 5_400_000],
    ["7d", 604_800_000],
    ["60", undefined],
    ["", undefined],
    ["-5s", undefined],
    ["5 s", undefined],
    ["s", undefined],
    ["1e3s", undefined],
  ];
  for (const [text, ms] of cases) equal(parseDurationMs(text), ms, text);
});

Deno.test("a duration that is written out reads back the same", () => {
  for (const ms of [250, 1000, 59_000, 60_000, 90_000, 3_600_000, 5_400_000, 90_061_000]) {
    equal(parseDurationMs(formatDuration(ms)), ms, formatDuration(ms));
  }
});

Deno.test("a duration outside its limits is told with the limits", () => {
  const found = v.safeParse(duration({ minMs: 1000, maxMs: 60_000 }), "2m");
  equal(found.issues?.[0].message, "expected a duration between 1s and 1m");
  const open = v.safeParse(duration({ minMs: 1000 }), "10ms");
  equal(open.issues?.[0].message, "expected a duration of at least 1s");
});

Deno.test("sizes have decimal and binary units", () => {
  const cases: readonly (readonly [string, number | undefined])[] = [
    ["1B", 1],
    ["20GB", 20e9],
    ["1.5 kB", 1500],
    ["512MiB", 512 * 2 ** 20],
    ["1TiB", 2 ** 40],
    ["20", undefined],
    ["20gb", undefined],
    ["GB", undefined],
  ];
  for (const [text, bytes] of cases) equal(parseSizeBytes(text), bytes, text);
  equal(formatBytes(1_234_567), "1.2 MB");
  equal(formatBytes(999_999), "1.0 MB");
});

Deno.test("a secret that cannot be had says which and what to do, and never a value", async () => {
  await rejects(makeSecret("env:CAMSINK_TEST_NOT_SET").reveal(), {
    message: "the secret env:CAMSINK_TEST_NOT_SET is not set: set the environment variable " +
      "CAMSINK_TEST_NOT_SET",
  });
  await rejects(makeSecret("file:/no/such/file").reveal(), (error) => {
    ok(error instanceof Error);
    match(error.message, /^cannot read the secret file:\/no\/such\/file: /);
    return true;
  });
  equal(makeSecret("literal-value").reference, "literal");
});

Deno.test("a revealed secret is known to the log, but not one that is as short as a word", async () => {
  const before = new Set(revealedSecrets);
  await makeSecret("long-enough").reveal();
  await makeSecret("short").reveal();
  ok(revealedSecrets.delete("long-enough") || before.has("long-enough"));
  ok(!revealedSecrets.has("short"));
});

Deno.test("an address is http or https and holds no login", () => {
  for (
    const [text, good] of [
      ["http://cam.local/x", true],
      ["HTTPS://cam.local", true],
      ["ftp://x", false],
      ["cam.local", false],
      ["http://u:p@x", false],
      ["http://", false],
    ] as const
  ) equal(v.is(httpUrl(), text), good, text);
});

Deno.test("a path is any text but an empty one or one with a NUL", () => {
  ok(v.is(filePath(), "./clips"));
  ok(!v.is(filePath(), ""));
  ok(!v.is(filePath(), "a\0b"));
});
