/**
 * The spool's door: what other rooms use of it.
 *
 * @module
 */
export type { Backlog, ClipFilter, ClipState, Delivery, DeliveryState } from "./catalogue.ts";
export type { NewClip, Spool, SpoolOptions } from "./contract.ts";
export { type SpoolError, spoolErrorKind } from "./errors.ts";
export type { SpoolErrorKind } from "./errors.ts";
export type { JournalOwner, JournalPicture, LeftJournal, PictureJournal } from "./journal.ts";
export type { ClipEnd, OpenClip } from "./open_clip.ts";
export type { RecoveryReport } from "./recovery.ts";
export type { SpoolSpace, WhenFull } from "./retention.ts";
export { cameraSlug } from "./slug.ts";
export { openSpool } from "./spool.ts";
export { openSpoolView, type SpoolView } from "./view.ts";
export type { Receipt, RecoverTornClip, Repair, SpooledClip, TornFile } from "./types.ts";
