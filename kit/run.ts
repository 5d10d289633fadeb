/**
 * Runs the conformance kit: every case against one sink, one after the other, with a report of what
 * held, what did not and what does not apply.
 *
 * @module
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../core/types.ts";
import { systemClock } from "../core/clock.ts";
import { Bench, brief, CaseFailed, NotApplicable } from "./bench.ts";
import type { KitCase } from "./cases/case.ts";
import { KIT_CASES } from "./cases/mod.ts";
import type { SinkTest } from "./contract.ts";
import type { SinkHost } from "./open_sink.ts";

/** What became of one case. */
export interface CaseReport {
  /** Names the case. */
  readonly id: string;
  /** What must hold. */
  readonly title: string;
  /** A case that does not apply has held nothing. */
  readonly outcome: "passed" | "failed" | "not-applicable";
  /** What was seen, or why it does not apply; things worth telling of a case that passed. */
  readonly detail?: string;
  /** Of a case that failed. */
  readonly why?: string;
  /** Of a case that failed. */
  readonly fix?: string;
  /** How long it took. */
  readonly tookMs: number;
}

/** What became of all. */
export interface KitReport {
  /** The sink's type. */
  readonly sink: string;
  /** Where it ran. */
  readonly how: string;
  /** In the order in which they ran. */
  readonly cases: readonly CaseReport[];
  /** Nothing failed. */
  readonly ok: boolean;
  /** The whole run. */
  readonly tookMs: number;
}

/** How the kit is run. */
export interface KitOptions {
  /** Opens the sink. */
  readonly host: SinkHost;
  /** Starts its server. */
  readonly test: SinkTest;
  /** Only cases with these ids. */
  readonly only?: readonly string[];
  /** Told of each case when it is over. */
  readonly onCase?: (report: CaseReport) => void;
  /** Gives up between two cases. */
  readonly signal?: AbortSignal;
  /** What has to end soon (an abort, a close) gets so long, ms; 5000 by default. */
  readonly soonMs?: number;
  /** For durations. */
  readonly clock?: Clock;
}

/**
 * Runs the kit.
 *
 * @throws if the server cannot be started, or an id of `only` is not known
 */
export async function runKit(options: KitOptions): Promise<KitReport> {
  const { host, test, only, onCase, soonMs, signal, clock = systemClock } = options;
  for (const id of only ?? []) {
    if (KIT_CASES.some((one) => one.id === id)) continue;
    throw new Error(
      `there is no case ${JSON.stringify(id)}; expected one of ${
        KIT_CASES.map((one) => one.id).join(", ")
      }`,
    );
  }
  const startedAtMs = clock.monotonic();
  const stop = new AbortController();
  const folder = await mkdtemp(join(tmpdir(), "camsink-kit-server-"));
  try {
    await using server = await test.start({
      folder,
      signal: AbortSignal.any([stop.signal, ...(signal ? [signal] : [])]),
    });
    const cases: CaseReport[] = [];
    await using bench = await Bench.start(host, server, { soonMs });
    for (const one of KIT_CASES) {
      signal?.throwIfAborted();
      if (only !== undefined && !only.includes(one.id)) continue;
      const report = await runCase(one, bench, clock);
      cases.push(report);
      onCase?.(report);
    }
    return {
      sink: host.type,
      how: host.how,
      cases,
      ok: cases.every(({ outcome }) => outcome !== "failed"),
      tookMs: clock.monotonic() - startedAtMs,
    };
  } finally {
    stop.abort();
    await rm(folder, { recursive: true, force: true });
  }
}

async function runCase(
  one: KitCase,
  bench: Bench,
  clock: Clock,
): Promise<CaseReport> {
  const startedAtMs = clock.monotonic();
  const report = (outcome: CaseReport["outcome"], detail?: string): CaseReport => ({
    id: one.id,
    title: one.title,
    outcome,
    ...(detail === undefined ? {} : { detail }),
    ...(outcome === "failed" ? { why: one.why, fix: one.fix } : {}),
    tookMs: clock.monotonic() - startedAtMs,
  });
  bench.notes.length = 0;
  try {
    await one.run(bench);
    return report("passed", bench.notes.length > 0 ? bench.notes.join("; ") : undefined);
  } catch (error) {
    if (error instanceof NotApplicable) return report("not-applicable", error.message);
    await bench.renew();
    return report(
      "failed",
      error instanceof CaseFailed ? error.message : `an unexpected error: ${brief(error)}`,
    );
  } finally {
    bench.heal();
  }
}
