/** `camsink clips` and `camsink verify`, over a real spool and real folders. */
import assert from "node:assert/strict";
import { openSpool, type Spool } from "../../core/spool/mod.ts";
import { inTempFolder, runCli } from "../support/run_cli.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import {
  recoverToyClip,
  TOY_HEADER,
  TOY_PATCH,
  TOY_TAIL,
  toyFragment,
} from "../support/toy_clip.ts";
import { systemClock } from "../../core/clock.ts";
import { createDelivery } from "../../core/delivery/mod.ts";
import { localFolder } from "../../sinks/local_folder.ts";

const START_MS = Date.UTC(2026, 7, 21, 14, 5, 0);
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

interface Bench {
  readonly cwd: string;
  /** Keys of five clips a minute apart, the first two in the sink too. */
  readonly keys: readonly string[];
  readonly spool: (key: string) => string;
  readonly sink: (key: string) => string;
  /** Runs `camsink …`; `json` is its stdout where that is JSON. */
  readonly camsink: (...args: string[]) => ReturnType<typeof runCli>;
  readonly open: () => Promise<Spool>;
}

/** A folder with a configuration, a spool and a folder sink. */
function withBench(body: (bench: Bench) => Promise<void>): () => Promise<void> {
  return () =>
    inTempFolder(async (cwd) => {
      await Deno.writeTextFile(
        `${cwd}/camsink.jsonc`,
        JSON.stringify({
          cameras: { yard: { type: "snapshot", url: "http://127.0.0.1:9/x.jpg" } },
          spool: { path: "spool", keep: "365d" },
          sinks: { nas: { type: "local-folder", path: "nas" } },
        }),
      );
      const clock = createFakeClock(START_MS);
      const open = () =>
        openSpool({
          path: `${cwd}/spool`,
          clock,
          log: quiet,
          sinks: ["nas"],
          recover: recoverToyClip,
          keepMs: 365 * 86_400_000,
          reserveBytes: 0,
        });
      const keys: string[] = [];
      {
        await using spool = await open();
        for (let nth = 0; nth < 5; nth++) {
          keys.push(await record(spool, nth));
          if (nth === 1) await deliverAll(spool, `${cwd}/nas`);
        }
      }
      await body({
        cwd,
        keys,
        spool: (key) => `${cwd}/spool/clips/${key}`,
        sink: (key) => `${cwd}/nas/${key}`,
        camsink: (...args) => runCli(args, { cwd }),
        open,
      });
    });
}

async function record(spool: Spool, nth: number): Promise<string> {
  const startMs = START_MS + nth * 60_000;
  const camera = nth === 4 ? "Door" : "Yard";
  const clip = await spool.begin({
    camera,
    slug: camera.toLowerCase(),
    start: new Date(startMs),
    contentType: "video/mp4",
  });
  await clip.append([TOY_HEADER, ...toyFragment(Uint8Array.of(nth, 1, 2, 3))]);
  const finished = await clip.finish({
    tail: [TOY_TAIL],
    patch: TOY_PATCH,
    end: new Date(startMs + 60_000),
    frames: 1,
  });
  return finished.key;
}

async function deliverAll(spool: Spool, path: string): Promise<void> {
  const sink = await localFolder.open({ name: "nas", config: { path }, log: quiet, fetch });
  const status = {
    name: "nas",
    type: "local-folder",
    where: path,
    state: "idle" as const,
    backlogClips: 0,
    backlogBytes: 0,
    clipsDelivered: 0,
    bytesDelivered: 0,
    clipsQuarantined: 0,
  };
  const delivery = createDelivery({
    name: "nas",
    sink,
    spool,
    status,
    clock: systemClock,
    random: () => 0,
    log: quiet,
  });
  const stop = new AbortController();
  const running = delivery.run(stop.signal);
  await delivery.drain({ timeoutMs: 10_000, signal: stop.signal });
  stop.abort();
  await running;
}

/** One byte of a file is another. */
async function flip(path: string): Promise<void> {
  const bytes = await Deno.readFile(path);
  bytes[8] = (bytes[8] ?? 0) ^ 1;
  await Deno.writeFile(path, bytes);
}

const keysOf = (stdout: string) => (JSON.parse(stdout) as { key: string }[]).map(({ key }) => key);

Deno.test(
  "clips lists all clips in order, and only those that fit its flags",
  withBench(async ({ camsink, keys }) => {
    const { code, stdout } = await camsink("clips");
    assert.equal(code, 0);
    const lines = stdout.trimEnd().split("\n");
    assert.deepEqual(lines.slice(1).map((line) => line.split(" ")[0]), keys);
    assert.match(lines[1] ?? "", /Yard +1m .*here +- +no +nas: stored$/);
    for (
      const [flags, expected] of [
        ["--camera Door", keys.slice(4)],
        ["--sink nas", keys.slice(0, 2)],
        ["--state waiting", keys.slice(2)],
        ["--state gone", []],
        ["--since 2026-08-21T14:08:30Z", keys.slice(3)],
        ["--until 2026-08-21T14:05:30Z", keys.slice(0, 1)],
        ["--limit 2", keys.slice(3)],
      ] as const
    ) {
      const { stdout } = await camsink("clips", ...flags.split(" "), "--json");
      assert.deepEqual(keysOf(stdout), expected, flags);
    }
  }),
);

Deno.test(
  "clips are listed, kept, exported and sent again beside a running recording",
  withBench(async ({ camsink, keys, open, cwd, spool: fileOf }) => {
    const [first = "", second = ""] = keys;
    await using spool = await open(); // has the lock
    const before = spool.version;
    assert.equal((await camsink("clips", "keep", first)).code, 0);
    assert.deepEqual(keysOf((await camsink("clips", "--kept", "--json")).stdout), [first]);
    assert.equal(spool.get(first)?.pinned, true);
    assert.equal(JSON.parse(await Deno.readTextFile(`${fileOf(first)}.json`)).pinned, true);

    assert.equal((await camsink("clips", "redeliver", second, "--sink", "nas")).code, 0);
    assert.equal(spool.next("nas")?.key, second);
    await spool.sweep();
    assert.notEqual(spool.version, before, "its deliveries are told");

    assert.equal((await camsink("clips", "unkeep", first)).code, 0);
    assert.equal(spool.get(first)?.pinned, false);

    const { code, stdout } = await camsink("clips", "export", first, "--out", "out/here");
    assert.equal(code, 0);
    assert.equal(stdout.trim(), "out/here/yard-20260821T140500Z.mp4");
    assert.deepEqual(
      await Deno.readFile(`${cwd}/${stdout.trim()}`),
      await Deno.readFile(fileOf(first)),
    );
    const again = await camsink("clips", "export", first, second, "--out", "out/here");
    assert.equal(again.code, 1, "nothing is overwritten, the others are exported");
    assert.match(again.stderr, /is there already/);
    assert.match(again.stdout, /yard-20260821T140600Z/);
  }),
);

Deno.test(
  "clips says what is wrong with a key, a sink, a time, a damaged clip and a folder without a spool",
  withBench(async ({ camsink, keys: [first = ""], spool, cwd }) => {
    const unknown = await camsink("clips", "keep", "yard/2020/01/01/20200101T000000Z.mp4");
    assert.equal(unknown.code, 1);
    assert.match(unknown.stderr, /there is no clip yard.2020/);
    const noKey = await camsink("clips", "redeliver", "nonsense");
    assert.match(noKey.stderr, /"nonsense" is no clip's key; expected/);
    const noSink = await camsink("clips", "redeliver", first, "--sink", "nass");
    assert.equal(noSink.code, 1);
    assert.match(noSink.stderr, /no sink "nass".*nas/);
    assert.match((await camsink("clips", "--since", "soon")).stderr, /expected a time such as/);
    await flip(spool(first));
    const damaged = await camsink("clips", "export", first, "--out", "out");
    assert.equal(damaged.code, 1);
    assert.match(damaged.stderr, /damaged on the spool/);
    assert.deepEqual([...Deno.readDirSync(`${cwd}/out`)], []);
    const empty = await camsink("clips", "--spool", "elsewhere");
    assert.equal(empty.code, 74);
    assert.match(empty.stderr, /there is no spool in .*elsewhere/);
  }),
);

interface Verified {
  readonly ok: boolean;
  readonly waiting: number;
  readonly findings: readonly {
    readonly kind: string;
    readonly key?: string;
    readonly sink?: string;
    readonly repaired: boolean;
  }[];
}
const briefly = (stdout: string) =>
  (JSON.parse(stdout) as Verified).findings
    .map(({ kind, sink, key, repaired }) => `${repaired ? "repaired" : kind} ${sink ?? "-"} ${key}`)
    .sort();

Deno.test(
  "verify changes nothing and ends with 0 when all is well, also beside a recording",
  withBench(async ({ camsink, open }) => {
    await using _recording = await open();
    const { code, stdout } = await camsink("verify", "--json");
    assert.equal(code, 0, stdout);
    const { ok, waiting, findings } = JSON.parse(stdout) as Verified;
    assert.deepEqual({ ok, waiting, findings }, { ok: true, waiting: 3, findings: [] });
    assert.match((await camsink("verify")).stdout, /5 clips and 5 files .*\n.*All is well/);
  }),
);

Deno.test(
  "verify finds every loss, damage and orphan, on the spool and in the sink",
  withBench(async ({ camsink, keys, spool, sink }) => {
    const [stored = "", cut = "", flipped = "", taken = "", waiting = ""] = keys;
    const orphan = stored.replace("140500", "150500");
    await Deno.remove(sink(stored));
    await Deno.truncate(sink(cut), 5);
    await flip(spool(flipped));
    await Deno.remove(spool(taken));
    await Deno.copyFile(spool(waiting), spool(orphan));

    const wrong = [
      `damaged - ${flipped}`,
      `damaged nas ${cut}`,
      `lost - ${taken}`,
      `missing nas ${stored}`,
      `orphaned - ${orphan}`,
    ];
    const found = await camsink("verify", "--json");
    assert.equal(found.code, 1);
    assert.deepEqual(briefly(found.stdout), wrong);
    assert.match((await camsink("verify")).stdout, /verify --repair mends it/);
  }),
);

Deno.test(
  "verify --repair delivers again what is here, and exits 1 for what is beyond repair",
  withBench(async ({ camsink, keys, spool, sink }) => {
    const [stored = "", cut = "", flipped = "", taken = "", waiting = ""] = keys;
    const orphan = stored.replace("140500", "150500");
    await Deno.remove(sink(stored));
    await Deno.truncate(sink(cut), 5);
    await Deno.copyFile(spool(waiting), spool(orphan));
    const mended = await camsink("verify", "--repair", "--json");
    assert.equal(mended.code, 0, mended.stdout + mended.stderr);
    assert.deepEqual(briefly(mended.stdout), [
      `repaired - ${orphan}`,
      `repaired nas ${stored}`,
      `repaired nas ${cut}`,
    ]);
    assert.deepEqual(await Deno.readFile(sink(stored)), await Deno.readFile(spool(stored)));
    assert.equal((await Deno.stat(sink(cut))).size, 5, "nothing in a sink is overwritten");
    assert.equal((await camsink("verify")).code, 0, "the clip beside it counts");

    await Deno.remove(spool(taken));
    await Deno.remove(sink(taken));
    await flip(spool(flipped));
    await Deno.remove(sink(flipped));
    const left = await camsink("verify", "--repair");
    assert.equal(left.code, 1);
    assert.match(
      left.stdout,
      /✗ lost {2}yard.*\n.*no sink is known to have it; cannot be repaired/,
    );
    assert.match(left.stdout, /✗ damaged {2}yard.*\n.*cannot be repaired/);
  }),
);

Deno.test(
  "verify --repair leaves the work to a recording that has the spool, and names it",
  withBench(async ({ camsink, keys: [stored = ""], sink, open }) => {
    await Deno.remove(sink(stored));
    await using spool = await open();
    const { code, stdout } = await camsink("verify", "--repair");
    assert.equal(code, 1);
    assert.match(stdout, new RegExp(`left to the running recording \\(process ${Deno.pid}\\)`));
    assert.equal(spool.next("nas")?.key, stored);
  }),
);
