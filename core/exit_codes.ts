/**
 * Every exit code of the command line, in one place, so that scripts and service managers can rely
 * on them; the numbers are those of BSD's `sysexits.h` where it has one. An error that should end
 * the program with a code of its own carries it as `exitCode`: a mark, not a class to test for.
 *
 * @module
 */

/** The exit codes, each with the one thing it says. */
export const EXIT = {
  /** All went well; also a recording that was asked to stop. */
  ok: 0,
  /** Something failed that no other code tells. */
  failure: 1,
  /** The command line was not understood. */
  usage: 2,
  /** A camera, a cloud, a sink or an encoder that is needed cannot be reached or used. */
  unavailable: 69,
  /** The disk is full or failed. */
  disk: 74,
  /** Not now: another Camsink has the spool. */
  temporary: 75,
  /** A login was refused, or a right is missing. */
  denied: 77,
  /** The configuration is missing or wrong, or a newer release made the spool. */
  config: 78,
  /** Stopped at once by a second Ctrl-C. */
  interrupted: 130,
} as const;

/** One of the numbers in {@linkcode EXIT}. */
export type ExitCode = typeof EXIT[keyof typeof EXIT];

const KNOWN: ReadonlySet<number> = new Set(Object.values(EXIT));

function isExitCode(value: unknown): value is ExitCode {
  return typeof value === "number" && KNOWN.has(value);
}

/**
 * The code with which an uncaught error ends the program: the one marked on it or on what caused
 * it, else what its source or sink kind means, else 1.
 */
export function exitCodeOf(error: unknown): ExitCode {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 10; depth++) {
    if ("exitCode" in at && isExitCode(at.exitCode)) return at.exitCode;
    if ("sourceErrorKind" in at) {
      return at.sourceErrorKind === "auth" ? EXIT.denied : EXIT.unavailable;
    }
    if ("sinkErrorKind" in at) return at.sinkErrorKind === "auth" ? EXIT.denied : EXIT.unavailable;
    at = at.cause;
  }
  return EXIT.failure;
}

/** Marks an error with the code that it should end the program with, and gives it back. */
export function withExitCode<E extends Error>(error: E, exitCode: ExitCode): E {
  return Object.assign(error, { exitCode });
}
