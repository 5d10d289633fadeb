/**
 * One stream of a Device Access camera from Generate to Stop: it is extended ahead of its end, with
 * the tokens of *this* stream, which change with every extension, for as long as the camera allows.
 *
 * An extension that fails is tried again while the stream lives: that opens nothing, and nobody is
 * asked in vain, since every command waits for its turn. When the stream can be kept no longer,
 * `ending` says so in time for the next one to be brought up.
 *
 * @module
 */
import { type Log, type Session, sourceError, sourceErrorKind } from "../../types.ts";
import { hideToken } from "../hidden_tokens.ts";
import { isLoopback, isWithin } from "../hosts.ts";
import { type HttpResponse, serverNowMs } from "../http.ts";
import { field, textField } from "../nest/api.ts";
import { googleStatusOf, type SdmApi } from "./api.ts";
import type { SdmProtocol } from "./devices.ts";
import type { Leg } from "./joined_session.ts";
import type { CommandQuota } from "./quota.ts";

/** How media is fetched; real ones by default, others in tests of simulated days. */
export interface SdmTransports {
  /** A session from an RTSP address, whose query holds a secret. */
  rtsp(options: { readonly url: URL; readonly signal: AbortSignal }): Promise<Session>;
  /** A session from an exchange of WebRTC descriptions. */
  webRtc(options: {
    readonly exchange: (offerSdp: string) => Promise<string>;
    readonly signal: AbortSignal;
  }): Promise<Session>;
}

/** What a camera remembers from stream to stream. */
export interface StreamHabits {
  /** `false` once Google said that its streams cannot be extended. */
  canExtend: boolean;
  /** `false` once a second stream was refused while one was open. */
  allowsTwo: boolean;
}

/** What a stream is opened with. */
export interface StreamOptions {
  readonly api: SdmApi;
  readonly quota: CommandQuota;
  readonly transports: SdmTransports;
  readonly log: Log;
  readonly random: () => number;
  readonly device: string;
  readonly label: string;
  readonly protocol: SdmProtocol;
  readonly habits: StreamHabits;
  /** Ends the opening, not the stream. */
  readonly signal: AbortSignal;
  /** Ends what is left to do when the account is closed. */
  readonly closing: AbortSignal;
  /** Streams that Google is being told the end of: the account waits a moment for them. */
  readonly stopping: Set<Promise<void>>;
}

/** Streams live so long where Google does not say. */
const LIFE_MS = 300_000;
/** A stream is extended so long before its end, at most. */
const EXTEND_LEAD_MS = 65_000;
/** Cameras that were started together drift apart by so much. */
const SPREAD_MS = 20_000;
/** The next stream is brought up so long before the end of one that cannot be extended. */
const REPLACE_LEAD_MS = 75_000;
const EXTEND_PAUSE_MS = 10_000;
/** Later than this before its end nothing can be done for a stream. */
const TOO_LATE_MS = 5000;
const STOP_TIMEOUT_MS = 3000;

/** What the API said about a stream, and is to be told to extend or stop it. */
interface StreamState {
  /** `streamExtensionToken` or `mediaSessionId`, as of the newest answer. */
  handle: string;
  /** Monotonic ms. */
  endsAtMs: number;
}

/** Generates a stream, opens its media and keeps it alive. @throws a source error */
export async function openStream(options: StreamOptions): Promise<Leg> {
  const { transports, protocol, signal } = options;
  const state: StreamState = { handle: "", endsAtMs: -Infinity };
  const generate = async (params: Readonly<Record<string, unknown>>): Promise<unknown> => {
    const { results, response } = await command(options, {
      verb: "Generate",
      params,
      signal,
      onWait: (ms) => {
        if (ms < 3000) return;
        options.log.info(
          `${options.label}: waiting ${Math.ceil(ms / 1000)} s for its turn: Google allows ` +
            "ten commands a minute for all cameras",
        );
      },
    });
    renew(state, { results, response, options });
    return results;
  };
  let session: Session;
  try {
    session = protocol === "RTSP"
      ? await transports.rtsp({ url: rtspUrl(await generate({}), options), signal })
      : await transports.webRtc({
        signal,
        exchange: async (offerSdp) => {
          const answer = textField(await generate({ offerSdp }), "answerSdp");
          if (answer !== undefined) return answer;
          throw sourceError("protocol", `${options.label}: expected an answerSdp, got none`);
        },
      });
  } catch (error) {
    // What was generated must not keep the next try out.
    if (state.handle !== "") await stop(state, options);
    throw error;
  }
  return keepAlive(session, state, options);
}

function keepAlive(session: Session, state: StreamState, options: StreamOptions): Leg {
  const { api: { clock }, log, habits, label, random } = options;
  const closing = new AbortController();
  const ending = Promise.withResolvers<number>();

  const keep = async (): Promise<void> => {
    while (true) {
      const lead = (habits.canExtend ? EXTEND_LEAD_MS : REPLACE_LEAD_MS) - random() * SPREAD_MS;
      const restMs = state.endsAtMs - clock.monotonic();
      // Were a stream's life very short, half of it is waited for.
      await clock.sleep(Math.max(restMs - lead, restMs / 2), { signal: closing.signal });
      if (!habits.canExtend || !await extend()) return ending.resolve(state.endsAtMs);
    }
  };

  /** Makes it longer; `false` if it cannot be. */
  const extend = async (): Promise<boolean> => {
    while (true) {
      try {
        const { results, response } = await command(options, {
          verb: "Extend",
          params: { [handleName(options.protocol)]: state.handle },
          signal: closing.signal,
        });
        renew(state, { results, response, options });
        return true;
      } catch (error) {
        if (closing.signal.aborted) throw error;
        const status = googleStatusOf(error);
        if (status === "FAILED_PRECONDITION") {
          habits.canExtend = false;
          log.info(
            `${label}: its streams cannot be made longer (as with cameras on a battery); a new ` +
              "one takes over every five minutes",
          );
          return false;
        }
        if (["INVALID_ARGUMENT", "NOT_FOUND"].includes(status)) {
          log.debug(`${label}: the stream is not known any more: ${error}`);
          state.endsAtMs = Math.min(state.endsAtMs, clock.monotonic() + EXTEND_LEAD_MS);
          return false;
        }
        if (sourceErrorKind(error) === "auth") return false;
        const asked = error instanceof Error && "retryAfterMs" in error
          ? Number(error.retryAfterMs)
          : 0;
        const pauseMs = Math.max(EXTEND_PAUSE_MS, asked);
        if (clock.monotonic() + pauseMs > state.endsAtMs - TOO_LATE_MS) return false;
        log.debug(`${label}: the stream could not be made longer, trying again: ${error}`);
        await clock.sleep(pauseMs, { signal: closing.signal });
      }
    }
  };

  keep().catch(() => {}); // closed
  let left: Promise<void> | undefined;
  let stopped: Promise<void> = Promise.resolve();
  const leave = () =>
    left ??= (async () => {
      closing.abort(new Error("the stream is closed"));
      const stopping = Promise.withResolvers<void>();
      stopped = stopping.promise;
      options.stopping.add(stopped);
      try {
        await session[Symbol.asyncDispose]();
      } finally {
        stop(state, options).finally(() => {
          options.stopping.delete(stopping.promise);
          stopping.resolve();
        });
      }
    })();
  return {
    session,
    ending: ending.promise,
    leave,
    async close() {
      await leave();
      await stopped;
    },
  };
}

/** Tells Google that a stream is not needed any more; it would end by itself, so nothing is lost. */
async function stop(state: StreamState, options: StreamOptions): Promise<void> {
  const { api, quota, device, log, label, closing } = options;
  const { clock } = api;
  if (clock.monotonic() >= state.endsAtMs) return;
  const name = `Stop${family(options.protocol)}Stream`;
  const send = async (signal: AbortSignal, hasTurn: boolean) => {
    await command(options, {
      verb: "Stop",
      params: { [handleName(options.protocol)]: state.handle },
      signal,
      hasTurn,
    });
  };
  const say = (error: unknown) => log.debug(`${label}: the stream was not stopped: ${error}`);
  if (quota.tryTake({ purpose: "stop", device, command: name })) {
    // Whoever closes does not wait long for it.
    await within(STOP_TIMEOUT_MS, clock, (signal) => send(signal, true)).catch(say);
    return;
  }
  const restMs = state.endsAtMs - clock.monotonic();
  within(restMs, clock, (signal) => send(signal, false), closing).catch(say);
}

async function within(
  ms: number,
  clock: SdmApi["clock"],
  work: (signal: AbortSignal) => Promise<void>,
  closing?: AbortSignal,
): Promise<void> {
  const own = new AbortController();
  const timer = new AbortController();
  const onClosing = () => own.abort(closing?.reason);
  closing?.addEventListener("abort", onClosing, { once: true });
  if (closing?.aborted) onClosing();
  clock.sleep(ms, { signal: timer.signal }).then(
    () => own.abort(new Error(`no answer within ${ms} ms`)),
    () => {}, // done
  );
  try {
    await work(own.signal);
  } finally {
    timer.abort();
    closing?.removeEventListener("abort", onClosing);
  }
}

function command(
  { api, device, label, protocol }: StreamOptions,
  { verb, params, signal, onWait, hasTurn }: {
    readonly verb: "Generate" | "Extend" | "Stop";
    readonly params: Readonly<Record<string, unknown>>;
    readonly signal: AbortSignal;
    readonly onWait?: (ms: number) => void;
    readonly hasTurn?: boolean;
  },
) {
  return api.execute({
    device,
    label,
    command: `CameraLiveStream.${verb}${family(protocol)}Stream`,
    params,
    purpose: verb === "Generate" ? "generate" : verb === "Extend" ? "extend" : "stop",
    signal,
    ...(onWait ? { onWait } : {}),
    ...(hasTurn ? { hasTurn } : {}),
  });
}

function family(protocol: SdmProtocol): "Rtsp" | "WebRtc" {
  return protocol === "RTSP" ? "Rtsp" : "WebRtc";
}

function handleName(protocol: SdmProtocol): "streamExtensionToken" | "mediaSessionId" {
  return protocol === "RTSP" ? "streamExtensionToken" : "mediaSessionId";
}

/** Takes up what an answer says: the handle may be a new one, and the end is. */
function renew(
  state: StreamState,
  { results, response, options }: {
    readonly results: unknown;
    readonly response: HttpResponse;
    readonly options: StreamOptions;
  },
): void {
  const { clock } = options.api;
  state.handle = textField(results, handleName(options.protocol)) ?? state.handle;
  hideToken(state.handle);
  const token = textField(results, "streamToken");
  if (token !== undefined) hideToken(token);
  const expires = Date.parse(textField(results, "expiresAt") ?? "");
  const lifeMs = expires - serverNowMs(response.headers, clock.now());
  state.endsAtMs = response.respondedMs +
    (lifeMs > 0 && lifeMs <= 24 * 3_600_000 ? lifeMs : LIFE_MS);
}

/** Where Google's RTSP streams come from. */
const RTSP_ZONES = ["dropcam.com", "nest.com", "googleapis.com", "google.com"];

/** The stream's address, if it may be gone to. */
function rtspUrl(results: unknown, { label, api: { endpoints } }: StreamOptions): URL {
  const text = textField(field(results, "streamUrls"), "rtspUrl") ?? "";
  if (!URL.canParse(text)) {
    throw sourceError("protocol", `${label}: expected an rtspUrl, got none that is valid`);
  }
  const url = new URL(text);
  for (const value of url.searchParams.values()) hideToken(value);
  const own = Object.values<URL>({ ...endpoints });
  // A scheme that is not http has no special host parsing: compare by an http address.
  const asHttp = new URL(`http://${url.host}`);
  const isOwn = isLoopback(asHttp) && own.every(isLoopback);
  const isGoogle = url.protocol === "rtsps:" && isWithin(asHttp, RTSP_ZONES);
  if (isOwn || isGoogle) return url;
  throw sourceError(
    "protocol",
    `${label}: Google sends us to ${url.protocol}//${url.host} for the stream, which is refused: ` +
      `expected rtsps and a host in ${RTSP_ZONES.slice(0, 2).join(" or ")}`,
  );
}
