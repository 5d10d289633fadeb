/** What cameras do wrong, and the session that comes of it; against the simulated camera. */
import assert from "node:assert/strict";
import {
  openRtspSession,
  type RtspSession,
  type RtspSessionOptions,
} from "../../core/sources/rtsp/session.ts";
import { joinControl, parseRtspUrl } from "../../core/sources/rtsp/url.ts";
import type { AccessUnit } from "../../core/types.ts";
import { readMarkNal } from "../../simulators/scene/scene_mark.ts";
import { createCodedScene } from "../../simulators/scene/coded_scene.ts";
import { type RtspCamera, type RtspCameraOptions, startRtspCamera } from "../../simulators/mod.ts";
import { splitLengthPrefixed } from "../../core/media/annexb.ts";
import { testBothWays } from "../support/both_ways.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";
import { createTestLog, errorOf, pull, settled } from "./world.ts";

const SCENE = { widthPx: 320, heightPx: 192, fps: 15, gopPictures: 5, gops: 2 } as const;
const LOGIN = { username: "owner", password: "a-pass:word/@%" };

interface World {
  readonly clock: FakeClock;
  readonly camera: RtspCamera;
  readonly log: ReturnType<typeof createTestLog>;
  open(options?: Partial<RtspSessionOptions>): Promise<RtspSession>;
  pull(session: RtspSession, count: number): Promise<AccessUnit[]>;
}

async function inWorld(
  options: Partial<RtspCameraOptions>,
  run: (world: World) => Promise<void>,
): Promise<void> {
  const clock = createFakeClock();
  const log = createTestLog();
  await using camera = await startRtspCamera({ name: "Yard", ...SCENE, clock, ...options });
  await run({
    clock,
    camera,
    log,
    open: (more) =>
      settled(
        openRtspSession({ url: camera.url, clock, log, ...more }, {
          signal: new AbortController().signal,
        }),
        clock,
        { stepMs: 5, maxMs: 60_000 },
      ),
    pull: (session, count) => pull(session, { count, clock, stepMs: 5 }),
  });
}

function counters(units: readonly AccessUnit[], codec: "h264" | "h265" = "h264"): number[] {
  return units.filter(({ trackId }) => trackId === 1).map(({ data }) =>
    splitLengthPrefixed(data).map((nal) => readMarkNal(nal, codec)).find(Boolean)?.counter ?? -1
  );
}

/** Each one follows the last. */
function assertUnbroken(numbers: readonly number[]): void {
  for (const [i, number] of numbers.entries()) {
    if (i > 0) assert.equal(number, (numbers[i - 1] ?? 0) + 1, String(numbers));
  }
}

for (const algorithms of [["MD5"], ["SHA-256"], ["SHA-256", "MD5"]] as const) {
  for (const qop of [false, true]) {
    Deno.test(`digest with ${algorithms.join(" and ")}${qop ? ", qop" : ""} and nonces that grow old is answered, also for signs of life`, () =>
      inWorld({
        auth: { type: "digest", ...LOGIN, algorithms, qop, nonceUses: 2 },
        sessionTimeoutS: 10,
      }, async ({ camera, open, pull, clock }) => {
        await using session = await open({ credentials: LOGIN });
        await pull(session, 30);
        for (let i = 0; i < 40; i++) await clock.advance(500);
        assert.ok(camera.served.keepAlives >= 2, `${camera.served.keepAlives} signs of life`);
        assert.equal(camera.served.timeouts, 0);
        assert.equal((await pull(session, 30)).length, 30);
        await session[Symbol.asyncDispose]();
        assert.equal(camera.served.teardowns, 1);
      }));
  }
}

Deno.test("the simulated camera ends the session of who gives no sign of life", () =>
  inWorld({ sessionTimeoutS: 10 }, async ({ camera, clock }) => {
    const { hostname, port } = new URL(camera.url.replace("rtsp:", "http:"));
    using conn = await Deno.connect({ hostname, port: Number(port) });
    let session = "";
    for (
      const [method, field] of [
        ["SETUP", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"],
        ["PLAY", ""],
      ]
    ) {
      const uri = method === "SETUP" ? `${camera.url}/track1` : camera.url;
      const fields = [field, session && `Session: ${session}`].filter(Boolean).join("\r\n");
      await conn.write(
        new TextEncoder().encode(`${method} ${uri} RTSP/1.0\r\nCSeq: 1\r\n${fields}\r\n\r\n`),
      );
      const buffer = new Uint8Array(4096);
      const text = new TextDecoder("latin1").decode(
        buffer.subarray(0, await conn.read(buffer) ?? 0),
      );
      assert.match(text, /^RTSP\/1.0 200/);
      session ||= /Session: ([0-9a-f]+)/.exec(text)?.[1] ?? "";
    }
    const reading = (async () => {
      const buffer = new Uint8Array(65_536);
      let bytes = 0;
      try {
        for (let count: number | null = 0; count !== null; count = await conn.read(buffer)) {
          bytes += count;
        }
      } catch {
        // cut off
      }
      return bytes;
    })();
    for (let i = 0; i < 16; i++) await clock.advance(500);
    assert.equal(camera.served.timeouts, 0);
    for (let i = 0; i < 8; i++) await clock.advance(500);
    assert.equal(camera.served.timeouts, 1);
    assert.ok(await reading > 0);
  }));

Deno.test("without parameter sets in the description, and without any in the stream, pictures come", async () => {
  for (const parameterSets of ["description", "in-band"] as const) {
    for (const codec of ["h264", "h265"] as const) {
      await inWorld({ parameterSets, codec }, async ({ open, pull }) => {
        await using session = await open();
        const units = await pull(session, 20);
        assert.equal(session.tracks[0]?.codec, codec);
        assertUnbroken(counters(units, codec));
        await session[Symbol.asyncDispose]();
      });
    }
  }
});

Deno.test("the answer's channels count, not those that were asked for", () =>
  inWorld({ channelOffset: 6 }, async ({ open, pull }) => {
    await using session = await open();
    assertUnbroken(counters(await pull(session, 12)));
    await session[Symbol.asyncDispose]();
  }));

testBothWays(
  "of the pictures that are read at once the last one says so",
  () =>
    inWorld({}, async ({ open, pull }) => {
      await using session = await open();
      const units = await pull(session, 300);
      const ends = units.filter(({ endsBurst }) => endsBurst).length;
      assert.ok(ends > 2 && ends < units.length / 2, `${ends} of ${units.length}`);
    }),
);

Deno.test("over UDP pictures come one by one, whatever is said over TCP meanwhile", () =>
  inWorld({ transports: "udp", sessionTimeoutS: 10 }, async ({ camera, open, pull }) => {
    await using session = await open();
    const units = await pull(session, 300);
    assert.ok(camera.served.keepAlives >= 2, `${camera.served.keepAlives} signs of life`);
    assert.equal(units.filter(({ endsBurst }) => endsBurst).length, 0);
  }));

Deno.test("a camera that refuses TCP is asked for UDP", () =>
  inWorld({ transports: "udp" }, async ({ open, pull }) => {
    await using session = await open();
    assertUnbroken(counters(await pull(session, 12)));
    await session[Symbol.asyncDispose]();
  }));

Deno.test("after a loss pictures are left out up to the next key picture, and it is said once", () =>
  inWorld({}, async ({ camera, open, pull, log }) => {
    await using session = await open();
    const before = counters(await pull(session, 12));
    camera.drop(1);
    const units = await pull(session, 20);
    const numbers = [...before, ...counters(units)];
    const gap = numbers.findIndex((number, i) => i > 0 && number !== (numbers[i - 1] ?? 0) + 1);
    assert.ok(gap > 0, "nothing is missing");
    assert.equal(([...Array(before.length), ...units][gap] as AccessUnit).isKey, true);
    assertUnbroken(numbers.slice(gap));
    assert.equal(
      log.lines.filter((line) => /packets from the camera are missing/.test(line)).length,
      1,
    );
    await session[Symbol.asyncDispose]();
  }));

Deno.test("packets that overtook each other are put in order over UDP", () =>
  inWorld({}, async ({ camera, open, pull }) => {
    await using session = await open({ transport: "udp" });
    const before = counters(await pull(session, 12));
    camera.swap(10);
    assertUnbroken([...before, ...counters(await pull(session, 30))]);
    await session[Symbol.asyncDispose]();
  }));

Deno.test("timestamps that wrap or jump do not touch media time", () =>
  inWorld({ audio: { codec: "aac" } }, async ({ camera, open, pull }) => {
    await using session = await open();
    const units = await pull(session, 150); // more than two seconds: past the wrap
    for (const seconds of [3600, -7200, 40_000]) {
      camera.jump(seconds);
      units.push(...await pull(session, 60));
    }
    assertUnbroken(counters(units));
    for (const id of [1, 2]) {
      const times = units.filter(({ trackId }) => trackId === id).map(({ dtsUs }) => dtsUs);
      for (const [i, us] of times.entries()) {
        if (i === 0) continue;
        const step = us - (times[i - 1] ?? 0);
        assert.ok(step > 0 && step < 400_000, `${step} µs`);
      }
    }
    await session[Symbol.asyncDispose]();
  }));

Deno.test("a new size begins with the key picture that brings it", () =>
  inWorld({}, async ({ camera, clock, open, pull }) => {
    const larger = await createCodedScene({
      ...SCENE,
      ...{ name: "Yard", widthPx: 480, heightPx: 272, clock, origin: camera.scene.origin },
    });
    await using session = await open();
    const before = await pull(session, 8);
    camera.show(larger);
    const units = [...before, ...await pull(session, 20)];
    assertUnbroken(counters(units));
    const changed = units.filter(({ track }) => track !== undefined);
    assert.equal(changed.length, 1);
    assert.ok(changed[0]?.isKey && changed[0].track?.kind === "video");
    assert.equal(changed[0].track.widthPx, 480);
    await session[Symbol.asyncDispose]();
  }));

Deno.test("good-bye and a broken connection end the session with their cause, behind what had come", async () => {
  for (const end of ["sayBye", "reset"] as const) {
    await inWorld({}, async ({ camera, clock, open, pull }) => {
      const session = await open();
      await pull(session, 5);
      camera[end]();
      const error = await settled(
        errorOf((async () => {
          for await (const _unit of session);
        })()),
        clock,
        { stepMs: 5 },
      );
      assert.ok("sourceErrorKind" in error && error.sourceErrorKind === "offline", String(error));
    });
  }
});

Deno.test("a camera that falls silent is noticed within ten seconds", () =>
  inWorld({}, async ({ camera, clock, open, pull }) => {
    const session = await open();
    await pull(session, 5);
    camera.hang(true);
    const beganMs = clock.monotonic();
    const error = await settled(
      errorOf((async () => {
        for await (const _unit of session);
      })()),
      clock,
      { stepMs: 20 },
    );
    assert.match(error.message, /no picture for 10 s/);
    assert.ok(clock.monotonic() - beganMs <= 10_300);
  }));

Deno.test("a camera that flaps, seven seconds up and three down, gives every GOP it had sent, and is back within a second of being asked", () =>
  inWorld({}, async ({ camera, clock, open, pull }) => {
    for (let round = 0; round < 20; round++) {
      const beganMs = clock.monotonic();
      const session = await open();
      assert.ok(clock.monotonic() - beganMs <= 1000, `${clock.monotonic() - beganMs} ms`);
      assertUnbroken(counters(await pull(session, 60)));
      camera.reset();
      await settled(Promise.resolve(session[Symbol.asyncDispose]()), clock);
      await clock.advance(3000);
    }
  }));

Deno.test("a redirect on the same host is followed; one to another host is not, and no login leaves", () =>
  inWorld({ auth: { type: "basic", ...LOGIN } }, async ({ camera, clock, open, pull }) => {
    await using other = await startRtspCamera({ name: "Other", ...SCENE, clock });
    camera.redirect(other.url);
    await using session = await open({ credentials: LOGIN });
    assert.equal((await pull(session, 2)).length, 2);
    await session[Symbol.asyncDispose]();
    for (
      const target of [
        "rtsp://169.254.169.254/live",
        "rtsp://192.168.1.99/live",
        "rtsps://10.0.0.1/live",
        "rtsp://camera.example.com/live",
        "http://127.0.0.1/live",
        "file:///etc/passwd",
        "rtsp://owner:other@127.0.0.1/live",
      ]
    ) {
      camera.redirect(target);
      const error = await errorOf(open({ credentials: LOGIN }));
      assert.match(error.message, /refused the redirect/, target);
      assert.doesNotMatch(error.message, /a-pass/);
    }
  }));

Deno.test("a stranger's port on the same host that asks for a login does not get ours", () =>
  inWorld({ auth: { type: "basic", ...LOGIN } }, async ({ camera, clock, open }) => {
    await using other = await startRtspCamera({
      ...{ name: "Other", ...SCENE, clock },
      auth: { type: "basic", username: "x", password: "y" },
    });
    camera.redirect(other.url);
    const error = await errorOf(open({ credentials: LOGIN }));
    assert.match(error.message, /never sent to another host/);
  }));

Deno.test("G.711 is handed on as samples, for somebody else to code", () =>
  inWorld({ audio: { codec: "pcmu" } }, async ({ open, pull, log }) => {
    await using session = await open();
    const units = await pull(session, 12);
    const [, sound] = session.tracks;
    assert.ok(sound?.kind === "audio");
    assert.deepEqual([sound.codec, sound.sampleRateHz, sound.channels], ["pcm", 8000, 1]);
    const samples = units.filter(({ trackId }) => trackId === sound.id);
    assert.ok(samples.length > 0 && samples.every(({ data }) => data.length % 2 === 0));
    assert.deepEqual(log.lines.filter((line) => /^warn/.test(line)), []);
    await session[Symbol.asyncDispose]();
  }));

Deno.test("addresses: the login is taken out, encoded or not, and the path is kept letter by letter", () => {
  const cases: readonly (readonly [string, string, string | undefined, string | undefined])[] = [
    ["rtsp://h/a", "/a", undefined, undefined],
    ["rtsp://u:p@h:8554//S/101?x=1&y", "//S/101?x=1&y", "u", "p"],
    ["rtsp://u:p%40%2f@h/a@b", "/a@b", "u", "p@/"],
    ["rtsp://u:p@s:/%@h/a", "/a", "u", "p@s:/%"],
    ["rtsp://u@h", "/", "u", ""],
    ["RTSPS://[::1]:322/a", "/a", undefined, undefined],
  ];
  for (const [text, path, username, password] of cases) {
    const url = parseRtspUrl(text);
    assert.equal(url?.path, path, text);
    assert.equal(url.credentials?.username, username, text);
    assert.equal(url.credentials?.password, password, text);
  }
  for (const text of ["http://h/a", "rtsp://", "rtsp://h:0/", "rtsp://h:99999/", "rtsp:///a"]) {
    assert.equal(parseRtspUrl(text), undefined, text);
  }
  assert.equal(joinControl("rtsp://h/a/", "track1"), "rtsp://h/a/track1");
  assert.equal(joinControl("rtsp://h/a", "track1"), "rtsp://h/a/track1");
  assert.equal(joinControl("rtsp://h/a?b=c", "track1"), "rtsp://h/a?b=c/track1");
  assert.equal(joinControl("rtsp://h/a/", "rtsp://u:p@h/a/t"), "rtsp://h/a/t");
  assert.equal(joinControl("rtsp://h/a/", "*"), "rtsp://h/a/");
});
