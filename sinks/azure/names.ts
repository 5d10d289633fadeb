/**
 * Names that Azure takes. A container name has 3 to 63 lower-case letters, digits and single dashes
 * and begins and ends with a letter or digit; blob metadata travels in HTTP headers, so ASCII only;
 * a tag's value has at most 256 letters, digits, spaces and `+ - . / : = _`
 * (https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata).
 *
 * @module
 */
import { createHash } from "node:crypto";
import { type Clip, SinkError } from "../../mod.ts";

/** Stands for the camera's slug in a container template. */
export const CAMERA = "{camera}";

/** Where in the account a key lies. */
export interface Place {
  readonly container: string;
  readonly blob: string;
}

/**
 * Where a key lies. With `{camera}` in the container's name the camera's folder is left out of the
 * blob's name, which would only repeat it: `yard/2026/08/21/….mp4` in container `yard`.
 */
export function placeOf(
  key: string,
  options: { readonly container: string; readonly prefix: string },
): Place {
  if (key.split("/").some((part) => part === "" || part === "." || part === "..")) {
    // In a URL such parts would be undone, and the blob would get another key's name.
    throw new SinkError(
      "permanent",
      `the key ${JSON.stringify(key)} has an empty part, "." or ".." in it, so it is not stored`,
    );
  }
  const slash = key.indexOf("/");
  const slug = slash < 0 ? key : key.slice(0, slash);
  const perCamera = options.container.includes(CAMERA);
  return {
    container: perCamera ? containerName(options.container, slug) : options.container,
    blob: options.prefix + (perCamera && slash >= 0 ? key.slice(slash + 1) : key),
  };
}

/** Fills a template and makes the outcome a valid name; names that differ stay different. */
export function containerName(template: string, slug: string): string {
  const wanted = template.replaceAll(CAMERA, slug);
  const valid = wanted.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  if (valid === wanted && valid.length >= 3 && valid.length <= 63) return valid;
  // The name had to be changed, so two cameras could end up with the same one: a hash tells them apart.
  const hash = createHash("sha256").update(wanted).digest("hex").slice(0, 8);
  const base = valid.slice(0, 54).replace(/-$/, "");
  return base === "" ? `cam-${hash}` : `${base}-${hash}`;
}

/** What a blob says about its clip, in every listing and download. */
export function metadataOf(clip: Clip): Record<string, string> {
  return {
    // Percent-encoding, as in a URL, for what a header cannot carry; plain names stay readable.
    camera: clip.camera.replace(/[^\x20-\x24\x26-\x7e]/gu, encodeCharacter).trim().slice(0, 1000),
    start: clip.start.toISOString(),
    end: clip.end.toISOString(),
    sha256: clip.sha256,
    // As they were when it was stored.
    ...(clip.tags?.length ? { tags: clip.tags.join(" ").slice(0, 1000) } : {}),
  };
}

/** Tags are an index over all containers: "every clip of the 21st". */
export function tagsOf(clip: Clip): Record<string, string> {
  const start = clip.start.toISOString();
  return {
    camera: (clip.key.split("/")[0] ?? "").slice(0, 256),
    day: start.slice(0, 10),
    start,
    end: clip.end.toISOString(),
    sha256: clip.sha256,
  };
}

function encodeCharacter(character: string): string {
  // A lone surrogate has no UTF-8 form, and encodeURIComponent throws on it.
  return encodeURIComponent(character.toWellFormed());
}
