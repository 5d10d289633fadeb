/** When encoders are opened, and which: by hand-made ones that only tell what is asked of them. */
import assert from "node:assert/strict";
import type { Encoders, EncodersOptions, SoundEncoder } from "../../core/encode/mod.ts";
import { encodersOnDemand } from "../../core/encode/on_demand.ts";
import type { AudioTrack, Encoder } from "../../core/types.ts";
import { createTestLog } from "./support.ts";

const TRACK: AudioTrack = {
  ...{ id: 2, kind: "audio", codec: "pcm", sampleRateHz: 8000, channels: 1 },
  config: new Uint8Array(),
};

/** Encoders of which it is known what was opened and closed. */
function openable({ fails = [] as (string | undefined)[] } = {}) {
  const opened: (string | undefined)[] = [];
  const closed: (string | undefined)[] = [];
  const sounds: (string | undefined)[] = [];
  const pictures: (string | undefined)[] = [];
  const create = ({ use }: EncodersOptions): Promise<Encoders> => {
    opened.push(use);
    if (fails.includes(use)) return Promise.reject(new Error(`no ${use}`));
    return Promise.resolve({
      engines: [],
      forCamera: (): Encoder => ({ async *encode() {} }),
      forSound: ({ track }): SoundEncoder => {
        sounds.push(use);
        return {
          track,
          push() {},
          end: () => Promise.resolve(),
          [Symbol.asyncDispose]: () => Promise.resolve(),
        };
      },
      forKeyPictures: () => {
        pictures.push(use);
        return { push() {}, [Symbol.asyncDispose]: () => Promise.resolve() };
      },
      describe: (camera) => ({ name: `${use} of ${camera}`, speed: 1 }),
      probe: () => Promise.resolve([]),
      [Symbol.asyncDispose]: () => {
        closed.push(use);
        return Promise.resolve();
      },
    });
  };
  return { opened, closed, sounds, pictures, fails, create };
}

const sound = () => ({ track: TRACK, log: createTestLog(), onUnit() {} });

Deno.test("nothing is opened, nor closed, where nothing is encoded", async () => {
  const { opened, closed, create } = openable();
  const encoders = encodersOnDemand({ use: "auto", log: createTestLog() }, create);
  let isOpen = false;
  encoders.opened.then(() => isOpen = true);
  assert.equal(encoders.describe("yard"), undefined);
  await encoders[Symbol.asyncDispose]();
  assert.deepEqual([opened, closed, isOpen], [[], [], false]);
});

Deno.test("all cameras share what the first one opened", async () => {
  const { opened, closed, create } = openable();
  {
    await using encoders = encodersOnDemand({ use: "auto", log: createTestLog() }, create);
    await Promise.all([encoders.forCamera(), encoders.forCamera(), encoders.open()]);
    await encoders.forSound(sound());
    await encoders.opened;
    assert.deepEqual(opened, ["auto"]);
    assert.equal(encoders.describe("yard")?.name, "auto of yard");
  }
  assert.deepEqual(closed, ["auto"]);
});

Deno.test("sound or key pictures alone open the installed ffmpeg, and ffmpeg.wasm only where there is none", async () => {
  const { opened, closed, sounds, create } = openable();
  {
    await using encoders = encodersOnDemand({ use: "auto", log: createTestLog() }, create);
    await encoders.forSound(sound());
    await encoders.forSound(sound());
    assert.deepEqual([opened, sounds], [["system"], ["system", "system"]]);
  }
  assert.deepEqual(closed, ["system"]);
  const { opened: forPictures, pictures, create: createForPictures } = openable();
  await using looking = encodersOnDemand(
    { use: "auto", log: createTestLog() },
    createForPictures,
  );
  await looking.forKeyPictures({ onPicture() {}, onBlind() {} });
  await looking.forSound(sound());
  assert.deepEqual([forPictures, pictures], [["system"], ["system"]]);
  const without = openable({ fails: ["system"] });
  await using encoders = encodersOnDemand({ use: "auto", log: createTestLog() }, without.create);
  await encoders.forSound(sound());
  assert.deepEqual([without.opened, without.sounds], [["system", "auto"], ["auto"]]);
});

Deno.test("sound is coded by ffmpeg.wasm alone where that was asked for", async () => {
  const { opened, create } = openable();
  await using encoders = encodersOnDemand({ use: "wasm", log: createTestLog() }, create);
  await encoders.forSound(sound());
  assert.deepEqual(opened, ["wasm"]);
});

Deno.test("what could not be opened is tried again by the next who asks", async () => {
  const { opened, closed, fails, create } = openable({ fails: ["auto"] });
  {
    await using encoders = encodersOnDemand({ use: "auto", log: createTestLog() }, create);
    await assert.rejects(encoders.open(), /no auto/);
    await assert.rejects(encoders.forCamera(), /no auto/);
    fails.pop();
    await encoders.forCamera();
    assert.deepEqual(opened, ["auto", "auto", "auto"]);
  }
  assert.deepEqual(closed, ["auto"]);
});
