/**
 * Turns what an owner calls a camera into the name of its folders and containers.
 *
 * A slug is 3 to 48 lower-case ASCII letters, digits and single dashes, begins and ends with a
 * letter or digit, and is no device name of Windows: so it is a folder on every file system, part
 * of any URL as it is, and a valid Azure container name (3 to 63 characters, no two dashes in a
 * row, https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata).
 * It is a pure function of the name, the same on every machine and in every release. A name that is
 * already a slug stays as it is; any other name gets a hash of its exact spelling at the end, so
 * that "Front Door", "front_door" and "Front door" never share a folder.
 *
 * @module
 */
import { createHash } from "node:crypto";

const MAX_LENGTH = 48;
/** Crockford's base 32: no letter that is easily taken for a digit. */
const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
/** What {@linkcode hashOf} makes; the leading digit keeps `back-entrance` from looking like one. */
const HASH_SUFFIX = /-[0-9][0-9a-hjkmnp-tv-z]{7}$/;
/** Names that Windows keeps for devices, with or without an extension. */
const WINDOWS_DEVICE = /^(con|prn|aux|nul|com[0-9]|lpt[0-9])$/;

/**
 * The slug of a camera.
 *
 * @param name what the owner calls it: any string at all
 * @param id where two cameras have one name, what tells them apart (the account's id of the camera)
 */
export function cameraSlug(name: string, id?: string): string {
  const plain = name
    .normalize("NFKD") // é becomes e and an accent, which the next line drops
    .replace(/[\u0300-\u036f]/g, "")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  const isExact = id === undefined && plain === name && name.length >= 3 &&
    name.length <= MAX_LENGTH && !WINDOWS_DEVICE.test(name) && !HASH_SUFFIX.test(name);
  if (isExact) return name;
  const hash = hashOf(id === undefined ? [name] : [name, id]);
  const base = plain.slice(0, MAX_LENGTH - hash.length - 1).replace(/-$/, "") || "camera";
  return `${base}-${hash}`;
}

/** One digit and seven letters or digits: 38 bits, enough to tell a million cameras apart. */
function hashOf(parts: readonly string[]): string {
  // JSON spells lone surrogates out, which UTF-8 would all turn into the same character.
  const digest = createHash("sha256").update(JSON.stringify(parts)).digest();
  let text = String((digest[0] ?? 0) % 10);
  for (const byte of digest.subarray(1, 8)) text += ALPHABET[byte % 32];
  return text;
}
