/**
 * Every case of the conformance kit, in the order in which they run.
 *
 * @module
 */
import { byteCases } from "./bytes.ts";
import type { KitCase } from "./case.ts";
import { networkCases } from "./network.ts";
import { stopCases } from "./stops.ts";
import { configCases, lastCases, storeCases } from "./store.ts";

/** The table. */
export const KIT_CASES: readonly KitCase[] = [
  ...configCases,
  ...byteCases,
  ...stopCases,
  ...networkCases,
  ...storeCases,
  ...lastCases,
];
