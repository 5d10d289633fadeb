/**
 * Cases about the sink's options, its secrets, and what it says of the store.
 *
 * @module
 */
import { secretForms } from "../../core/redact.ts";
import { sinkErrorKind } from "../../core/types.ts";
import { brief } from "../bench.ts";
import { testClip } from "../clips.ts";
import { fail, type KitCase, needsHttp, needsSecrets, notApplicable } from "./case.ts";

/** The first of all. */
export const configCases: readonly KitCase[] = [
  {
    id: "config-errors",
    title: "a wrong option is refused, and the error names its path",
    why: "users mistype. An error without a place sends them searching, and an option that is " +
      "silently ignored is worse.",
    fix: "declare every option in the schema, as a strict object, so that unknown keys are refused",
    run: async (bench) => {
      const { host } = bench;
      const good = bench.config();
      const [problem] = await host.validate(good);
      if (problem !== undefined) {
        fail(
          `the test's own configuration is refused: ${problem.path.join(".")}: ${problem.message}`,
        );
      }
      for (const key of Object.keys(good)) {
        const issues = await host.validate({ ...good, [key]: { "camsink-kit": true } });
        if (issues.length === 0) {
          fail(`${key}: an object was taken for it; expected it to be refused`);
        }
        if (!issues.some(({ path }) => path[0] === key)) {
          fail(
            `${key}: refused, but the error's path is ` +
              `${JSON.stringify(issues.map(({ path }) => path.join(".")))}; expected it to begin ` +
              `with "${key}"`,
          );
        }
        if (issues.some(({ message }) => message === "")) fail(`${key}: refused without a message`);
      }
      if ((await host.validate({ ...good, "camsink-kit-typo": 1 })).length === 0) {
        fail('the unknown option "camsink-kit-typo" was taken; expected it to be refused');
      }
      if ((await host.validate("camsink-kit")).length === 0) {
        fail("a text in place of the options was taken; expected it to be refused");
      }
    },
  },
];

/** In the order in which they run. */
export const storeCases: readonly KitCase[] = [
  {
    id: "stat-and-remove",
    title: "stat and remove agree with put",
    why: "`camsink verify` compares spool and sinks by stat, and --repair believes it.",
    fix:
      "answer undefined only when the store says that nothing is there; let remove of nothing pass",
    run: async (bench) => {
      const { stat, remove } = await bench.sink();
      if (stat === undefined && remove === undefined) {
        notApplicable("this sink has neither stat nor remove");
      }
      const clip = testClip(5000, { seed: 2 });
      const before = await bench.names();
      if (stat !== undefined && await bench.stat(clip.key) !== undefined) {
        fail("stat finds something under a key that nothing was put under");
      }
      if (remove !== undefined) await bench.remove(clip.key);
      await bench.mustPut(clip);
      if (stat !== undefined) {
        const found = await bench.stat(clip.key);
        if (found === undefined) fail("stat finds nothing under the key that was just put");
        if (found.bytes !== clip.bytes) {
          fail(`stat says ${found.bytes} bytes of a clip of ${clip.bytes}`);
        }
        if (found.sha256 !== undefined && found.sha256 !== clip.sha256) {
          fail(`stat says SHA-256 ${found.sha256}; the clip's is ${clip.sha256}`);
        }
        if (found.md5 !== undefined && found.md5 !== clip.md5) {
          fail(`stat says MD5 ${found.md5}; the clip's is ${clip.md5}`);
        }
      }
      if (remove === undefined) return;
      await bench.remove(clip.key);
      if (stat !== undefined && await bench.stat(clip.key) !== undefined) {
        fail("stat still finds the clip after remove");
      }
      const left = await bench.added(before);
      if (left !== undefined && left.length > 0) {
        fail(`remove said that it was done, but ${left.length} object is still in the store`);
      }
      const { state } = await bench.mustPut(clip);
      if (state !== "stored") fail(`put after remove said "${state}"; expected "stored"`);
    },
  },
  {
    id: "stat-trouble",
    title: "stat does not take a server's trouble for an empty place",
    why: "`camsink verify` would take every clip for lost and send it all again.",
    fix: "answer undefined for 404 alone; throw for everything else",
    run: async (bench) => {
      needsHttp(bench);
      const { stat } = await bench.sink();
      if (stat === undefined) notApplicable("this sink has no stat");
      const clip = testClip(10);
      await bench.mustPut(clip);
      bench.fail({ kind: "answer", status: 500 });
      try {
        const found = await bench.stat(clip.key).catch(() => "threw");
        if (found !== "threw") {
          fail(`stat gave ${JSON.stringify(found)} for an answer 500; expected it to throw`);
        }
      } finally {
        bench.heal();
      }
    },
  },
  {
    id: "check-leaves-no-trace",
    title: "check changes nothing",
    why: "`camsink check` is run by people who want to know; what it leaves lies among the clips.",
    fix: "remove the test object again, also when something fails in between, or prove the right " +
      "without storing",
    run: async (bench) => {
      const { check } = await bench.sink();
      if (check === undefined) notApplicable("this sink has no check");
      for (let turn = 0; turn < 2; turn++) {
        const before = await bench.names();
        const { error } = await bench.check();
        if (error !== undefined) fail(`check failed though puts work: ${brief(error)}`);
        const left = await bench.added(before);
        if (left !== undefined && left.length > 0) {
          fail(`check left ${left.length} object in the store; expected none`);
        }
        const now = await bench.names();
        const gone = [...before?.keys() ?? []].filter((name) => now && !now.has(name));
        if (gone.length > 0) fail(`check removed ${gone.length} object from the store`);
      }
    },
  },
  {
    id: "wrong-credential",
    title: "a credential that is refused has the kind auth, in put and in check",
    why:
      "delivery parks the sink and asks the owner for a new credential. As retry it would knock " +
      "for ever, until the account is locked.",
    fix: 'throw new SinkError("auth", …) for 401 and 403, saying which option to look at',
    run: async (bench) => {
      needsSecrets(bench);
      await bench.setSecrets(bench.wrongSecrets());
      try {
        let sink;
        try {
          ({ sink } = await bench.wronglyOpened());
        } catch (error) {
          if (sinkErrorKind(error) === "auth") return;
          fail(
            `open failed with the kind "${sinkErrorKind(error)}" (${
              brief(error)
            }); expected "auth"`,
          );
        }
        await bench.mustFail(testClip(1000), "auth", { on: sink });
        if (sink.check === undefined) return;
        const { error } = await bench.check(sink);
        if (error === undefined) {
          fail("check found nothing wrong with a credential that is refused");
        }
        if (sinkErrorKind(error) !== "auth") {
          fail(
            `check failed with the kind "${sinkErrorKind(error)}" (${
              brief(error)
            }); expected "auth"`,
          );
        }
      } finally {
        await bench.setSecrets(bench.server.secrets ?? {});
      }
    },
  },
  {
    id: "secret-rotation",
    title: "a secret that is changed is taken up at the next put, without a restart",
    why: "tokens run out. Delivery notices that the file was changed and lets the sink go on.",
    fix: "call secret.reveal() in every put; keep a client only as long as the secret is the same",
    run: async (bench) => {
      needsSecrets(bench);
      await bench.setSecrets(bench.wrongSecrets());
      let opened;
      try {
        opened = await bench.wronglyOpened();
        const { result } = await bench.put(testClip(10), { on: opened.sink });
        if (result !== undefined) fail("a wrong credential was taken; this cannot be tried");
      } catch (error) {
        if (opened !== undefined || sinkErrorKind(error) !== "auth") throw error;
        bench.note("open itself refuses a wrong credential; delivery opens the sink again");
      } finally {
        await bench.setSecrets(bench.server.secrets ?? {});
      }
      opened ??= await bench.open();
      const { error } = await bench.put(testClip(20), { on: opened.sink, attempt: 2 });
      if (error !== undefined) {
        fail(`put still fails after the secret was put right: ${brief(error)}`);
      }
    },
  },
  {
    id: "plain-url",
    title: "the proof holds a URL without credentials",
    why: "the URL stands in the catalogue, in `camsink clips` and in logs.",
    fix: "leave the query and user:password@ out of the URL in put's result",
    run: async (bench) => {
      const { url } = await bench.mustPut(testClip(10));
      if (url === undefined) return bench.note("put gives no URL");
      if (!URL.canParse(url)) fail(`the URL ${brief(url)} is none`);
      const { search, username, password } = new URL(url);
      if (search !== "" || username !== "" || password !== "") {
        fail("the URL in put's result has a query or a user name in it; expected the bare place");
      }
    },
  },
];

/** The last of all: it looks back on what was said in the others. */
export const lastCases: readonly KitCase[] = [
  {
    id: "secrets-nowhere",
    title: "no secret is in any error, log line or result",
    why: "errors end up in logs, bug reports and on screens that others see.",
    fix: "keep requests with their headers, and URLs with tokens, out of messages and causes",
    run: async (bench) => {
      needsSecrets(bench);
      if (bench.http) {
        // A server that repeats what it was sent is where secrets come back from.
        const secrets = Object.values(bench.server.secrets ?? {}).join(" ");
        for (const status of [400, 403, 500]) {
          bench.fail({ kind: "answer", status, body: `refused: ${secrets}` });
          await bench.put(testClip(10));
          await bench.check();
          bench.heal();
        }
        bench.fail({ kind: "reset", afterBytes: 0 });
        await bench.put(testClip(10));
        bench.heal();
      }
      for (const [name, secret] of Object.entries(bench.server.secrets ?? {})) {
        for (
          const form of [...secretForms(secret), ...secretForms(bench.wrongSecrets()[name] ?? "")]
        ) {
          const said = bench.said.find((text) => text.includes(form));
          if (said === undefined) continue;
          const at = said.indexOf(form);
          const around = said.slice(Math.max(0, at - 60), at).replaceAll(/\s+/g, " ");
          fail(`the secret "${name}" was said after ${JSON.stringify(`…${around}`)}`);
        }
      }
    },
  },
];
