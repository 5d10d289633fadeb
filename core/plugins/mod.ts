/**
 * Sinks that others wrote: looked through, approved by the user, and run where they can do no harm.
 *
 * @module
 */
export {
  type Approval,
  type Approvals,
  approvalsPath,
  readApprovals,
  writeApprovals,
} from "./approvals.ts";
export { PluginError, type PluginGraph, readPluginGraph } from "./graph.ts";
export type { PluginAbout } from "./messages.ts";
export type { PluginLimits } from "./process.ts";
export { type Granted, type Rights, rightsOf } from "./rights.ts";
export { secretTexts } from "./secrets.ts";
export {
  describePlugin,
  isPluginSink,
  openDescriber,
  openPluginSink,
  type PluginDescriber,
  type PluginSink,
  type PluginSinkOptions,
} from "./sink.ts";
