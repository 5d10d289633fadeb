/**
 * Every way in which a configuration is known to be wrong, each with the exact words that the user
 * gets for it.
 *
 * @module
 */
import { deepEqual, ok, rejects } from "node:assert/strict";
import { ConfigError, parseConfig } from "../../core/config/load.ts";
import { EXAMPLE } from "../../core/config/reference.ts";
import { tables } from "./tables.ts";

interface Broken {
  readonly what: string;
  readonly text: string;
  readonly problems: readonly string[];
}

const BROKEN: readonly Broken[] = [
  {
    what: "an empty file",
    text: "",
    problems: [
      "camsink.jsonc is empty, expected an object: { … }; make one with: camsink init",
    ],
  },
  {
    what: "a list instead of an object",
    text: "[]",
    problems: [
      "got an empty list, expected an object: { … }",
    ],
  },
  {
    what: "a number instead of an object",
    text: "5",
    problems: [
      "got 5, expected an object: { … }",
    ],
  },
  {
    what: "a brace that is not closed",
    text: '{\n  "cameras": {\n',
    problems: [
      '3:1: expected "}"\n    \n    ^',
    ],
  },
  {
    what: "a comma that is missing",
    text: '{\n  "cameras": {}\n  "clip": {}\n}',
    problems: [
      '3:3: expected "," before this\n      "clip": {}\n      ^',
    ],
  },
  {
    what: "a key without quotes",
    text: "{ cameras: {} }",
    problems: [
      "1:3: a word that is not JSON: texts stand in double quotes\n    { cameras: {} }\n      ^",
    ],
  },
  {
    what: "single quotes",
    text: "{ 'cameras': {} }",
    problems: [
      "1:3: a word that is not JSON: texts stand in double quotes\n    { 'cameras': {} }\n      ^",
    ],
  },
  {
    what: "a comment that is not closed",
    text: "{} /* cameras",
    problems: [
      '1:4: a comment that is not closed: expected "*/"\n    {} /* cameras\n       ^',
    ],
  },
  {
    what: "a wrong escape",
    text: '{ "spool": { "path": "C:\\spool" } }',
    problems: [
      '1:22: a "\\" that JSON does not know: write "\\\\" for one\n    { "spool": { "path": "C:\\spool" } }\n                         ^',
    ],
  },
  {
    what: "something after the end",
    text: "{} {}",
    problems: [
      "1:4: expected the end of the file\n    {} {}\n       ^",
    ],
  },
  {
    what: "a secret's quote that is not closed",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "b.1234567 } } }',
    problems: [
      '1:55: a text that is not closed: expected "\n    { "accounts": { "h": { "type": "nest", "accessToken": …\n                                                          ^',
    ],
  },
  {
    what: "nothing to record",
    text: "{}",
    problems: [
      'nothing to record: expected at least one entry in "accounts" or "cameras"',
    ],
  },
  {
    what: "a section misspelt",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "sink": {} }',
    problems: [
      'sink: unknown key "sink"; did you mean "sinks"?',
    ],
  },
  {
    what: "a section that nobody knows",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "recording": {} }',
    problems: [
      'recording: unknown key "recording"; known here: accounts, cameras, clip, encoder, spool, sinks, alerts',
    ],
  },
  {
    what: "two unknown keys in one object",
    text:
      '{ "cameras": { "y": { "type": "snapshot", "url": "http://x/", "fsp": 5, "tmeout": "5s" } } }',
    problems: [
      'cameras.y.fsp: unknown key "fsp"; did you mean "fps"?',
      'cameras.y.tmeout: unknown key "tmeout"; did you mean "timeout"?',
    ],
  },
  {
    what: "an unknown key like no other",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "clip": { "minutes": 5 } }',
    problems: [
      'clip.minutes: unknown key "minutes"; known here: length',
    ],
  },
  {
    what: "a URL missing",
    text: '{ "cameras": { "y": { "type": "snapshot", "fps": 5 } } }',
    problems: [
      "cameras.y.url: missing, expected a URL that starts with http:// or https://",
    ],
  },
  {
    what: "a URL that is a number",
    text: '{ "cameras": { "y": { "type": "snapshot", "url": 5 } } }',
    problems: [
      "cameras.y.url: got 5, expected a URL that starts with http:// or https://",
    ],
  },
  {
    what: "a URL of another kind",
    text: '{ "cameras": { "y": { "type": "snapshot", "url": "ftp://x/" } } }',
    problems: [
      'cameras.y.url: got "ftp://x/", expected a URL that starts with http:// or https://',
    ],
  },
  {
    what: "a URL with credentials in it",
    text: '{ "cameras": { "y": { "type": "snapshot", "url": "http://bob:pa55word@x/" } } }',
    problems: [
      'cameras.y.url: got "http://***@x/": a URL must not hold credentials: give "username" and "password" beside it',
    ],
  },
  {
    what: "too many pictures a second",
    text: '{ "cameras": { "y": { "type": "snapshot", "url": "http://x/", "fps": 500 } } }',
    problems: [
      "cameras.y.fps: got 500, expected pictures a second, from 0.01 to 30",
    ],
  },
  {
    what: "a type misspelt",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "sinks": { "a": { "type": "local-foldr", "path": "x" } } }',
    problems: [
      'sinks.a.type: got "local-foldr", expected one of "azure-blob", "local-folder"; did you mean "local-folder"?',
    ],
  },
  {
    what: "a type that nobody knows",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "sinks": { "a": { "type": "s3" } } }',
    problems: [
      'sinks.a.type: got "s3", expected one of "azure-blob", "local-folder"; a plugin is added first: ' +
      "camsink plugin add PATH",
    ],
  },
  {
    what: "a type missing",
    text: '{ "cameras": { "y": { "url": "http://x/" } } }',
    problems: [
      'cameras.y.type: missing, expected "snapshot"',
    ],
  },
  {
    what: "a camera that is only a URL",
    text: '{ "cameras": { "y": "http://x/" } }',
    problems: [
      'cameras.y: got "http://x/", expected an object, such as { "type": "snapshot", … }',
    ],
  },
  {
    what: "a camera that is null",
    text: '{ "cameras": { "y": null } }',
    problems: [
      'cameras.y: got null, expected an object, such as { "type": "snapshot", … }',
    ],
  },
  {
    what: "cameras as a list",
    text: '{ "cameras": [] , "accounts": { "h": { "type": "nest", "accessToken": "env:T" } } }',
    problems: [
      "cameras: got an empty list, expected an object: { … }",
    ],
  },
  {
    what: "a password that is a number",
    text:
      '{ "cameras": { "front door": { "type": "snapshot", "url": "http://x/", "password": 12 } } }',
    problems: [
      'cameras["front door"].password: got "***", expected a secret by reference, such as "env:NAME" or "file:/path"',
    ],
  },
  {
    what: "no credentials",
    text: '{ "accounts": { "h": { "type": "nest", "width": 640 } } }',
    problems: [
      'accounts.h: give either "accessToken", or "issueToken" and "cookie"',
    ],
  },
  {
    what: "both kinds of credentials",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T", "cookie": "env:T" } } }',
    problems: [
      'accounts.h: give either "accessToken", or "issueToken" and "cookie"',
    ],
  },
  {
    what: "a secret's variable that is not set",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "env:NOPE" } } }',
    problems: [
      "accounts.h.accessToken: the environment variable NOPE is not set; expected it to hold the secret",
    ],
  },
  {
    what: "a secret's file that is not there",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "file:nope" } } }',
    problems: [
      "accounts.h.accessToken: cannot read /etc/camsink/nope: there is no such file; expected a file that holds the secret",
    ],
  },
  {
    what: "an empty secret",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "" } } }',
    problems: [
      'accounts.h.accessToken: got "", expected a secret by reference, such as "env:NAME" or "file:/path"',
    ],
  },
  {
    what: "a secret from a place that is not known",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "vault:x" } } }',
    problems: [
      'accounts.h.accessToken: got "***", expected "env:NAME", "file:PATH" or "keyvault:URL"; no other kind of secret reference is known',
    ],
  },
  {
    what: "a choice of cameras that is a text",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T", "cameras": "some" } } }',
    problems: [
      'accounts.h.cameras: got "some", expected "all" or a list',
    ],
  },
  {
    what: "a width that is a text",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T", "width": "wide" } } }',
    problems: [
      'accounts.h.width: got "wide", expected a number',
    ],
  },
  {
    what: "a width with a fraction",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T", "width": 640.5 } } }',
    problems: [
      "accounts.h.width: got 640.5, expected a whole number",
    ],
  },
  {
    what: "a width that is too small",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T", "width": 8 } } }',
    problems: [
      "accounts.h.width: got 8, expected at least 64",
    ],
  },
  {
    what: "a misspelt key two levels down",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T", "endpoints": { "hoem": "http://x" } } } }',
    problems: [
      'accounts.h.endpoints.hoem: unknown key "hoem"; did you mean "home"?',
    ],
  },
  {
    what: "a switch that is a text",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T", "enabled": "false" } } }',
    problems: [
      'accounts.h.enabled: got "false", expected true or false',
    ],
  },
  {
    what: "a duration that is a number",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "clip": { "length": 60 } }',
    problems: [
      'clip.length: got 60, expected a duration such as "60s", "5m" or "1h30m"',
    ],
  },
  {
    what: "a duration without a unit",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "clip": { "length": "60" } }',
    problems: [
      'clip.length: got "60", expected a duration such as "60s", "5m" or "1h30m"',
    ],
  },
  {
    what: "a duration that is too short",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "clip": { "length": "0s" } }',
    problems: [
      'clip.length: got "0s", expected a duration between 1s and 1d',
    ],
  },
  {
    what: "a section that is a text",
    text: '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "clip": "60s" }',
    problems: [
      'clip: got "60s", expected an object',
    ],
  },
  {
    what: "an encoder misspelt and no workers",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "encoder": { "use": "systm", "workers": 0 } }',
    problems: [
      'encoder.use: got "systm", expected "auto", "wasm" or "system"; did you mean "system"?',
      "encoder.workers: got 0, expected a whole number from 1 to 64",
    ],
  },
  {
    what: "a size, an age and a choice that are wrong",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "spool": { "limit": 20, "keep": "1 day", "whenFull": "drop" } }',
    problems: [
      'spool.limit: got 20, expected a size such as "500MB", "20GB" or "512MiB"',
      'spool.keep: got "1 day", expected a duration such as "60s", "5m" or "1h30m"',
      'spool.whenFull: got "drop", expected "stop" or "drop-oldest"',
    ],
  },
  {
    what: "a sink with one option missing and one wrong",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "env:T" } }, "sinks": { "azure": { "type": "azure-blob", "container": 5 } } }',
    problems: [
      "sinks.azure.account: missing, expected the name of the storage account",
      "sinks.azure.container: got 5, expected a container name or template",
    ],
  },
  {
    what: "a name given twice",
    text:
      '{\n"accounts": { "h": { "type": "nest", "accessToken": "env:T" } },\n"sinks": {\n"a": { "type": "local-folder", "path": "x" },\n"a": { "type": "local-folder", "path": "y" } } }',
    problems: [
      "sinks.a: this key stands here twice, first on line 4",
    ],
  },
  {
    what: "two cameras of one name",
    text:
      '{ "cameras": { "y": { "type": "snapshot", "url": "http://x/" }, "z": { "type": "snapshot", "url": "http://x/", "name": "Y" } } }',
    problems: [
      'cameras.z.name: got "Y", expected a name of its own, but "y" has it already',
    ],
  },
  {
    what: "a literal secret beside a misspelt one",
    text:
      '{ "accounts": { "h": { "type": "nest", "accessToken": "literal-secret-1", "accesToken": "literal-secret-2" } } }',
    problems: [
      'accounts.h.accesToken: unknown key "accesToken"; did you mean "accessToken"?',
    ],
  },
  {
    what: "a sink's pace and the alerts wrong",
    text:
      '{ "cameras": { "y": { "type": "snapshot", "url": "http://x/" } }, "sinks": { "l": { "type": "local-folder", "path": "x", "limit": { "perDay": "20" }, "bandwidth": "2MB", "required": "no", "concurrency": 0 } }, "alerts": { "webhook": "hooks.example/x" } }',
    problems: [
      'sinks.l.limit.perDay: got "20", expected a size such as "500MB", "20GB" or "512MiB"',
      'sinks.l.bandwidth: got "2MB", expected bytes per second, such as "500kB/s", or a list such as [{ "from": "08:00", "to": "22:00", "rate": "500kB/s" }]',
      'sinks.l.required: got "no", expected true or false',
      "sinks.l.concurrency: got 0, expected a whole number from 1 to 64",
      'alerts.webhook: got "hooks.example/x", expected a URL that starts with http:// or https://, or a reference to one such as "env:NAME"',
    ],
  },
  {
    what: "mistakes in four sections",
    text:
      '{ "cameras": { "y": { "type": "snapshot", "url": "x" } }, "clip": { "lenght": "60s" }, "encoder": { "quality": "best" }, "sinks": { "local": { "type": "local-folder", "path": "" } } }',
    problems: [
      'cameras.y.url: got "x", expected a URL that starts with http:// or https://',
      'clip.lenght: unknown key "lenght"; did you mean "length"?',
      'encoder.quality: got "best", expected "low", "standard" or "high"',
      'sinks.local.path: got "", expected the path of a file or folder',
    ],
  },
];

const options = {
  path: "/etc/camsink/camsink.jsonc",
  tables,
  isWindows: false,
  env: (name: string) => name === "T" ? "a-token" : undefined,
};

async function problemsIn(text: string): Promise<ConfigError> {
  let found: unknown;
  await rejects(parseConfig(text, options), (error) => {
    found = error;
    return true;
  });
  ok(found instanceof ConfigError, String(found));
  return found;
}

for (const { what, text, problems } of BROKEN) {
  Deno.test(`a configuration with ${what} is told in exactly these words`, async () => {
    const error = await problemsIn(text);
    deepEqual(error.problems.map((problem) => problem.text), problems);
    deepEqual(error.exitCode, 78);
    for (const secret of ["literal-secret", "pa55word", "b.1234567"]) {
      ok(!error.message.includes(secret), error.message);
    }
  });
}

Deno.test("problems come in the order of the file, each with its line", async () => {
  const error = await problemsIn(`{
  "clip": { "lenght": "60s" },
  "cameras": {
    "y": { "type": "snapshot", "url": "x" }
  },
  "encoder": { "use": "gpu" }
}`);
  deepEqual(
    error.message,
    `/etc/camsink/camsink.jsonc has 3 problems:
  clip.lenght: unknown key "lenght"; did you mean "length"? (line 2)
  cameras.y.url: got "x", expected a URL that starts with http:// or https:// (line 4)
  encoder.use: got "gpu", expected "auto", "wasm" or "system" (line 6)`,
  );
});

Deno.test("however a file is mangled, only a ConfigError comes out, and no secret with it", async () => {
  let state = 1;
  // A linear congruential generator: the same mistakes in every run.
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
  const secret = "s3cr3t-canary";
  const whole = EXAMPLE.replace('"env:NEST_TOKEN"', `"${secret}"`);
  const pieces = [
    ...'{}[]:,"\\/*#5',
    "null",
    "true",
    "-1e999",
    '"__proto__"',
    "\n",
    "\u0000",
    "😀",
  ];
  let broken = 0;
  for (let round = 0; round < 3000; round++) {
    let text = whole;
    for (let edits = 1 + random(4); edits > 0; edits--) {
      const at = random(text.length);
      const cut = random(3) === 0 ? random(40) : random(2);
      const piece = random(3) === 0 ? "" : pieces[random(pieces.length)] ?? "";
      text = text.slice(0, at) + piece + text.slice(at + cut);
    }
    try {
      await parseConfig(text, { ...options, env: () => "value" });
    } catch (error) {
      broken++;
      ok(error instanceof ConfigError, `${text}\n${error}`);
      ok(error.problems.length > 0);
      // A mangled file may hold only a part of it, or hold it under a key that nobody knows.
      if (text.includes(`"accessToken": "${secret}"`)) {
        ok(!error.message.includes(secret), `${text}\n${error.message}`);
      }
    }
  }
  ok(broken > 2000, `only ${broken} of 3000 were wrong`);
});
