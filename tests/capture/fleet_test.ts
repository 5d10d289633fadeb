/**
 * All cameras together.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type FleetOptions, recordFleet } from "../../core/capture/fleet.ts";
import { createBoard } from "../../core/status/board.ts";
import type { Account, DiscoveredCamera } from "../../core/types.ts";
import {
  createFakeCamera,
  createMemorySpool,
  createNotes,
  relabel,
} from "../support/capture_fakes.ts";
import { createFakeClock, type FakeClock } from "../support/fake_clock.ts";

type Listed = DiscoveredCamera & { readonly source: ReturnType<typeof createFakeCamera> };

function listed(clock: FakeClock, { id, name }: { id: string; name: string }): Listed {
  return { id, name, state: "online", source: createFakeCamera(clock) };
}

/** An account that lists what a test says. */
function createAccount(cameras: readonly Listed[]) {
  const account: Account & { list: readonly Listed[]; error?: unknown; deaf: boolean } = {
    list: cameras,
    deaf: false,
    cameras() {
      if (account.deaf) return new Promise(() => {});
      return account.error === undefined
        ? Promise.resolve(account.list)
        : Promise.reject(account.error);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  return account;
}

function start(clock: FakeClock, more: Partial<FleetOptions>) {
  const notes = createNotes();
  const board = createBoard(clock.now());
  const spool = createMemorySpool();
  const stop = new AbortController();
  let ended = false;
  const running = recordFleet({
    ...{ accounts: [], cameras: [], board, spool, clock, clipMs: 10_000, product: "test" },
    ...{
      rediscoverMs: 60_000,
      random: () => 0.5,
      log: () => notes,
      encoder: () => Promise.resolve(relabel),
    },
    ...more,
  }, stop.signal).finally(() => ended = true);
  return {
    ...{ board, spool, lines: notes.lines },
    names: () => [...board.cameras.keys()],
    async stop() {
      stop.abort(new DOMException("stopped", "AbortError"));
      await clock.advance(5000);
      assert.ok(ended, "the fleet has not ended after five seconds");
      await running;
    },
  };
}

const all = (name: string, account: Account) =>
  ({ name, account, cameras: "all", stallMs: 10_000 }) as const;

async function shoot(clock: FakeClock, cameras: readonly Listed["source"][], forMs: number) {
  for (let ms = 0; ms < forMs; ms += 500) {
    for (const camera of cameras) camera.picture();
    await clock.advance(500);
  }
}

Deno.test("a camera that never answers costs only itself", async () => {
  const clock = createFakeClock();
  const [good, deaf] = [createFakeCamera(clock), createFakeCamera(clock)];
  deaf.deaf = true;
  const fleet = start(clock, {
    cameras: [{ name: "deaf", source: deaf, stallMs: 10_000 }, {
      ...{ name: "good", source: good, stallMs: 10_000 },
    }],
  });
  await clock.advance(10);
  await shoot(clock, [good], 30_000);
  await fleet.stop();
  assert.equal(fleet.board.cameras.get("good")?.framesRecorded, 60);
  assert.equal(fleet.board.cameras.get("good")?.gaps.count, 0);
  assert.equal(fleet.board.cameras.get("deaf")?.gaps.count, 1);
});

Deno.test("an account that does not answer holds up neither the others nor the end", async () => {
  const clock = createFakeClock();
  const door = listed(clock, { id: "1", name: "Door" });
  const deaf = createAccount([]);
  deaf.deaf = true;
  const fleet = start(clock, { accounts: [all("a", deaf), all("b", createAccount([door]))] });
  await clock.advance(10);
  await shoot(clock, [door.source], 5000);
  assert.equal(fleet.board.cameras.get("Door")?.state, "recording");
  await fleet.stop();
});

Deno.test("cameras come and go with their account, and a camera that comes back keeps its folder", async () => {
  const clock = createFakeClock();
  const [door, yard] = [
    listed(clock, { id: "1", name: "Door" }),
    listed(clock, { id: "2", name: "Yard" }),
  ];
  const account = createAccount([door]);
  const fleet = start(clock, { accounts: [all("home", account)] });
  await clock.advance(10);
  await shoot(clock, [door.source], 5000);
  account.list = [yard];
  await clock.advance(60_000);
  assert.equal(fleet.board.cameras.get("Door")?.state, "stopped");
  assert.equal(yard.source.isOpen, true);
  account.list = [door, yard];
  await clock.advance(60_000);
  await shoot(clock, [door.source, yard.source], 5000);
  assert.deepEqual(fleet.names(), ["Door", "Yard"]);
  assert.equal(fleet.board.cameras.get("Door")?.state, "recording");
  await fleet.stop();
  const folders = fleet.spool.finished.filter(({ camera }) => camera === "Door")
    .map(({ slug }) => slug);
  assert.equal(folders.length >= 2, true);
  assert.equal(new Set(folders).size, 1);
});

Deno.test("a camera that comes back while its last clip is being finished waits for it", async () => {
  const clock = createFakeClock();
  const door = listed(clock, { id: "1", name: "Door" });
  const account = createAccount([door]);
  const fleet = start(clock, { accounts: [all("home", account)], rediscoverMs: 400 });
  await clock.advance(10);
  await shoot(clock, [door.source], 1000);
  door.source.deaf = true; // it takes its time to end
  account.list = [];
  await clock.advance(400);
  account.list = [door];
  await clock.advance(400);
  door.source.deaf = false;
  await clock.advance(5000);
  await shoot(clock, [door.source], 2000);
  assert.deepEqual(fleet.names(), ["Door"]);
  assert.equal(fleet.board.cameras.get("Door")?.state, "recording");
  await fleet.stop();
});

Deno.test("a camera that was gone and is listed again is recorded again", async () => {
  const clock = createFakeClock();
  const door = listed(clock, { id: "1", name: "Door" });
  door.source.openError = Object.assign(new Error("gone"), { sourceErrorKind: "gone" });
  const fleet = start(clock, { accounts: [all("home", createAccount([door]))] });
  await clock.advance(10);
  assert.equal(fleet.board.cameras.get("Door")?.state, "stopped");
  door.source.openError = undefined;
  await clock.advance(60_000);
  await shoot(clock, [door.source], 2000);
  assert.equal(fleet.board.cameras.get("Door")?.state, "recording");
  await fleet.stop();
});

Deno.test("two cameras of one name have names and folders of their own, whichever is listed first", async () => {
  const clock = createFakeClock();
  const cameras = ["enterprises/x/1", "enterprises/x/2"].map((id) =>
    listed(clock, { id, name: "Door" })
  );
  const seen: string[][] = [];
  for (const list of [cameras, [...cameras].reverse()]) {
    const fleet = start(clock, { accounts: [all("home", createAccount(list))] });
    await clock.advance(10);
    const folders = new Set([...fleet.board.cameras.values()].map(({ slug }) => slug));
    assert.equal(folders.size, 2);
    seen.push(fleet.names().sort());
    await fleet.stop();
  }
  assert.deepEqual(seen[0], seen[1]);
  assert.equal(new Set(seen[0]).size, 2);
});

Deno.test("where accounts share a camera's name, the first one configured has it alone", async () => {
  const names: string[][] = [];
  for (const slow of [0, 1]) {
    const clock = createFakeClock();
    const accounts = ["1", "2"].map((id, index) => {
      const account = createAccount([listed(clock, { id, name: "Door" })]);
      const list = account.cameras.bind(account);
      account.cameras = async (options) => {
        await clock.sleep(index === slow ? 800 : 100);
        return await list(options);
      };
      return account;
    });
    const fleet = start(clock, {
      accounts: accounts.map((account, index) => all(`home ${index}`, account)),
    });
    await clock.advance(3000);
    names.push(fleet.names());
    await fleet.stop();
  }
  assert.deepEqual(names[0], names[1]);
  assert.equal(names[0]?.[0], "Door");
  assert.match(names[0]?.[1] ?? "", /^Door \(.+\)$/);
});

Deno.test("an account that fails is told once, tried again, and its cameras go on being recorded", async () => {
  const clock = createFakeClock();
  const door = listed(clock, { id: "1", name: "Door" });
  const account = createAccount([door]);
  const fleet = start(clock, { accounts: [all("home", account)] });
  await clock.advance(10);
  account.error = new Error("503");
  await shoot(clock, [door.source], 200_000);
  account.error = undefined;
  await shoot(clock, [door.source], 70_000);
  assert.equal(fleet.lines.filter((line) => /cannot list the cameras/.test(line)).length, 1);
  assert.equal(fleet.lines.filter((line) => /answers again/.test(line)).length, 1);
  assert.equal(fleet.board.cameras.get("Door")?.gaps.count, 0);
  await fleet.stop();
});

Deno.test("a wanted camera that the account lacks is told once", async () => {
  const clock = createFakeClock();
  const account = createAccount([listed(clock, { id: "1", name: "Door" })]);
  const fleet = start(clock, {
    accounts: [{ name: "home", account, cameras: ["door", "Shed"], stallMs: 10_000 }],
  });
  await clock.advance(200_000);
  assert.deepEqual(fleet.names(), ["Door"]);
  assert.deepEqual(fleet.lines.filter((line) => /lacks/.test(line)), [
    "warn the account lacks cameras: Shed",
  ]);
  await fleet.stop();
});

Deno.test("an account's cameras are asked for events where that costs nothing, or their owner says so", async () => {
  const clock = createFakeClock();
  const asked: string[] = [];
  const telling = (name: string, more: Partial<Listed> = {}): Listed => ({
    ...listed(clock, { id: name, name }),
    ...more,
    // deno-lint-ignore require-yield
    events: async function* () {
      asked.push(name);
      await clock.sleep(0);
      throw new Error("no answer");
    },
  });
  const plan = { mode: "continuous", beforeMs: 0, afterMs: 1000 } as const;
  const fleet = start(clock, {
    accounts: [
      all("polled", createAccount([telling("Yard")])),
      { ...all("wanted", createAccount([telling("Door")])), events: { ...plan, tags: true } },
      all("subscribed", createAccount([telling("Hall", { tellsAlways: true })])),
      {
        ...all("unwanted", createAccount([telling("Attic", { tellsAlways: true })])),
        events: { ...plan, tags: false },
      },
    ],
  });
  await clock.advance(10_000);
  assert.deepEqual(new Set(asked), new Set(["Door", "Hall"]));
  const warned = fleet.lines.filter((line) => /cannot hear of events/.test(line));
  assert.equal(warned.length, 2, "each is set up to be heard, so it is said once of each");
  await fleet.stop();
});
