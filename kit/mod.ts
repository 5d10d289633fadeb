/**
 * The conformance kit: what every sink must do, whatever it stores to, tried through a proxy that
 * breaks things. `camsink plugin test` runs it, and so do the tests of every sink that we ship.
 *
 * @module
 */
export type {
  SinkTest,
  SinkTestAnswer,
  SinkTestContext,
  SinkTestObject,
  SinkTestServer,
  StoreAbilities,
} from "./contract.ts";
export { objectsInFolder } from "./folder.ts";
export { isolated } from "./isolated.ts";
export { type ConfigIssue, inProcess, type OpenedSink, type SinkHost } from "./open_sink.ts";
export { type CaseReport, type KitOptions, type KitReport, runKit } from "./run.ts";
export { KIT_CASES } from "./cases/mod.ts";
