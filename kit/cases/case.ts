/**
 * What a case of the conformance kit is made of, and the conditions that several share.
 *
 * @module
 */
import { type Bench, CaseFailed, NotApplicable } from "../bench.ts";

/** One thing that every sink must do. */
export interface KitCase {
  /** Names it in reports. */
  readonly id: string;
  /** What must hold, as a sentence. */
  readonly title: string;
  /** What goes wrong for users where it does not hold. */
  readonly why: string;
  /** What the author does about it. */
  readonly fix: string;
  /** Holds, or throws. */
  run(bench: Bench): Promise<void>;
}

/** Larger than what sinks send in one go. */
export const LARGE_BYTES = 9 * 2 ** 20;

/** Fails the case. */
export function fail(message: string): never {
  throw new CaseFailed(message);
}

/** Leaves the case out. */
export function notApplicable(reason: string): never {
  throw new NotApplicable(reason);
}

/** For cases about the bytes of clips. */
export function needsBytes({ server }: Bench): void {
  if (server.carries === "events") {
    notApplicable("this sink tells of clips and does not carry their bytes");
  }
}

/** For cases where the sink has to find out what the store holds. */
export function needsAnswers({ server }: Bench): void {
  if (server.store?.canBeAsked === false) {
    notApplicable("the store cannot be asked what it holds: see put-again");
  }
}

/** For cases about what networks do. */
export function needsNetwork({ http, tcp }: Bench): void {
  if (!http && !tcp) notApplicable("nothing goes over a network here");
}

/** For cases about HTTP's answers. */
export function needsHttp({ http, tcp }: Bench): NonNullable<Bench["http"]> {
  if (http) return http;
  notApplicable(tcp ? "this protocol is not HTTP" : "nothing goes over a network here");
}

/** For cases about credentials. */
export function needsSecrets({ server }: Bench): void {
  if (Object.keys(server.secrets ?? {}).length === 0) {
    notApplicable("this sink's test names no secret");
  }
}
