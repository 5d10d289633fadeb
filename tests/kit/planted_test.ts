/**
 * The conformance kit against itself: a sink that does all right passes, and each planted defect is
 * found by the case that is there for it, with a message that says what is wrong.
 *
 * @module
 */
import assert from "node:assert/strict";
import { copyFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import {
  inProcess,
  isolated,
  KIT_CASES,
  type KitReport,
  runKit,
  type SinkTest,
  type SinkTestServer,
} from "../../kit/mod.ts";
import { memoryStoreTest } from "./memory_store.ts";
import { type Defect, plantedSink } from "./planted.ts";
import { inTempFolder } from "../support/run_cli.ts";
import { failures, PATIENT, testWithKit } from "./support.ts";

const PLANTED: readonly [defect: Defect, caseId: string, message: RegExp][] = [
  ["drops-the-last-block", "medium-clip", /holds \d+ bytes of a clip of 5242880, though put said/],
  ["does-not-wait-for-the-answer", "server-error", /put said "stored"; expected it to fail/],
  ["ignores-abort", "abort-middle", /put went on after the abort at 50 %/],
  ["hangs-on-silence", "abort-while-silent", /had not settled after 1 s/],
  ["tries-again", "no-retries", /sent PUT \/kit-yard\/.* 2 times to a server that answered 500/],
  ["leaks-the-secret", "secrets-nowhere", /the secret "token" was said after ".*Bearer/],
  ["leaks-the-server's-answer", "secrets-nowhere", /the secret "token" was said after ".*refused/],
  ["stores-twice", "same-clip-twice", /the second put of the same 0 bytes said "stored"/],
  ["overwrites", "conflict", /put said "stored"; expected it to fail with the kind "conflict"/],
  ["remembers-in-memory", "crash-before-receipt", /put was refused: .*412/],
  ["500-is-permanent", "server-error", /the kind "permanent" .*; expected the kind "retry"/],
  ["401-is-retry", "wrong-credential", /the kind "retry" .*; expected the kind "auth"/],
  ["unknown-host-is-permanent", "dns-failure", /"permanent" .*; expected the kind "retry"/],
  [
    "swallows-retry-after",
    "retry-after",
    /asked to wait 7 s, and the error has retryAfterMs undef/,
  ],
  ["collects-the-clip", "bounded-memory", /MiB of the clip had been read while the server had/],
  ["does-not-hash", "spoilt-clip", /put said "stored"; expected it to fail with the kind "perman/],
  ["tells-no-progress", "progress", /progress ended at nothing; expected 9437184/],
  [
    "does-not-encode-keys",
    "odd-keys",
    /(the store holds|objects are in|nothing is in|put said|refused)/,
  ],
  ["camera-in-a-header", "odd-cameras", /the clip of a camera called "Tür ☃ 100 %" was refused/],
  ["mixes-puts", "parallel", /puts at once have mixed their bytes/],
  ["check-writes", "check-leaves-no-trace", /check left 1 object in the store/],
  ["check-tests-nothing", "wrong-credential", /check found nothing wrong with a credential/],
  ["stat-lies", "stat-and-remove", /stat says 5001 bytes of a clip of 5000/],
  ["stat-hides-trouble", "stat-trouble", /stat gave undefined for an answer 500/],
  ["remove-does-nothing", "stat-and-remove", /stat still finds the clip after remove/],
  [
    "close-never-ends",
    "close-in-flight",
    /close, called while a put was under way, had not settled/,
  ],
  [
    "undeclared-host",
    "declared-hosts",
    /tried to reach 127\.0\.0\.1:4321, which net\(\) does not name/,
  ],
  ["follows-redirects", "redirect-elsewhere", /a redirect \(302\) to a host .* was followed/],
  ["keeps-the-first-secret", "secret-rotation", /put still fails after the secret was put right/],
  ["takes-any-option", "config-errors", /the unknown option "camsink-kit-typo" was taken/],
  ["token-in-the-url", "plain-url", /the URL in put's result has a query/],
  ["leaves-a-half", "lost-answer", /[23] objects are in the store .*; expected exactly one/],
];

/** These have to be waited for; a sink that does answer may take its time. */
const HANGING: readonly Defect[] = ["hangs-on-silence", "close-never-ends"];
const soonMsOf = (defect: Defect) => HANGING.includes(defect) ? 1000 : PATIENT.soonMs;

testWithKit("a sink that does all right", {
  host: inProcess(plantedSink()),
  test: memoryStoreTest,
});

for (const [defect, caseId, message] of PLANTED) {
  Deno.test(`the kit finds a sink that ${defect}: ${caseId}`, async () => {
    const { cases, ok } = await runKit({
      host: inProcess(plantedSink(defect)),
      test: memoryStoreTest,
      soonMs: soonMsOf(defect),
      only: [...new Set([caseId, defect === "undeclared-host" ? "one-byte" : caseId])],
    });
    assert.equal(ok, false, "nothing was found");
    const found = cases.find(({ id }) => id === caseId);
    assert.equal(found?.outcome, "failed");
    assert.match(found.detail ?? "", message);
    assert.ok(found.why && found.fix);
  });
}

/** The store, with a test that says something else of it. */
const memoryStore = (change: Partial<SinkTestServer>): SinkTest => ({
  start: async (context) => ({ ...await memoryStoreTest.start(context), ...change }),
});

/** A store whose sink is told by its options what to do wrong. */
const withDefect = (defect: Defect): SinkTest => ({
  start: async (context) => {
    const server = await memoryStoreTest.start(context);
    return { ...server, config: (url) => ({ ...server.config(url), defect }) };
  },
});

Deno.test("the kit finds every one of them in a process of its own, too", (t) =>
  inTempFolder(async (folder) => {
    const planted = fileURLToPath(new URL("planted.ts", import.meta.url));
    await copyFile(planted, `${folder}/planted.ts`);
    const plugin = async (name: string, defect?: Defect) => {
      await writeFile(
        `${folder}/${name}.ts`,
        `import { plantedSink } from "./planted.ts";\n` +
          `export default plantedSink(${defect === undefined ? "" : JSON.stringify(defect)});\n`,
      );
      return await isolated(`./${name}.ts`, { folder, limits: PATIENT.limits });
    };
    await using host = await plugin("all");
    await using careless = await plugin("careless", "takes-any-option");
    // The large clip's way is the same as that of the others, and of the shipped plugins'.
    const only = KIT_CASES.map(({ id }) => id).filter((id) => id !== "large-clip");
    const good = await runKit({ host, test: memoryStoreTest, only, soonMs: PATIENT.soonMs });
    assert.deepEqual(failures(good), []);
    const reports = new Map<Defect, KitReport>();
    const left = [...PLANTED];
    const work = async () => {
      for (let one = left.shift(); one !== undefined; one = left.shift()) {
        const [defect, caseId] = one;
        reports.set(
          defect,
          await runKit({
            host: defect === "takes-any-option" ? careless : host,
            test: withDefect(defect),
            soonMs: soonMsOf(defect),
            only: defect === "undeclared-host" ? ["one-byte", caseId] : [caseId],
          }),
        );
      }
    };
    await Promise.all([work(), work(), work()]);
    for (const [defect, caseId, message] of PLANTED) {
      await t.step(`${defect}: ${caseId}`, () => {
        const found = reports.get(defect)?.cases.find(({ id }) => id === caseId);
        assert.equal(found?.outcome, "failed", "nothing was found");
        assert.match(found?.detail ?? "", message);
      });
    }
  }));

Deno.test("every case has an id of its own, and says why and how to mend it", () => {
  assert.equal(new Set(KIT_CASES.map(({ id }) => id)).size, KIT_CASES.length);
  assert.ok(KIT_CASES.length >= 24);
  for (const { id, why, fix } of KIT_CASES) assert.ok(why.length > 40 && fix.length > 20, id);
});

for (
  const [ability, caseId, message] of [
    ["canBeAsked", "put-again", /the sink has stat: this test need not say canBeAsked: false/],
    ["takesEmpty", "empty-refused", /put said "stored"; expected it to fail with .*"permanent"/],
    ["hasChecksums", "no-checksums", /noticed: this test need not say hasChecksums: false/],
  ] as const
) {
  Deno.test(`the kit finds a test that says ${ability}: false of a store that is able to`, async () => {
    const { cases } = await runKit({
      host: inProcess(plantedSink()),
      test: memoryStore({ store: { [ability]: false } }),
      soonMs: PATIENT.soonMs,
      only: [caseId],
    });
    assert.equal(cases[0]?.outcome, "failed");
    assert.match(cases[0]?.detail ?? "", message);
  });
}

for (
  const [defect, caseId, message] of [
    [
      "remembers-in-memory",
      "put-again",
      /put said "already-there" of a store that cannot be asked/,
    ],
    [
      "does-not-hash",
      "no-checksums",
      /http:\/\/clips\.example\.com(:\d+)?\/ was taken; expected it to be/,
    ],
  ] as const
) {
  Deno.test(`the kit finds a sink that ${defect}, of a store that is able to do less: ${caseId}`, async () => {
    const sink = plantedSink(defect);
    const host = inProcess({
      ...sink,
      open: async (context: Parameters<typeof sink.open>[0]) => ({
        ...await sink.open(context),
        stat: undefined,
      }),
    });
    const { cases } = await runKit({
      host,
      test: memoryStore({ store: { canBeAsked: false, hasChecksums: false } }),
      soonMs: PATIENT.soonMs,
      only: [caseId],
    });
    assert.equal(cases[0]?.outcome, "failed");
    assert.match(cases[0]?.detail ?? "", message);
  });
}
