/**
 * How long to wait after a failure: what recorder and archiver have in common.
 *
 * @module
 */

/** Pause before the spool is tried again after it refused a write. */
export const SPOOL_RETRY_MS = 5000;

/** The disk is full or faulty: not the camera's fault, and to be noticed soon when it is mended. */
export function isSpoolError(error: unknown): boolean {
  return error instanceof Error && "spoolErrorKind" in error;
}

/** How long an error asks to be waited for, ms. */
export function retryAfterMs(error: unknown): number {
  return error instanceof Error && "retryAfterMs" in error && typeof error.retryAfterMs === "number"
    ? error.retryAfterMs
    : 0;
}
