/**
 * The log: what its lines look like, and that no secret gets through it in any of forty forms. The
 * forms are made here by other means than `core/redact.ts` uses, so that a mistake there shows.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { revealedSecrets } from "../core/config/values.ts";
import { describeError, getLog, type LogOptions, redact, setUpLog } from "../core/log.ts";

const AT_MS = Date.UTC(2026, 7, 21, 14, 5, 0);

function logged(options: Partial<LogOptions>, use: () => void): string[] {
  const lines: string[] = [];
  setUpLog({
    format: "text",
    level: "debug",
    color: false,
    now: () => AT_MS,
    write: (line) => lines.push(line),
    ...options,
  });
  use();
  return lines;
}

/** mulberry32: the same numbers in every run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

Deno.test("a text line has time, level sign, name, message and properties", () => {
  const lines = logged({}, () => {
    getLog("sink", "azure").info("clip delivered", {
      sink: "azure",
      key: "yard/x.mp4",
      took: "1 s",
      url: undefined,
    });
    getLog("camera", "Front door").error("lost the camera", {
      error: new Error("no answer", { cause: new Error("connection refused") }),
    });
  });
  deepEqual(lines, [
    '2026-08-21T14:05:00.000Z   azure clip delivered (key=yard/x.mp4, took="1 s")',
    "2026-08-21T14:05:00.000Z ✗ Front door lost the camera: no answer: connection refused",
  ]);
});

Deno.test("an event says it all in its message; its properties are for programs", () => {
  const [line] = logged({}, () => {
    getLog("camera", "yard").info("clip finished: 5 pictures", {
      event: "clip-finished",
      frames: 5,
    });
  });
  deepEqual(line, "2026-08-21T14:05:00.000Z   yard clip finished: 5 pictures");
});

Deno.test("a JSON line is one object with the properties beside time, level, category and message", () => {
  const [line] = logged({ format: "json" }, () => {
    getLog("sink", "azure").warn("parked", {
      event: "parked",
      bytes: 5,
      nested: { at: new Date(AT_MS), data: new Uint8Array(3) },
      level: "odd",
    });
  });
  deepEqual(JSON.parse(line ?? ""), {
    time: "2026-08-21T14:05:00.000Z",
    level: "warn",
    category: "sink/azure",
    event: "parked",
    message: "parked",
    bytes: 5,
    nested: { at: "2026-08-21T14:05:00.000Z", data: "3 bytes" },
    level_: "odd",
  });
});

Deno.test("levels below the one asked for are not written", () => {
  const lines = logged({ level: "warn" }, () => {
    const log = getLog("x");
    log.debug("a");
    log.info("b");
    log.warn("c");
    log.error("d");
  });
  equal(lines.length, 2);
});

Deno.test("braces in a message are braces", () => {
  const [line] = logged({}, () => getLog("x").info('got {"error": {}} and {{x}}', { error: 1 }));
  match(line ?? "", /got \{"error": \{\}\} and \{\{x\}\}/);
});

Deno.test("a message cannot forge a second line or move the cursor", () => {
  for (const color of [false, true]) {
    const [line] = logged({ color }, () => {
      getLog("camera", "evil\n2026 name\r").info("a\nb\x1b[2Jc\u2028d", { p: "x\ny", "k\ney": 1 });
    });
    // deno-lint-ignore no-control-regex -- control characters are what is looked for
    const uncolored = (line ?? "").replace(/\x1b\[\d+m/g, "");
    // deno-lint-ignore no-control-regex -- control characters are what is looked for
    ok(!/[\x00-\x1f\u2028]/.test(uncolored), JSON.stringify(line));
  }
});

Deno.test("values that JSON cannot hold are written all the same", () => {
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  const [line] = logged({ format: "json" }, () =>
    getLog("x").info("odd", {
      circle,
      big: 5n,
      nan: NaN,
      call: () => 1,
      map: new Map([["a", 1]]),
      set: new Set([1]),
      symbol: Symbol("s"),
      bad: new Date(NaN),
    }));
  const value = JSON.parse(line ?? "");
  deepEqual([value.big, value.nan, value.map, value.set, value.bad], [
    "5",
    "NaN",
    { a: 1 },
    [1],
    "no date",
  ]);
});

Deno.test("an error is told with its causes, each once", () => {
  const inner = new Error("connection refused");
  equal(
    describeError(new Error("cannot log in: connection refused", { cause: inner })),
    "cannot log in: connection refused",
  );
  equal(describeError(new TypeError("a", { cause: "why" })), "a: why");
});

Deno.test("what stands where a secret stands is taken out, though nobody revealed it", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["https://a.blob/x?sv=2024&sig=abc%2Fd%3D&se=2026", "https://a.blob/x?sv=2024&sig=***&se=2026"],
    ["http://bob:pa55@cam.local/snap", "http://***@cam.local/snap"],
    ["Authorization: Bearer abc.def", "Authorization: ***"],
    ["AccountName=a;AccountKey=abc+/=;x", "AccountName=a;AccountKey=***;x"],
    ['{"access_token":"b.1"}', '{"access_token":"***"}'],
    ["Cookie: website_2=abc; x=y", "Cookie: ***"],
    ["token ya29.a0AfH6SMBxxxxxxxxxxxxxxxx used", "token *** used"],
    ["jwt eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0 end", "jwt *** end"],
  ];
  for (const [text, expected] of cases) equal(redact(text), expected);
});

Deno.test("ordinary messages stay as they are", () => {
  for (
    const text of [
      'accounts.home.cookie: missing, expected a secret by reference, such as "env:NAME"',
      "accounts.home.password: got 5, expected a secret",
      "basic authentication is refused",
      "kitchen/2026/08/21/20260821T140500Z.mp4",
      "tested author=Jane, author: x",
      "https://cam.local/snap.jpg?width=640&cachebuster=1",
    ]
  ) equal(redact(text), text);
});

/** Forty forms in which a secret may turn up in a message. */
const FORMS: Readonly<Record<string, (secret: string) => string>> = {
  raw: (s) => s,
  url: encodeURIComponent,
  "url, lower case": (s) => encodeURIComponent(s).replace(/%../g, (c) => c.toLowerCase()),
  "url as a whole": encodeURI,
  form: (s) => new URLSearchParams({ s }).toString().slice(2),
  "every byte percent": (s) => Buffer.from(s).toString("hex").replace(/../g, "%$&"),
  "every byte percent, upper case": (s) =>
    Buffer.from(s).toString("hex").toUpperCase().replace(/../g, "%$&"),
  "url twice": (s) => encodeURIComponent(encodeURIComponent(s)),
  base64: (s) => Buffer.from(s).toString("base64"),
  "base64 without padding": (s) => Buffer.from(s).toString("base64").replaceAll("=", ""),
  base64url: (s) => Buffer.from(s).toString("base64url"),
  "base64 after one byte": (s) => Buffer.from(`:${s}`).toString("base64"),
  "base64 after two bytes": (s) => Buffer.from(`u:${s}`).toString("base64"),
  "base64 after three bytes": (s) => Buffer.from(`me:${s}`).toString("base64"),
  "base64 before more": (s) => Buffer.from(`user:${s};more`).toString("base64"),
  "base64url within more": (s) => Buffer.from(`user:${s}@`).toString("base64url"),
  "base64, then url": (s) => encodeURIComponent(Buffer.from(`ab${s}`).toString("base64")),
  "url, then base64": (s) => Buffer.from(encodeURIComponent(s)).toString("base64"),
  "base64 twice": (s) =>
    Buffer.from(Buffer.from(s).toString("base64").replaceAll("=", "")).toString("base64"),
  hex: (s) => Buffer.from(s).toString("hex"),
  "hex, upper case": (s) => Buffer.from(s).toString("hex").toUpperCase(),
  "hex in pairs": (s) => Buffer.from(s).toString("hex").replace(/../g, "$& ").trim(),
  "hex of base64url": (s) => Buffer.from(Buffer.from(s).toString("base64url")).toString("hex"),
  json: (s) => JSON.stringify(s),
  "json in an object": (s) => JSON.stringify({ a: [s] }),
  "json twice": (s) => JSON.stringify(JSON.stringify(s)),
  "json, then url": (s) => encodeURIComponent(JSON.stringify(s)),
  "url, then json": (s) => JSON.stringify({ u: `http://x/?s=${encodeURIComponent(s)}` }),
  "json, then base64": (s) => Buffer.from(JSON.stringify({ s })).toString("base64"),
  "slashes escaped": (s) => s.replaceAll("/", "\\/"),
  "unicode escapes": (s) =>
    Array.from(
      { length: s.length },
      (_, i) => `\\u${s.charCodeAt(i).toString(16).padStart(4, "0")}`,
    )
      .join(""),
  html: (s) =>
    s.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;").replaceAll("'", "&#39;"),
  "html, then url": (s) => encodeURIComponent(s.replaceAll("&", "&amp;").replaceAll("<", "&lt;")),
  "in a query": (s) => `https://h/p?a=1&sig=${encodeURIComponent(s)}&b=2`,
  "in user info": (s) => `rtsp://user:${encodeURIComponent(s)}@cam.local/stream`,
  "in a basic header": (s) => `Basic ${Buffer.from(`user:${s}`).toString("base64")}`,
  "in a bearer header": (s) => `Bearer ${s}`,
  "in a cookie": (s) => `website_2=${s}; Path=/`,
  "next to letters": (s) => `x${s}y`,
  "in a stack": (s) => `Error: ${s}\n    at f (file:///x.ts:1:1)`,
};

function canary(random: () => number): string {
  const alphabet =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=%&;<>\"' -_.~!*()\\@:?#äß€😀";
  const letters = [...alphabet];
  const length = 12 + Math.floor(random() * 60);
  const middle = Array.from(
    { length },
    () => letters[Math.floor(random() * letters.length)] ?? "x",
  );
  // No space at the ends: a revealed secret is trimmed.
  return `C${middle.join("")}Z`;
}

/** What is the secret's own in a form of it: without what a decoy's form has at the ends too. */
function own(form: string, decoy: string): string {
  let first = 0;
  while (first < form.length && form[first] === decoy[first]) first++;
  let last = 0;
  while (last < form.length - first && form.at(-1 - last) === decoy.at(-1 - last)) last++;
  // Base64 shares characters with what stands around: two at either end tell next to nothing.
  return form.slice(first + 2, form.length - last - 2);
}

Deno.test("there are forty forms", () => equal(Object.keys(FORMS).length, 40));

Deno.test("a canary never appears in the log, in forty forms and in every place of a record", () => {
  const random = seeded(20260821);
  const before = [...revealedSecrets];
  let lines = 0;
  try {
    for (let round = 0; round < 25; round++) {
      const secret = canary(random);
      const decoy = canary(random);
      revealedSecrets.clear();
      revealedSecrets.add(secret);
      for (const format of ["text", "json"] as const) {
        for (const [name, form] of Object.entries(FORMS)) {
          const text = form(secret);
          const output = logged({ format, stacks: true }, () => {
            const log = getLog("camera", text);
            log.info(`before ${text} after`);
            log.warn("a property", { value: text, [text]: 1, list: [text], in: { deep: [text] } });
            log.error("an error", {
              error: new Error(`outer ${text}`, { cause: new TypeError(text, { cause: text }) }),
              map: new Map([[text, text]]),
              set: new Set([text]),
              more: new AggregateError([new Error(text)], "several"),
              object: { toString: () => text, name: text },
              event: text,
            });
          }).join("\n");
          lines += 3;
          for (const form of Object.values(FORMS)) {
            const core = own(form(secret), form(decoy));
            ok(!output.includes(core), `${name}: ${core} of ${JSON.stringify(secret)}\n${output}`);
          }
        }
      }
    }
  } finally {
    revealedSecrets.clear();
    for (const secret of before) revealedSecrets.add(secret);
  }
  equal(lines, 25 * 2 * 40 * 3);
});

Deno.test("what opens something alone in a compound secret is taken out alone", () => {
  const before = [...revealedSecrets];
  try {
    revealedSecrets.add("sv=2024-11-04&se=2027-01-01T00:00:00Z&sig=q9Zk3f1vXxAbCdEfGh%3D");
    revealedSecrets.add("AccountName=mystorageaccount1;AccountKey=Zm9vYmFyYmF6cXV4MTIzNA==");
    equal(
      redact("sig q9Zk3f1vXxAbCdEfGh%3D key Zm9vYmFyYmF6cXV4MTIzNA== of mystorageaccount1"),
      "sig *** key *** of mystorageaccount1",
    );
    equal(redact("it ends 2027-01-01T00:00:00Z"), "it ends 2027-01-01T00:00:00Z");
  } finally {
    revealedSecrets.clear();
    for (const secret of before) revealedSecrets.add(secret);
  }
});

Deno.test("a cookie of two thousand characters is taken out whole, coded, and value by value", () => {
  const before = [...revealedSecrets];
  const random = seeded(7);
  const value = () =>
    Array.from({ length: 60 }, () => Math.floor(random() * 36).toString(36)).join("");
  const values = Array.from({ length: 30 }, value);
  const cookie = values.map((one, i) => `__Secure-${i}SID=${one}`).join("; ");
  try {
    revealedSecrets.add(cookie);
    equal(redact(`sent ${encodeURIComponent(cookie)}!`), "sent ***!");
    equal(redact(`sent ${JSON.stringify({ c: cookie })}`), 'sent {"c":"***"}');
    equal(redact(`only ${values[17]} of it`), "only *** of it");
  } finally {
    revealedSecrets.clear();
    for (const secret of before) revealedSecrets.add(secret);
  }
});

/** A run of a million takes a minute or two: `LOG_LINES=1000000 deno test -A tests/log_test.ts`. */
const LINES = Number(Deno.env.get("LOG_LINES") ?? 20_000);

Deno.test(`in ${LINES} lines of a recording's log no secret is left, and each line keeps its words`, () => {
  const random = seeded(20261124);
  const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)]!;
  const before = [...revealedSecrets];
  const secrets = Array.from({ length: 3 }, () => canary(random));
  const decoy = canary(random);
  const forms = Object.values(FORMS);
  const wanted = secrets.flatMap((secret) => forms.map((form) => own(form(secret), form(decoy))));
  let batch: string[] = [];
  let [lines, bytes, given] = [0, 0, 0];
  const search = () => {
    const text = batch.join("\n");
    for (const core of wanted) {
      const at = text.indexOf(core);
      ok(at < 0, `${core}: ${text.slice(Math.max(0, at - 200), at + core.length + 200)}`);
    }
    batch = [];
  };
  try {
    revealedSecrets.clear();
    for (const secret of secrets) revealedSecrets.add(secret);
    const write = (line: string) => {
      lines++;
      bytes += line.length;
      batch.push(line);
      if (batch.length === 1000) search();
    };
    setUpLog({ format: "json", level: "debug", color: false, now: () => AT_MS, write });
    const camera = getLog("camera", "Front door");
    const sink = getLog("sink", "azure");
    const said: ((text: string) => void)[] = [
      (text) =>
        camera.info("clip finished: 120 pictures, 1.2 MB", { event: "clip-finished", key: text }),
      (text) =>
        camera.warn(`not recording: ${text}; trying again until it works`, { event: "gap-begin" }),
      (text) => sink.debug("try 3 of yard/x.mp4 failed", { kind: "retry", error: new Error(text) }),
      (text) =>
        sink.error("parked, its clips wait on the spool", {
          error: new Error("Azure answered 403", { cause: new Error(text) }),
        }),
    ];
    while (lines < LINES) {
      // One line in ten has a secret in some form; the others are as most lines are.
      if (random() >= 0.1) pick(said)("yard/2026/08/21/20260821T140500Z.mp4 https://h/p?a=1");
      else {
        given++;
        pick(said)(`before ${pick(forms)(pick(secrets))} after`);
      }
    }
    search();
  } finally {
    revealedSecrets.clear();
    for (const secret of before) revealedSecrets.add(secret);
  }
  ok(given > LINES / 20);
  ok(bytes / lines > 100, "a line without its words would hold no secret either");
});

Deno.test("no text takes out of all proportion to its length", () => {
  const LENGTH = 400_000;
  const before = [...revealedSecrets];
  const timeMs = (piece: string) => {
    const text = piece.repeat(Math.ceil(LENGTH / piece.length)).slice(0, LENGTH);
    const startMs = performance.now();
    redact(text);
    return performance.now() - startMs;
  };
  try {
    revealedSecrets.add("a secret that is looked for +/=&");
    timeMs("warm ");
    const plainMs = Math.max(5, timeMs("an ordinary line of a log, "));
    const pieces = [
      "cookie: ",
      "set-cookie:",
      "authorization: ",
      "basic ",
      "basic A1",
      "://",
      "://a",
    ];
    pieces.push("sig=", "eyJ", "eyJaaaaaaaa.", "b.0.", "b.1", "ya29.", "%41", "%25", "\\u0041");
    pieces.push("\\\\", "&amp;", "&#37;", "\"'", "password=", "%5C%5Cu0041&amp;");
    for (const piece of pieces) {
      // In proportion it is below ten; what grows with the square of the length is beyond a thousand.
      const times = timeMs(piece) / plainMs;
      ok(times < 200, `${JSON.stringify(piece)} takes ${times.toFixed(0)} times as long`);
    }
  } finally {
    revealedSecrets.clear();
    for (const secret of before) revealedSecrets.add(secret);
  }
});
