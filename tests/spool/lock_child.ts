/**
 * A process that opens a spool, says so, and keeps it until its input ends; for `lock_test.ts`.
 *
 * @module
 */
import { systemClock } from "../../core/clock.ts";
import { openSpool } from "../../core/spool/mod.ts";
import { recoverToyClip } from "../support/toy_clip.ts";

const quiet = () => {};
try {
  await using spool = await openSpool({
    path: Deno.args[0] ?? "",
    clock: systemClock,
    log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    sinks: [],
    recover: recoverToyClip,
  });
  console.log(`open ${spool.recovery.recovered}`);
  for await (const _ of Deno.stdin.readable) break;
} catch (error) {
  const { exitCode, pid } = error as { exitCode?: number; pid?: number };
  console.log(`refused ${exitCode} ${pid}`);
}
