/**
 * Looks at so many key pictures of a file with one engine, one after the other:
 * `motion_ours.ts system|wasm FILE PICTURES`.
 *
 * @module
 */
import { createKeyPictureMotionFinder } from "../core/capture/motion.ts";
import { createEncoders } from "../core/encode/mod.ts";
import { parseRecording } from "../tests/support/media_samples.ts";

const [use, file = "", pictures] = Deno.args;
const { tracks: [track], units } = await parseRecording(Deno.readFileSync(file));
const keys = units.filter(({ isKey }) => isKey);
if ((use !== "system" && use !== "wasm") || track?.kind !== "video" || keys.length === 0) {
  throw new Error("expected: motion_ours.ts system|wasm FILE PICTURES");
}
const log = { debug() {}, info() {}, warn: console.error, error: console.error };
await using encoders = await createEncoders({ use, workers: 1, log });
const finder = createKeyPictureMotionFinder();
let seen = Promise.withResolvers<void>();
await using decoder = encoders.forKeyPictures({
  onPicture(picture) {
    finder.look(picture);
    seen.resolve();
  },
  onBlind: (reason) => seen.reject(new Error(reason)),
});
for (let i = 0; i < Number(pictures); i++) {
  seen = Promise.withResolvers();
  const key = keys[i % keys.length];
  if (key) decoder.push(key, track);
  await seen.promise;
}
