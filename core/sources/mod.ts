/**
 * Every kind of camera and account that a configuration may name in `type`, as two visible tables.
 * To add a kind, write its file and add its line here.
 *
 * @module
 */
import type * as v from "valibot";
import type { Account, AnyCamera, Source } from "../types.ts";
import type { SourceContext } from "./context.ts";
import { openGoogleSdmAccount } from "./google/account.ts";
import { googleSdmOptions } from "./google/options.ts";
import { openGoogleHomeAccount } from "./google_home/account.ts";
import { googleHomeOptions } from "./google_home/options.ts";
import { openNestAccount } from "./nest/account.ts";
import { nestOptions } from "./nest/options.ts";
import { mjpegOptions, mjpegSource } from "./mjpeg/camera.ts";
import { onvifOptions, onvifSource } from "./onvif/camera.ts";
import { rtspOptions, rtspSource } from "./rtsp/camera.ts";
import { snapshotOptions, snapshotSource } from "./snapshot.ts";

export type { SourceContext } from "./context.ts";

/** A kind of account or camera: how its options are checked, and how it is opened with them. */
export interface SourceType<Options extends v.GenericSchema, Opened> {
  /** The schema of the options, without `type`; each key has its description. */
  readonly options: Options;
  /** Every camera of this kind gives JPEGs, which are encoded. */
  readonly givesJpegs?: boolean;
  /** Opens it with validated options; nothing is sent yet. */
  open(options: v.InferOutput<Options>, context: SourceContext): Opened;
}

/** Kinds of accounts by the name that `type` gives. */
export const accountTypes: {
  readonly "google-sdm": SourceType<typeof googleSdmOptions, Account>;
  readonly "google-home": SourceType<typeof googleHomeOptions, Account<AnyCamera>>;
  readonly nest: SourceType<typeof nestOptions, Account>;
} = {
  "google-sdm": { options: googleSdmOptions, open: openGoogleSdmAccount },
  "google-home": { options: googleHomeOptions, open: openGoogleHomeAccount },
  nest: { options: nestOptions, open: openNestAccount },
};

/** Kinds of single cameras by the name that `type` gives. */
export const cameraTypes: {
  readonly mjpeg: SourceType<typeof mjpegOptions, Source>;
  readonly onvif: SourceType<typeof onvifOptions, Source>;
  readonly rtsp: SourceType<typeof rtspOptions, Source>;
  readonly snapshot: SourceType<typeof snapshotOptions, Source>;
} = {
  mjpeg: { options: mjpegOptions, givesJpegs: true, open: mjpegSource },
  onvif: { options: onvifOptions, open: onvifSource },
  rtsp: { options: rtspOptions, open: rtspSource },
  snapshot: { options: snapshotOptions, givesJpegs: true, open: snapshotSource },
};
