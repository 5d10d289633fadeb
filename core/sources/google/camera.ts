/**
 * One camera of a Device Access project as a source. How it streams is looked at anew for every
 * stream: a camera that its owner moves from the Nest app to Google Home changes from RTSP to WebRTC
 * while it is being recorded.
 *
 * @module
 */
import { type Log, type Source, sourceError } from "../../types.ts";
import { googleStatusOf, type SdmApi } from "./api.ts";
import type { SdmDevice, SdmProtocol } from "./devices.ts";
import { type Leg, openJoinedSession } from "./joined_session.ts";
import type { CommandQuota } from "./quota.ts";
import { openStream, type SdmTransports, type StreamHabits } from "./streams.ts";

/** What a camera works with. */
export interface SdmCameraOptions {
  readonly api: SdmApi;
  readonly quota: CommandQuota;
  readonly transports: SdmTransports;
  readonly log: Log;
  readonly random: () => number;
  /** Ends everything when the account is closed. */
  readonly closing: AbortSignal;
  /** Streams that Google is being told the end of. */
  readonly stopping: Set<Promise<void>>;
  /** The camera as told last; `undefined` when it is no longer in the project. */
  latest(): SdmDevice | undefined;
  /** Asks for it anew. */
  refresh(signal: AbortSignal): Promise<SdmDevice | undefined>;
}

/** What protocols are called for people. */
export const PROTOCOL_NAMES: Readonly<Record<SdmProtocol, string>> = {
  RTSP: "RTSP",
  WEB_RTC: "WebRTC",
};

/**
 * A stream may have to wait for its turn among all cameras of the account, and a WebRTC camera takes
 * up to 12 s for its first key picture.
 */
const OPEN_WITHIN_MS = 420_000;

/** The camera as a source. */
export function sdmCameraSource(options: SdmCameraOptions): Source {
  const { api, log, closing, latest, refresh } = options;
  const habits: StreamHabits = { canExtend: true, allowsTwo: true };
  let openStreams = 0;

  const openLeg = async (signal: AbortSignal): Promise<Leg> => {
    const device = latest();
    if (device === undefined) {
      throw sourceError("gone", "the camera is no longer in its Device Access project");
    }
    const open = async (device: SdmDevice): Promise<Leg> => {
      if (device.protocol === undefined) {
        throw sourceError(
          "protocol",
          `${device.label}: it streams only by ${
            device.protocols.join(", ") || "no way that it names"
          }: expected RTSP or WEB_RTC`,
          { retryAfterMs: 300_000 },
        );
      }
      const { id, label, protocol } = device;
      const leg = await openStream({ ...options, device: id, label, protocol, habits, signal });
      openStreams++;
      let isOpen = true;
      const countDown = () => {
        if (isOpen) openStreams--;
        isOpen = false;
      };
      return {
        ...leg,
        leave: () => {
          countDown();
          return leg.leave();
        },
        close: () => {
          countDown();
          return leg.close();
        },
      };
    };
    try {
      return await open(device);
    } catch (error) {
      const status = googleStatusOf(error);
      if (status === "ABORTED" && openStreams > 0 && habits.allowsTwo) {
        habits.allowsTwo = false;
        log.info(`${device.label}: it allows one stream at a time`);
      }
      // The wrong commands for this camera: it was moved since it was last looked at.
      if (status !== "INVALID_ARGUMENT") throw error;
      const now = await refresh(signal);
      if (now === undefined || now.protocol === device.protocol) throw error;
      return await open(now);
    }
  };

  return {
    openWithinMs: OPEN_WITHIN_MS,
    async open({ signal }) {
      signal.throwIfAborted();
      const both = AbortSignal.any([signal, closing]);
      const first = await openLeg(both);
      return openJoinedSession({
        clock: api.clock,
        log,
        what: latest()?.label ?? "Nest camera",
        signal: both,
        first,
        next: openLeg,
        allowsTwo: () => habits.allowsTwo,
      });
    },
  };
}
