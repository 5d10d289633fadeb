/**
 * The quotas of a Device Access sandbox project, enforced: per project and user and minute 10
 * commands, 10 `devices.get`, 5 of each list; per command and device 5 a minute; per device 30 a
 * minute and 100 an hour. The windows slide, which is the strictest reading. What is refused does
 * not count.
 *
 * @module
 */
import type { Clock } from "../../core/types.ts";
import type { Reply } from "../http_server.ts";
import { googleError } from "./google_error.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

/** Calls of the user in a minute, by the API's name in the refusal. */
const PER_USER: Readonly<Record<string, number>> = {
  ExecuteDeviceCommand: 10,
  GetDevice: 10,
  ListDevices: 5,
  GetStructure: 5,
  ListStructures: 5,
  GetRoom: 5,
  ListRooms: 5,
};

/** What was used at most, for tests: these must stay within the quota. */
export interface QuotaPeaks {
  /** Commands of the user in any 60 s. */
  readonly commandsPerMinute: number;
  /** Commands of one device in any hour. */
  readonly deviceCommandsPerHour: number;
  /** Times that a quota was exceeded, so that a call was refused with 429. */
  readonly refused: number;
}

/** The quotas of one project and user. */
export interface QuotaDesk {
  /** Counts a call, or gives the refusal. `api` is a key of the table above. */
  call(api: string): Reply | undefined;
  /** Counts a command of a device, which is a call of `ExecuteDeviceCommand` too. */
  command(name: string, device: string): Reply | undefined;
  readonly peaks: QuotaPeaks;
}

/** Makes a desk at which nothing has been used. `enforced: false` only counts. */
export function createQuotaDesk(
  { clock, enforced = true }: { readonly clock: Clock; readonly enforced?: boolean },
): QuotaDesk {
  const used = new Map<string, number[]>();
  const peaks = { commandsPerMinute: 0, deviceCommandsPerHour: 0, refused: 0 };

  /** How often `key` was used in the last `windowMs`. */
  const within = (key: string, windowMs: number): number => {
    const since = clock.monotonic() - windowMs;
    const times = used.get(key) ?? [];
    while (times.length > 0 && (times[0] ?? 0) <= since - HOUR_MS) times.shift();
    return times.length - times.findLastIndex((time) => time <= since) - 1;
  };
  const count = (key: string) => {
    const times = used.get(key) ?? [];
    times.push(clock.monotonic());
    used.set(key, times);
  };
  const refuse = (message: string): Reply | undefined => {
    peaks.refused++;
    return enforced ? googleError("RESOURCE_EXHAUSTED", message) : undefined;
  };

  return {
    peaks,
    call(api) {
      if (within(api, MINUTE_MS) >= (PER_USER[api] ?? Infinity)) {
        return refuse(`Rate limited for the ${api} API for the user.`);
      }
      count(api);
      return undefined;
    },
    command(name, device) {
      const own = `${name} ${device}`;
      const refusal = within("ExecuteDeviceCommand", MINUTE_MS) >= 10
        ? refuse("Rate limited for the ExecuteDeviceCommand API for the user.")
        : within(own, MINUTE_MS) >= 5
        ? refuse(`Rate limited for the ${name} command for the user.`)
        : within(device, MINUTE_MS) >= 30 || within(device, HOUR_MS) >= 100
        ? refuse("Rate limited for the ExecuteDeviceCommand API for the device.")
        : undefined;
      if (refusal !== undefined) return refusal;
      for (const key of ["ExecuteDeviceCommand", own, device]) count(key);
      peaks.commandsPerMinute = Math.max(
        peaks.commandsPerMinute,
        within("ExecuteDeviceCommand", MINUTE_MS),
      );
      peaks.deviceCommandsPerHour = Math.max(peaks.deviceCommandsPerHour, within(device, HOUR_MS));
      return undefined;
    },
  };
}
