/**
 * What `cli.ts` hands to every command beside its arguments: the terminal, the clock, and the
 * signals by which the user ends it. A command gives back its exit code or throws; it never exits
 * the process and never reads `Deno.args`.
 *
 * @module
 */
import type { Clock } from "../core/types.ts";
import type { Terminal } from "./terminal.ts";

/** The surroundings of a running command. */
export interface CommandContext {
  readonly terminal: Terminal;
  readonly clock: Clock;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  /** Aborted by the first Ctrl-C or SIGTERM: finish what is open, then return. */
  readonly stop: AbortSignal;
  /** Aborted by the second one: the process ends within a second whatever the command does. */
  readonly hardStop: AbortSignal;
  /** `--debug` or `--log-level debug`: errors show where they came from. */
  readonly debug: boolean;
}
