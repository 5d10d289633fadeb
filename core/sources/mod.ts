/**
 * Every kind of camera and account that a configuration may name in `type`, as two visible tables.
 * To add a kind, write its file and add its line here.
 *
 * @module
 */
import type * as v from "valibot";
import type { Account, Source } from "../types.ts";
import type { SourceContext } from "./context.ts";
import { openNestAccount } from "./nest/account.ts";
import { nestOptions } from "./nest/options.ts";
import { snapshotOptions, snapshotSource } from "./snapshot.ts";

export type { SourceContext } from "./context.ts";

/** A kind of account or camera: how its options are checked, and how it is opened with them. */
export interface SourceType<Options extends v.GenericSchema, Opened> {
  /** The schema of the options, without `type`; each key has its description. */
  readonly options: Options;
  /** Opens it with validated options; nothing is sent yet. */
  open(options: v.InferOutput<Options>, context: SourceContext): Opened;
}

/** Kinds of accounts by the name that `type` gives. */
export const accountTypes: {
  readonly nest: SourceType<typeof nestOptions, Account>;
} = {
  nest: { options: nestOptions, open: openNestAccount },
};

/** Kinds of single cameras by the name that `type` gives. */
export const cameraTypes: {
  readonly snapshot: SourceType<typeof snapshotOptions, Source>;
} = {
  snapshot: { options: snapshotOptions, open: snapshotSource },
};
