/**
 * The one error that the media room throws. Bytes from cameras and torn files are untrusted: whatever
 * they hold, a parser here either understands them or throws this.
 *
 * @module
 */

/** Bytes that are not what they should be, or a wish that the format cannot hold. */
export class MediaError extends Error {
  override readonly name = "MediaError";
}
