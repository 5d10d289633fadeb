/**
 * A camera of a Google Home as a live source: woken, streamed by WebRTC as in Google's own apps, and
 * kept by an extension every thirty seconds. A stream that Google does not extend ends the session with
 * an error; the recorder opens the next one.
 *
 * @module
 */
import { type AccessUnit, type Clock, type Log, type Source, sourceError } from "../../types.ts";
import type { WebRtcSession, WebRtcSessionOptions } from "../webrtc/session.ts";
import type { Foyer } from "./foyer.ts";
import type { HomeCamera } from "./home_graph.ts";

const EXTEND_MS = 30_000;
/** Where an extension fails on its way, it is tried again so soon. */
const EXTEND_AGAIN_MS = 5000;
/** A stream that was not extended for so long is given up, ms. */
const LOST_MS = 60_000;
/** The program is to have ended five seconds after it was told to. */
const END_PATIENCE_MS = 1500;
/** A camera that has to be woken, and up to 12 s for its first key picture. */
const OPEN_WITHIN_MS = 45_000;

/** What a live source works with. */
export interface LiveSourceOptions {
  readonly foyer: Foyer;
  readonly camera: HomeCamera;
  readonly clock: Clock;
  readonly log: Log;
  /** What stands in for Google runs on this machine. */
  readonly loopback: boolean;
  /** Ends every session when the account is closed. */
  readonly closing: AbortSignal;
  /** WebRTC itself; loaded when it is first needed where it is left out. */
  readonly openSession?: (options: WebRtcSessionOptions) => Promise<WebRtcSession>;
}

/** The camera as a source. */
export function liveSource(options: LiveSourceOptions): Source {
  const { foyer, camera, clock, log, loopback, closing } = options;
  const openSession = options.openSession ??
    (async (options) => (await import("../webrtc/session.ts")).openWebRtcSession(options));

  return {
    openWithinMs: OPEN_WITHIN_MS,
    async open({ signal }) {
      signal.throwIfAborted();
      const over = new AbortController();
      const both = AbortSignal.any([signal, closing, over.signal]);
      let streamId: string | undefined;
      let failure: unknown;

      /** Tells Google; it would notice by itself a minute later. */
      const end = async (): Promise<void> => {
        over.abort(new Error("the session is over"));
        const id = streamId;
        streamId = undefined;
        if (id === undefined) return;
        const tooLong = new AbortController();
        const timer = new AbortController();
        const waiting = clock.sleep(END_PATIENCE_MS, { signal: timer.signal })
          .then(() => tooLong.abort(new Error("it took too long")), () => {});
        await foyer.end(camera, { streamId: id, signal: tooLong.signal }).catch((error) =>
          log.debug(`the stream was not ended: ${error}`)
        );
        timer.abort();
        await waiting;
      };

      let session: WebRtcSession;
      try {
        await foyer.wake(camera, both);
        session = await openSession({
          ...{ clock, log, loopback, signal: both },
          async exchange(sdp) {
            const answer = await foyer.offer(camera, { sdp, signal: both });
            streamId = answer.streamId;
            return answer.answerSdp;
          },
        });
      } catch (error) {
        await end();
        throw error;
      }

      const extend = async (): Promise<void> => {
        let extendedMs = clock.monotonic();
        let pauseMs = EXTEND_MS;
        while (true) {
          await clock.sleep(pauseMs, { signal: both });
          try {
            if (await foyer.extend(camera, { streamId: streamId ?? "", signal: both })) {
              extendedMs = clock.monotonic();
              pauseMs = EXTEND_MS;
              continue;
            }
            failure = sourceError(
              "offline",
              "Google does not extend the stream: a new one is opened",
            );
          } catch (error) {
            if (both.aborted) return;
            pauseMs = EXTEND_AGAIN_MS;
            if (clock.monotonic() - extendedMs < LOST_MS) continue;
            failure = error;
          }
          over.abort(failure);
          return;
        }
      };
      extend().catch(() => {}); // the session is over

      const units = async function* (): AsyncGenerator<AccessUnit> {
        try {
          yield* session;
          if (failure !== undefined) throw failure;
        } finally {
          await end();
        }
      };
      const iterator = units();
      return {
        get tracks() {
          return session.tracks;
        },
        [Symbol.asyncIterator]: () => iterator,
        async [Symbol.asyncDispose]() {
          await session[Symbol.asyncDispose]();
          await end();
        },
      };
    },
  };
}
