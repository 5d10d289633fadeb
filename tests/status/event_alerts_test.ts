/** Events before cameras told to a webhook: which, how often, and with which clip; in simulated time. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import {
  createEventAlerts,
  type EventAlertPlan,
  type RecordedClip,
} from "../../core/status/event_alerts.ts";
import { createFakeClock } from "../support/fake_clock.ts";

const MINUTE_MS = 60_000;
const PLAN: EventAlertPlan = {
  kinds: ["person", "doorbell"],
  cameras: "all",
  everyMs: 2 * MINUTE_MS,
  perHour: 60,
};

function createWorld(plan: Partial<EventAlertPlan> = {}, { hasSinks = true } = {}) {
  const clock = createFakeClock(Date.UTC(2026, 7, 21, 12, 0, 0));
  const posts: Record<string, unknown>[] = [];
  const lines: string[] = [];
  const clips: (RecordedClip & { camera: string })[] = [];
  const note = (line: string) => void lines.push(line);
  const alerts = createEventAlerts({
    plan: { ...PLAN, ...plan },
    webhook: { post: (body) => void posts.push(body), idle: Promise.resolve() },
    clips: {
      hasSinks,
      find: (camera, fromMs, toMs) =>
        clips.filter((clip) =>
          clip.camera === camera && clip.endMs > fromMs && clip.startMs < toMs
        ),
    },
    clipMs: MINUTE_MS,
    product: "Camsink test",
    clock,
    log: { debug: note, info: note, warn: note, error: note },
  });
  const stop = new AbortController();
  const running = alerts.run(stop.signal);
  return {
    ...{ clock, posts, lines, clips, alerts },
    happens(kind: string, { camera = "Front door", agoMs = 0, lastsMs = 0 } = {}) {
      const startMs = clock.now() - agoMs;
      const slug = camera.toLowerCase().replaceAll(" ", "-");
      alerts.happened(camera, slug, {
        kind,
        startMs,
        ...(lastsMs > 0 ? { endMs: startMs + lastsMs } : {}),
      });
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
      equal(clock.sleepers, 0);
    },
  };
}

const told = (posts: readonly Record<string, unknown>[]) =>
  posts.map(({ event, kind, subject }) => `${event} ${kind} ${subject}`);

Deno.test("what was asked for is told at once, other kinds and cameras are not", async () => {
  await using world = createWorld({ cameras: ["front DOOR"] });
  world.happens("motion");
  world.happens("person", { camera: "Yard" });
  world.happens("person");
  deepEqual(told(world.posts), ["happened person Front door"]);
  deepEqual(world.posts[0], {
    ...{ event: "happened", kind: "person", subject: "Front door", message: "person" },
    ...{ since: new Date(world.clock.now()), product: "Camsink test" },
  });
});

Deno.test("each camera may have its own kinds", async () => {
  await using world = createWorld({ cameras: { "Front door": ["doorbell"], yard: "all" } });
  world.happens("person");
  world.happens("doorbell");
  world.happens("motion", { camera: "Yard" });
  world.happens("person", { camera: "Attic" });
  deepEqual(told(world.posts), ["happened doorbell Front door", "happened motion Yard"]);
  deepEqual(
    ["Front door", "Yard", "Attic"].map((name) =>
      world.alerts.wants(name, name.toLowerCase().replaceAll(" ", "-"))
    ),
    [true, true, false],
  );
});

Deno.test("a happening that lasts, or is told twice and out of order, is told once", async () => {
  await using world = createWorld();
  world.happens("person", { agoMs: 2000 });
  for (let told = 0; told < 50; told++) {
    await world.clock.advance(10_000);
    const lastsMs = 2000 + (told + 1) * 10_000;
    world.happens("person", { agoMs: lastsMs, lastsMs });
  }
  deepEqual(told(world.posts), ["happened person Front door"]);
});

Deno.test("a storm is a message every two minutes, which tells how many it stands for", async () => {
  await using world = createWorld();
  for (let second = 0; second < 600; second++) {
    world.happens("person");
    await world.clock.advance(1000);
  }
  equal(world.posts.length, 5);
  equal(world.posts[1]?.["leftOut"], 119);
  match(String(world.posts[1]?.["message"]), /^person, and 119 more in the 2m before$/);
});

Deno.test("all cameras together have a limit an hour, which is said once, and ends", async () => {
  await using world = createWorld({ kinds: "all", perHour: 10 });
  for (let minute = 0; minute < 50; minute++) {
    for (const camera of ["A", "B", "C"]) world.happens("motion", { camera });
    await world.clock.advance(MINUTE_MS);
  }
  equal(world.posts.length, 10);
  equal(world.lines.filter((line) => /more than 10 events in an hour/.test(line)).length, 1);
  await world.clock.advance(60 * MINUTE_MS);
  world.happens("motion", { camera: "A" });
  equal(world.posts.length, 11);
});

Deno.test("what is told ten minutes late is no alert", async () => {
  await using world = createWorld();
  world.happens("person", { agoMs: 601_000 });
  deepEqual(world.posts, []);
});

Deno.test("the finished clip is told with its keys and addresses, and the event's picture", async () => {
  await using world = createWorld();
  const { clock, clips, posts } = world;
  world.happens("person");
  const atMs = clock.now();
  const clip = (key: string, fromMs: number, toMs: number, tags: string[] = ["person"]) => {
    const urls: Record<string, string> = {};
    clips.push({
      ...{ camera: "Front door", key, startMs: atMs + fromMs, endMs: atMs + toMs, tags, urls },
    });
    return urls;
  };
  clip("before.mp4", -70_000, -10_000);
  clip("picture.jpg", 1000, 1000, ["person", "event-image"])["box"] = "file:///box/picture.jpg";
  await clock.advance(50_000);
  equal(posts.length, 1, "its own clip is not finished yet");
  const urls = clip("during.mp4", -10_000, 50_000);
  await clock.advance(4000);
  equal(posts.length, 1, "a sink is about to have it");
  urls["box"] = "file:///box/during.mp4";
  await clock.advance(4000);
  deepEqual(posts.slice(1), [{
    ...{ event: "recorded", kind: "person", subject: "Front door", product: "Camsink test" },
    since: new Date(atMs),
    message: "person: recorded as during.mp4",
    clip: {
      ...{ key: "during.mp4", start: new Date(atMs - 10_000), end: new Date(atMs + 50_000) },
      urls: { box: "file:///box/during.mp4" },
    },
    image: {
      ...{ key: "picture.jpg", start: new Date(atMs + 1000), end: new Date(atMs + 1000) },
      urls: { box: "file:///box/picture.jpg" },
    },
  }]);
});

Deno.test("a clip that no sink takes within half a minute is told without an address", async () => {
  await using world = createWorld();
  const { clock, clips, posts } = world;
  world.happens("person");
  const startMs = clock.now() - 1000;
  clips.push({
    ...{ camera: "Front door", key: "k.mp4", startMs, endMs: startMs + 5000, tags: [], urls: {} },
  });
  await clock.advance(25_000);
  equal(posts.length, 1);
  await clock.advance(10_000);
  deepEqual(posts[1]?.["clip"], {
    ...{ key: "k.mp4", start: new Date(startMs), end: new Date(startMs + 5000), urls: {} },
  });
});

Deno.test("at the end what is finished is told, and what has no clip is given up", async () => {
  await using world = createWorld();
  const { clock, clips, posts, alerts } = world;
  world.happens("person");
  world.happens("doorbell");
  world.happens("person", { camera: "Yard" });
  const startMs = clock.now() - 1000;
  clips.push({
    ...{ camera: "Yard", key: "k.mp4", startMs, endMs: startMs + 5000, tags: [], urls: {} },
  });
  alerts.finish();
  deepEqual(told(posts).slice(3), ["recorded person Yard"]);
});

Deno.test("an event whose clip never comes is forgotten, and a catalogue that fails costs nothing", async () => {
  await using world = createWorld();
  world.happens("person");
  await world.clock.advance(10 * MINUTE_MS);
  const startMs = world.clock.now() - 10 * MINUTE_MS - 1000;
  world.clips.push({
    ...{ camera: "Front door", key: "late", startMs, endMs: startMs + 5000, tags: [], urls: {} },
  });
  await world.clock.advance(10_000);
  ok(world.posts.length === 1);
});
