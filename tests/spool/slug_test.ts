/**
 * Slugs: every name becomes a safe folder, and no two names the same one.
 *
 * @module
 */
import assert from "node:assert/strict";
import { cameraSlug } from "../../core/spool/slug.ts";
import { seededRandom } from "../support/seeded_random.ts";

const isSafe = (slug: string) =>
  /^[a-z0-9](?:-?[a-z0-9])*$/.test(slug) && slug.length >= 3 && slug.length <= 48 &&
  !/^(con|prn|aux|nul|com\d|lpt\d)$/.test(slug);

Deno.test("a name that is a slug already stays as it is", () => {
  for (const name of ["yard", "front-door", "cam2", "back-entrance", "a".repeat(48)]) {
    assert.equal(cameraSlug(name), name);
  }
});

Deno.test("a name that cannot be a folder keeps its words and gets a hash", () => {
  assert.match(cameraSlug("Front Door"), /^front-door-[0-9][0-9a-z]{7}$/);
  assert.match(cameraSlug("Café Zoë"), /^cafe-zoe-[0-9][0-9a-z]{7}$/);
  assert.match(cameraSlug("../../x"), /^x-[0-9][0-9a-z]{7}$/);
  assert.match(cameraSlug("📷"), /^camera-[0-9][0-9a-z]{7}$/);
  assert.match(cameraSlug("CON"), /^con-[0-9][0-9a-z]{7}$/);
  assert.match(cameraSlug("con"), /^con-[0-9][0-9a-z]{7}$/);
});

Deno.test("a slug never changes from one release to the next", () => {
  assert.equal(cameraSlug("Front Door"), "front-door-21r19sv1");
  assert.equal(cameraSlug("Front Door", "DEVICE-1"), "front-door-9spkpvhf");
  assert.equal(cameraSlug("玄関"), "camera-5bky49ae");
});

Deno.test("names that look alike get different slugs", () => {
  const names = [
    "Front Door",
    "front door",
    "front-door",
    "front_door",
    "Front  Door",
    "é",
    "e\u0301",
  ];
  assert.equal(new Set(names.map((name) => cameraSlug(name))).size, names.length);
});

Deno.test("cameras of one name are told apart by their ids", () => {
  assert.notEqual(cameraSlug("yard", "1"), cameraSlug("yard", "2"));
  assert.notEqual(cameraSlug("yard", "1"), cameraSlug("yard"));
});

Deno.test("a slug of a slug is that slug or has a hash, so a name cannot pose as another's", () => {
  const slug = cameraSlug("Front Door");
  assert.notEqual(cameraSlug(slug), slug);
});

Deno.test("100,000 hostile names give as many slugs, all safe everywhere", () => {
  const random = seededRandom(20260821);
  const bits = [
    "../",
    "..\\",
    "\0",
    "CON",
    "con",
    "nul.txt",
    "%2e%2e",
    "a",
    "A",
    "é",
    "-",
    "--",
    "_",
    " ",
    "\n",
    "\u202e",
    "\ud83d\ude00",
    "\ud800",
    "$",
    "~",
    "x".repeat(60),
    "/",
    ":",
    "*",
    "0",
    "9",
    ".",
    "front",
    "Door",
    "İ",
    "ß",
    "ﬁ",
    "Å",
    "玄",
    "\u0301",
    "COM1",
    "'",
    '"',
    ";",
    "$(id)",
    "`",
    "|",
  ]; // deno-fmt-ignore
  const slugs = new Map<string, string>();
  while (slugs.size < 100_000) {
    let name = "";
    const length = 1 + Math.floor(random() * 8);
    for (let index = 0; index < length; index++) {
      name += random() < 0.7
        ? bits[Math.floor(random() * bits.length)]
        : String.fromCharCode(Math.floor(random() * 0x3000));
    }
    const slug = cameraSlug(name);
    assert.ok(isSafe(slug), `${JSON.stringify(name)} gave ${slug}`);
    assert.equal(slugs.get(slug) ?? name, name, `both gave ${slug}`);
    slugs.set(slug, name);
  }
});
