/**
 * How much slower this machine is just now than one that has nothing else to do: a promise in seconds
 * is kept on a machine that could keep it, and a test on a busy one must not fail for that alone.
 *
 * @module
 */
import { cliCommand } from "./run_cli.ts";

/** What the program takes to tell its version on a small machine that is not busy, ms. */
const USUAL_MS = 200;
const TRIES = 3;

/** 1 on a machine that is quick enough; 4 on one that takes four times as long. */
export async function slowness(): Promise<number> {
  const times: number[] = [];
  for (let tries = 0; tries < TRIES; tries++) {
    const startMs = performance.now();
    await cliCommand(["--version"], { cwd: Deno.cwd() }).output();
    times.push(performance.now() - startMs);
  }
  return Math.max(1, Math.max(...times) / USUAL_MS);
}
