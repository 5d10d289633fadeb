/**
 * Finds pictures that show what the last encoded one shows, for an engine that is given JPEGs: such a
 * picture need be neither decoded nor encoded. Comparing costs a quarter of encoding, so it is not
 * done all the time where the camera sees something move: after each comparison in vain, twice as many
 * pictures pass before the next.
 *
 * @module
 */
import { JpegPlanes, type PlanesFormat } from "../media/jpeg_planes.ts";
import { LONGEST_REPEAT_MS } from "./engine.ts";

/** The first comparisons, from which it learns where in the picture it is how noisy. */
const LEARNING = 4;
/** Most pictures that pass between two comparisons. */
const LONGEST_REST = 16;

/** For one camera. */
export class RepeatFinder {
  #planes: JpegPlanes | undefined;
  /** The last encoded picture is the one remembered. */
  #knowsLast = false;
  #encodedAtMs = 0;
  #inVain = 0;
  #rest = 0;

  /** A new GOP begins: its first picture is encoded in any case. */
  begin(format: PlanesFormat): void {
    if (!this.#planes?.fits(format)) {
      this.#planes = new JpegPlanes(format);
      this.#inVain = 0;
    }
    this.#encodedAtMs = -Infinity;
    this.#knowsLast = false;
  }

  /** Whether the picture need not be encoded; if it must, it will be. */
  isRepeat(jpeg: Uint8Array, atMs: number): boolean {
    const planes = this.#planes;
    if (!planes) return false;
    try {
      if (this.#knowsLast) {
        if (!planes.differs(jpeg)) {
          this.#inVain = 0;
          if (atMs - this.#encodedAtMs < LONGEST_REPEAT_MS) return true;
          this.#encodedAtMs = atMs;
          return false;
        }
        this.#inVain++;
        this.#rest = Math.min(2 ** Math.max(0, this.#inVain - LEARNING) - 1, LONGEST_REST);
        this.#knowsLast = false;
      }
      this.#encodedAtMs = atMs;
      if (this.#rest > 0) this.#rest--;
      else {
        planes.remember(jpeg);
        this.#knowsLast = true;
      }
    } catch {
      this.#knowsLast = false; // damaged: the engine will tell
    }
    return false;
  }
}
