/**
 * Brings clips from the spool to the sinks, each sink for itself, for as long as it takes.
 *
 * @module
 */
export { conflictKey, type DeliverySpool, type Receipt } from "./contract.ts";
export { createDelivery, type Delivery, type DeliveryOptions } from "./delivery.ts";
export {
  type Mismatch,
  type MismatchKind,
  reconcile,
  type ReconcileOptions,
  type Reconciliation,
} from "./reconcile.ts";
export { keepRetention, type RetentionOptions } from "./sink_retention.ts";
export { secretsIn } from "./secrets.ts";
