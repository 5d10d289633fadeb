/**
 * What the spool gives out: clips with a place on the disk, and the shape of a torn clip's repair.
 *
 * @module
 */
import type { Clip, PutResult } from "../types.ts";
import type { ClipState } from "./catalogue.ts";

/** A finished clip on the spool. */
export interface SpooledClip extends Clip {
  /** Where the file lies, for those who can read it themselves. */
  readonly path: string;
  readonly tags: readonly string[];
  /** Pictures in the clip. */
  readonly frames: number;
  /** It was cut short by a crash and repaired. */
  readonly recovered: boolean;
  /** Retention leaves it alone. */
  readonly pinned: boolean;
  /** `gone` when the spool removed the file, `lost` when somebody else did. */
  readonly state: ClipState;
}

/** The sink's proof, with what was compared. Kept with the clip's row. */
export interface Receipt extends PutResult {
  readonly bytes?: number;
  /** Lower-case hex. */
  readonly sha256?: string;
  /** Lower-case hex. */
  readonly md5?: string;
}

/** An interrupted clip's file, to look into. */
export interface TornFile {
  readonly size: number;
  /** Gives fewer bytes than asked only at the end of the file. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** What an interrupted clip holds. */
export interface RepairedContents {
  /** What the pictures cover, ms. */
  readonly durationMs: number;
  readonly frames: number;
  /** Whose it is and when it began, where the file says so: for a clip that lost its sidecar. */
  readonly camera?: string;
  readonly startMs?: number;
}

/**
 * How to make a whole clip of an interrupted one: keep the first `keepBytes`, write `tail` after
 * them, then `patch` over what is there. `finished` files are whole as they are; `empty` ones hold
 * no picture.
 */
export type Repair =
  | { readonly state: "empty" }
  | ({ readonly state: "finished" } & RepairedContents)
  | ({
    readonly state: "torn";
    readonly keepBytes: number;
    readonly tail: readonly Uint8Array[];
    readonly patch?: { readonly offset: number; readonly bytes: Uint8Array };
  } & RepairedContents);

/** Finds out how to repair an interrupted clip. It knows the format; the spool knows the disk. */
export type RecoverTornClip = (file: TornFile) => Promise<Repair>;
