/**
 * Google allows a project and user ten commands a minute, whichever of the cameras they are for, and
 * each camera five of a kind a minute, thirty a minute and a hundred an hour. Here every command waits
 * for its turn: what keeps a stream alive goes before what opens a new one, that before what ends one,
 * and a picture comes last. Openings never take the whole minute, so that there is always room to
 * keep alive what runs.
 *
 * What was sent is remembered for as long as it counts, whether or not Google counts it too. When it
 * says 429 all the same (another program uses the project, or this one was restarted), nothing is sent
 * for a minute, then two, four, at most ten.
 *
 * @module
 */
import type { Clock } from "../../types.ts";

/** What a command is for, most urgent first. */
export const COMMAND_PURPOSES = ["extend", "generate", "stop", "image"] as const;

/** One of {@linkcode COMMAND_PURPOSES}. */
export type CommandPurpose = typeof COMMAND_PURPOSES[number];

/** A command that waits for its turn. */
export interface QuotaRequest {
  readonly purpose: CommandPurpose;
  /** The device's id. */
  readonly device: string;
  /** `GenerateRtspStream` … */
  readonly command: string;
  readonly signal: AbortSignal;
  /** Called once where it cannot be sent at once, with how long that will take at least, ms. */
  readonly onWait?: (ms: number) => void;
}

/** Turns for commands. */
export interface CommandQuota extends Disposable {
  /** Resolves when the command may be sent, and counts it. @throws the signal's reason */
  take(request: QuotaRequest): Promise<void>;
  /** Takes a turn only if there is one now. */
  tryTake(request: Omit<QuotaRequest, "signal" | "onWait">): boolean;
  /** Google refused with 429: nothing is sent for a while. Gives how long, ms. */
  refused(): number;
  /** A command was answered: the next refusal begins with a minute again. */
  accepted(): void;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
/** Of the user's commands in a minute, what stays for purposes that are more urgent. */
const SPARED: Readonly<Record<CommandPurpose, number>> = {
  extend: 0,
  generate: 2,
  stop: 3,
  image: 5,
};
/** A margin for clocks that differ and answers that take long, on windows of a minute. */
const MARGIN_MS = 1500;
const PER_COMMAND_AND_MINUTE = 4;
const PER_DEVICE_AND_MINUTE = 25;
const PER_DEVICE_AND_HOUR = 90;
const LONGEST_PENALTY_MS = 600_000;

interface Waiting {
  readonly request: QuotaRequest;
  readonly resolve: () => void;
}

/** Makes the quota of one project and user. `perMinute` is at most Google's ten. */
export function createCommandQuota(
  { clock, perMinute }: { readonly clock: Clock; readonly perMinute: number },
): CommandQuota {
  const sent = new Map<string, number[]>();
  const waiting: Waiting[] = [];
  let penaltyMs = 0;
  let penaltyEndsMs = -Infinity;
  let timer: AbortController | undefined;
  let closed = false;

  /** When `key` will have been used less than `limit` times in the last `windowMs`. */
  const freeAtMs = (key: string, limit: number, windowMs: number): number => {
    const times = sent.get(key) ?? [];
    const decisive = times.at(-limit);
    return decisive === undefined ? -Infinity : decisive + windowMs;
  };
  const note = (key: string, atMs: number) => {
    const times = sent.get(key) ?? [];
    while (times.length > 0 && (times[0] ?? 0) <= atMs - HOUR_MS - MARGIN_MS) times.shift();
    times.push(atMs);
    sent.set(key, times);
  };
  /** When it may be sent, monotonic ms. */
  const turnMs = ({ purpose, device, command }: Omit<QuotaRequest, "signal">): number => {
    const limit = Math.max(1, perMinute - SPARED[purpose]);
    const minute = MINUTE_MS + MARGIN_MS;
    return Math.max(
      penaltyEndsMs,
      freeAtMs("*", limit, minute),
      freeAtMs(`${device} ${command}`, PER_COMMAND_AND_MINUTE, minute),
      freeAtMs(device, PER_DEVICE_AND_MINUTE, minute),
      freeAtMs(device, PER_DEVICE_AND_HOUR, HOUR_MS + MARGIN_MS),
    );
  };
  const count = ({ device, command }: Omit<QuotaRequest, "signal">) => {
    const now = clock.monotonic();
    for (const key of ["*", `${device} ${command}`, device]) note(key, now);
  };
  /** Those before it: more urgent ones, and of its own purpose those that came first. */
  const byUrgency = () =>
    [...waiting].sort((a, b) =>
      COMMAND_PURPOSES.indexOf(a.request.purpose) - COMMAND_PURPOSES.indexOf(b.request.purpose)
    );

  /** Lets go whoever has its turn, and sleeps until the next one has. */
  const serve = () => {
    timer?.abort();
    timer = undefined;
    const now = clock.monotonic();
    let nextMs = Infinity;
    for (const one of byUrgency()) {
      const atMs = turnMs(one.request);
      if (atMs <= now) {
        waiting.splice(waiting.indexOf(one), 1);
        count(one.request);
        one.resolve();
      } else nextMs = Math.min(nextMs, atMs);
    }
    if (closed || nextMs === Infinity) return;
    const own = timer = new AbortController();
    clock.sleep(nextMs - now, { signal: own.signal }).then(serve, () => {}); // told anew
  };

  return {
    take(request) {
      const { signal } = request;
      return new Promise((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason);
        const leave = () => {
          const index = waiting.indexOf(one);
          if (index >= 0) waiting.splice(index, 1);
          reject(signal.reason);
          serve();
        };
        const one: Waiting = {
          request,
          resolve: () => {
            signal.removeEventListener("abort", leave);
            resolve();
          },
        };
        signal.addEventListener("abort", leave, { once: true });
        waiting.push(one);
        serve();
        if (waiting.includes(one)) {
          request.onWait?.(Math.max(0, turnMs(request) - clock.monotonic()));
        }
      });
    },
    tryTake(request) {
      if (turnMs(request) > clock.monotonic()) return false;
      count(request);
      return true;
    },
    refused() {
      const now = clock.monotonic();
      // Several that were under way together are one refusal.
      if (penaltyEndsMs <= now) {
        penaltyMs = Math.min(LONGEST_PENALTY_MS, penaltyMs === 0 ? MINUTE_MS : penaltyMs * 2);
        penaltyEndsMs = now + penaltyMs;
      }
      serve();
      return penaltyEndsMs - now;
    },
    accepted() {
      penaltyMs = 0;
    },
    [Symbol.dispose]() {
      closed = true;
      timer?.abort();
    },
  };
}
