/**
 * Runs the conformance kit as tests: one test per sink, a step per case. A case that does not apply
 * is a step that is left out, with the reason in its name.
 *
 * @module
 */
import { type KitReport, runKit, type SinkHost, type SinkTest } from "../../kit/mod.ts";

/** How long a busy machine is waited for. */
export const PATIENT = { soonMs: 60_000, limits: { startMs: 240_000, stopMs: 60_000 } };

/** What a failed case says, whole. */
export function failures({ cases }: KitReport): string[] {
  return cases.filter(({ outcome }) => outcome === "failed")
    .map(({ id, detail }) => `${id}: ${detail}`);
}

/** Declares the kit's test of one sink. */
export function testWithKit(
  name: string,
  options: {
    readonly host: SinkHost | (() => Promise<SinkHost>);
    readonly test: SinkTest;
    readonly skip?: string | undefined;
  },
): void {
  const { skip, test } = options;
  Deno.test({
    name: `${name}: the conformance kit${skip ? ` (skipped: ${skip})` : ""}`,
    ignore: skip !== undefined,
    fn: async (t) => {
      await using host = typeof options.host === "function" ? await options.host() : options.host;
      const { cases, ok } = await runKit({ host, test, soonMs: PATIENT.soonMs });
      for (const { id, title, outcome, detail } of cases) {
        const suffix = outcome === "not-applicable" ? ` (does not apply: ${detail})` : "";
        await t.step({
          name: `${id}: ${title}${suffix}`,
          ignore: outcome === "not-applicable",
          fn: () => {
            if (outcome === "failed") throw new Error(detail);
          },
        });
      }
      if (!ok) throw new Error(`${name} does not pass the conformance kit`);
    },
  });
}
