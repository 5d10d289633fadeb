/**
 * Google's error bodies, as the Device Access API gives them: an object `error` with the HTTP code, a
 * message, and the name of the code. A refusal of a quota repeats its message in a list.
 *
 * @module
 */
import { json, type Reply } from "../http_server.ts";

/** Names of Google's error codes with the HTTP status that each travels with. */
const STATUS = {
  INVALID_ARGUMENT: 400,
  FAILED_PRECONDITION: 400,
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  NOT_FOUND: 404,
  ABORTED: 409,
  RESOURCE_EXHAUSTED: 429,
  INTERNAL: 500,
  UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
} as const;

/** One of Google's error codes. */
export type GoogleStatus = keyof typeof STATUS;

/** An answer that refuses. `reason` goes into a header that real servers do not have. */
export function googleError(status: GoogleStatus, message: string, reason = message): Reply {
  const code = STATUS[status];
  const errors = status === "RESOURCE_EXHAUSTED"
    ? { errors: [{ message, domain: "global", reason: "rateLimitExceeded" }] }
    : {};
  return json({ error: { code, message, ...errors, status } }, {
    status: code,
    headers: { "x-simulator-reason": reason },
  });
}

/** The answer for an HTTP status that a fault asked for. */
export function googleErrorOf(httpStatus: number): Reply {
  const known = Object.entries(STATUS).find(([, code]) => code === httpStatus)?.[0];
  const status = (known ?? "UNKNOWN") as GoogleStatus;
  if (status === "RESOURCE_EXHAUSTED") {
    return googleError(status, "Rate limited for the ExecuteDeviceCommand API for the user.");
  }
  return known === undefined
    ? json({ error: { code: httpStatus, message: "Unknown error.", status: "UNKNOWN" } }, {
      status: httpStatus,
    })
    : googleError(status, `The simulated fault ${httpStatus}.`);
}
