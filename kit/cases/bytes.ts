/**
 * Cases about the clip's bytes: they arrive, all of them, once, and nothing else takes their place.
 *
 * @module
 */
import { sinkErrorKind } from "../../core/types.ts";
import { brief } from "../bench.ts";
import { freshKey, type TestClip, testClip } from "../clips.ts";
import {
  fail,
  type KitCase,
  LARGE_BYTES,
  needsAnswers,
  needsBytes,
  notApplicable,
} from "./case.ts";

const MiB = 2 ** 20;

const SIZES = [
  ["empty-clip", 0, "0 bytes"],
  ["one-byte", 1, "1 byte"],
  ["medium-clip", 5 * MiB, "5 MiB"],
  ["large-clip", 200 * MiB, "200 MiB"],
] as const;

/** In the order in which they run. */
export const byteCases: readonly KitCase[] = [
  ...SIZES.map(([id, bytes, size]): KitCase => ({
    id,
    title: `a clip of ${size} arrives byte for byte`,
    why: "put is the only proof that a clip is safe: after it the local copy may be deleted.",
    fix: bytes === 0
      ? "send a body of length 0 as it is; do not take an empty stream for a missing one"
      : "send clip.open() to its end, wait for the store's answer, and compare what it says",
    run: async (bench) => {
      needsBytes(bench);
      if (bytes === 0 && bench.server.store?.takesEmpty === false) {
        notApplicable("the store takes no object without bytes: see empty-refused");
      }
      const before = await bench.names();
      const clip = id === "large-clip" ? await bench.clipOnDisk(bytes) : testClip(bytes);
      const { state } = await bench.mustPut(clip);
      if (state !== "stored") fail(`put of a new clip said "${state}"; expected "stored"`);
      await bench.expectOnly(before, clip);
    },
  })),
  {
    id: "event-arrives",
    title: "an event arrives, with the clip's key and SHA-256",
    why: "whoever receives events finds the clip by its key, and knows a repeated one by its hash.",
    fix: "put clip.key and clip.sha256 into the message, and wait until the server has taken it",
    run: async (bench) => {
      if (bench.server.carries !== "events") {
        notApplicable("this sink carries the clips themselves");
      }
      const before = await bench.names();
      const clip = testClip(5 * MiB);
      await bench.mustPut(clip);
      await bench.expectOnly(before, clip);
    },
  },
  {
    id: "same-clip-twice",
    title: 'the same clip put twice is one object, and the second put says "already-there"',
    why: "an answer that got lost makes delivery put a clip again: that must neither store it " +
      "twice nor count as a failure.",
    fix: "before sending, or when the store says that the name is taken, compare size and hash " +
      'with the clip\'s; if they are equal, return { state: "already-there" }',
    run: async (bench) => {
      needsAnswers(bench);
      for (const bytes of [0, 1000, LARGE_BYTES]) {
        const before = await bench.names();
        const clip = testClip(bytes);
        await bench.mustPut(clip);
        const { state } = await bench.mustPut(clip, { attempt: 2 });
        if (state !== "already-there") {
          fail(
            `the second put of the same ${bytes} bytes said "${state}"; expected "already-there"`,
          );
        }
        await bench.expectOnly(before, clip);
      }
    },
  },
  {
    id: "conflict",
    title: "another clip under a key that is taken is a conflict, and changes nothing",
    why: "overwriting loses the clip that was there, which may be the only copy. On a conflict " +
      "delivery stores the new one under another key and tells the owner.",
    fix: 'make the store refuse an existing name (HTTP: "If-None-Match: *"), and throw ' +
      'new SinkError("conflict", …) if what is there is not this clip',
    run: async (bench) => {
      needsAnswers(bench);
      const before = await bench.names();
      const clip = testClip(1000);
      await bench.mustPut(clip);
      for (const [bytes, seed] of [[1000, 2], [999, 1], [LARGE_BYTES, 3]] as const) {
        await bench.mustFail(testClip(bytes, { key: clip.key, seed }), "conflict");
      }
      const added = await bench.added(before);
      if (added === undefined) {
        const found = await bench.stat(clip.key);
        if (found !== undefined && found.bytes !== clip.bytes) {
          fail(`the first clip had ${clip.bytes} bytes; now there are ${found.bytes} in its place`);
        }
        return;
      }
      const isFirst = bench.server.carries === "events"
        ? ({ text }: { text: string }) => text.includes(clip.sha256)
        : ({ sha256 }: { sha256: string }) => sha256 === clip.sha256;
      if (!added.some(isFirst)) {
        fail("the clip that was there first is gone: the put that was refused changed the store");
      }
      if (added.filter(({ bytes }) => bytes > 0).length > 1) {
        fail(
          `${added.length} objects are in the store after the conflict; expected the first alone`,
        );
      }
    },
  },
  {
    id: "crash-before-receipt",
    title: "a clip that was stored just before a crash is found by the next process",
    why: "Camsink may be killed between the store's answer and the moment the receipt is written.",
    fix: "do not remember in memory what was stored: ask the store",
    run: async (bench) => {
      needsAnswers(bench);
      const sizes = [1000, LARGE_BYTES];
      const stored = [];
      for (const bytes of sizes) {
        const before = await bench.names();
        const clip = testClip(bytes);
        await bench.mustPut(clip);
        stored.push({ before, clip });
        await bench.expectOnly(before, clip);
      }
      await bench.restarted();
      const before = await bench.names();
      for (const { clip } of stored) {
        const { state } = await bench.mustPut(clip);
        if (state !== "already-there") {
          fail(
            `a new process put the same ${clip.bytes} bytes and was told "${state}"; expected ` +
              '"already-there"',
          );
        }
      }
      const added = await bench.added(before);
      if (added !== undefined && added.length > 0) {
        fail(`${added.length + 1} objects are in the store of one clip; expected exactly one`);
      }
    },
  },
  {
    id: "put-again",
    title: "where the store cannot be asked, a clip that is put again is there whole once more",
    why: "whoever cannot know must not guess: a second copy costs room, a clip that is missing " +
      "because it was taken for known is lost.",
    fix: 'send it again and return { state: "stored" }; or, if the store does say what it holds, ' +
      "take canBeAsked: false out of the test",
    run: async (bench) => {
      if (bench.server.store?.canBeAsked !== false) {
        notApplicable("the store can be asked what it holds");
      }
      if ((await bench.sink()).stat !== undefined) {
        fail("the sink has stat: this test need not say canBeAsked: false");
      }
      const before = await bench.names();
      const clip = testClip(1000);
      const other = testClip(LARGE_BYTES, { key: clip.key, seed: 3 });
      const stored: TestClip[] = [];
      const store = async (one: TestClip) => {
        const { state } = await bench.mustPut(one, { attempt: stored.length + 1 });
        if (state !== "stored") fail(`put said "${state}" of a store that cannot be asked`);
        stored.push(one);
        await bench.expectAll(before, stored);
      };
      await store(clip);
      await store(clip);
      await store(other);
      await bench.restarted();
      await store(clip);
      if (!bench.http) return;
      bench.fail({ kind: "lose-answer" });
      await bench.mustFail(clip, "retry");
      bench.heal();
      // As a rule it came, and only its sender does not know.
      if ((await bench.added(before))?.length !== stored.length) stored.push(clip);
      await store(clip);
    },
  },
  {
    id: "empty-refused",
    title: "a clip without bytes, which the store does not take, is refused for good",
    why: "tried again it would stand in the way of all that come after it, for ever.",
    fix: 'throw new SinkError("permanent", …) for what the store says to it; or take ' +
      "takesEmpty: false out of the test",
    run: async (bench) => {
      if (bench.server.store?.takesEmpty !== false) notApplicable("the store takes any size");
      const before = await bench.names();
      await bench.mustFail(testClip(0), "permanent");
      if ((await bench.added(before))?.length) fail("something was stored though put refused it");
    },
  },
  {
    id: "spoilt-clip",
    title: "a clip whose local bytes are not what was recorded is refused for good",
    why: "a failing disk must not put a damaged clip into the store with a receipt for a good one.",
    fix:
      "send provenBytes(clip, options) of the SDK, which hashes while they pass; or hash yourself and throw a SinkError " +
      '"permanent" before the store commits if size or SHA-256 differ',
    run: async (bench) => {
      needsBytes(bench);
      for (const spoilt of ["bit", "short"] as const) {
        for (const bytes of [1000, LARGE_BYTES]) {
          const before = await bench.names();
          const clip = testClip(bytes, { spoilt });
          await bench.mustFail(clip, "permanent");
          if (await bench.stat(clip.key) !== undefined) {
            fail("stat finds the damaged clip under its key; expected nothing");
          }
          const added = await bench.added(before);
          if (added?.some((object) => object.bytes >= clip.bytes - 1)) {
            fail(`the damaged clip of ${bytes} bytes lies in the store; expected nothing`);
          }
        }
      }
    },
  },
  {
    id: "progress",
    title: "progress grows in many steps and ends at the whole",
    why:
      "a put that shows no progress for the stall timeout is taken for dead and cut off: large " +
      "clips over slow lines would never arrive.",
    fix: "call options.progress(bytesSoFar) as the store takes bytes, at least every MiB",
    run: async (bench) => {
      needsBytes(bench);
      const seen: number[] = [];
      await bench.mustPut(testClip(LARGE_BYTES), { progress: (bytes) => seen.push(bytes) });
      if (seen.at(-1) !== LARGE_BYTES) {
        fail(`progress ended at ${seen.at(-1) ?? "nothing"}; expected ${LARGE_BYTES}`);
      }
      if (seen.length < 5) fail(`progress was told ${seen.length} times; expected 5 or more`);
      const back = seen.findIndex((bytes, index) => bytes < (seen[index - 1] ?? 0));
      if (back >= 0) fail(`progress went back from ${seen[back - 1]} to ${seen[back]}`);
    },
  },
  {
    id: "parallel",
    title: "eight clips may be put at once",
    why: 'users set "concurrency": puts of one sink then run side by side.',
    fix: "keep what belongs to one put in that put; share nothing that changes",
    run: async (bench) => {
      const before = await bench.names();
      const clips = Array.from({ length: 8 }, (_, index) =>
        testClip(200_000 + index, {
          key: freshKey(`kit-cam-${index % 3}`),
          seed: index + 10,
        }));
      const outcomes = await Promise.all(clips.map((clip) => bench.put(clip)));
      for (const { error } of outcomes) {
        if (error !== undefined) fail(`one of eight puts failed: ${brief(error)}`);
      }
      const added = await bench.added(before);
      if (added === undefined) return;
      if (added.length !== clips.length) {
        fail(`${added.length} objects are in the store; expected ${clips.length}`);
      }
      if (bench.server.carries === "events") return;
      for (const clip of clips) {
        if (!added.some(({ sha256 }) => sha256 === clip.sha256)) {
          fail(
            `${clip.key} is not in the store byte for byte: puts at once have mixed their bytes`,
          );
        }
      }
    },
  },
  {
    id: "odd-cameras",
    title: "cameras may be called anything",
    why:
      "a camera's name is its owner's: emoji, line breaks and 300 letters do occur, and a header " +
      "or file name made of it breaks.",
    fix: "encode clip.camera for where you put it (encodeURIComponent), or leave it out",
    run: async (bench) => {
      const names = ["Tür ☃ 100 %", "../../x", "CON", "a\nb", "👨‍👩‍👧", "x".repeat(300), "\ud800", ""];
      const before = await bench.names();
      // Side by side: what a put costs where a program is started for it is mostly waiting.
      const outcomes = await Promise.all(
        names.map((camera, index) =>
          bench.put(testClip(100 + index, { camera, key: freshKey(`kit-odd-${index}`) }))
        ),
      );
      for (const [index, camera] of names.entries()) {
        const error = outcomes[index]?.error;
        if (error !== undefined) {
          fail(
            `the clip of a camera called ${JSON.stringify(camera)} was refused: ${brief(error)}`,
          );
        }
      }
      const added = await bench.added(before);
      if (added !== undefined && added.length !== names.length) {
        fail(`${added.length} objects are in the store; expected ${names.length}`);
      }
    },
  },
  {
    id: "odd-keys",
    title: "keys with spaces, signs and Unicode are stored apart from each other",
    why:
      "a key that is not encoded as the store wants it becomes another key, and two clips fall " +
      "into one.",
    fix: "encode each part of the key between slashes by itself: " +
      'clip.key.split("/").map(encodeURIComponent).join("/")',
    run: async (bench) => {
      const keys = ["a b", "a%20b", "a+b", "a#b", "a?b=c", "a&b", "Tür ☃", "ключ", "👨‍👩‍👧", "a'b(c)!"]
        .map((odd) => `kit-odd/2026/${odd}/${crypto.randomUUID()}.mp4`);
      const before = await bench.names();
      const { stat } = await bench.sink();
      const clips = keys.map((key, index) => testClip(300 + index, { key }));
      // Side by side: what a put costs where a program is started for it is mostly waiting.
      const outcomes = await Promise.all(clips.map((clip) => bench.put(clip)));
      for (const [index, { error }] of outcomes.entries()) {
        if (error !== undefined) {
          fail(`the key ${JSON.stringify(keys[index])} was refused: ${brief(error)}`);
        }
      }
      await bench.expectAll(before, clips);
      const found = await Promise.all(keys.map((key) => bench.stat(key)));
      for (const [index, clip] of clips.entries()) {
        if (stat !== undefined && found[index]?.bytes !== clip.bytes) {
          fail(`stat does not find ${JSON.stringify(clip.key)}, though put stored it`);
        }
      }
    },
  },
  {
    id: "hostile-keys",
    title: "a key that would lead out of the sink's place is refused for good",
    why: "no such key is made by Camsink, but a sink that follows one would write anywhere.",
    fix: 'refuse keys with an empty part, "." or "..": throw new SinkError("permanent", …)',
    run: async (bench) => {
      if (bench.server.carries === "events") notApplicable("no place is made of the key");
      for (const key of ["../kit-escape.mp4", "kit-yard/../../kit-escape.mp4", "/kit-escape.mp4"]) {
        const { result, error } = await bench.put(testClip(10, { key }));
        if (result !== undefined) {
          fail(`the key ${JSON.stringify(key)} was taken; expected it to be refused`);
        }
        if (sinkErrorKind(error) !== "permanent") {
          fail(
            `the key ${JSON.stringify(key)} was refused with the kind "${sinkErrorKind(error)}" ` +
              `(${brief(error)}); expected "permanent", for no later try can succeed`,
          );
        }
      }
    },
  },
];
