/**
 * Live streams of the Foyer service, `CameraService`: a camera is woken (`SendCameraViewIntent`), an SDP
 * offer is exchanged for an answer (`JoinStream` with the command `offer`), the stream is kept
 * (`extend`) and ended (`end`). The messages by field number:
 *
 * ```
 * SendCameraViewIntentRequest  1 request { 1 googleDeviceId { 1 text }, 2 command (1 START) }
 * JoinStreamRequest   1 sdp, 2 deviceId (DEVICE_…), 3 command, 4 streamId, 6 streamContext (1 DEFAULT),
 *                     7 endStreamReason (2 USER_EXITED), 8 requestedVideoResolution (2 FULL_HIGH)
 * JoinStreamResponse  1 sdp, 3 streamId, 5 streamExtensionStatus (1 EXTENDED)
 * ```
 *
 * @module
 */
import { type Clock, sourceError, sourceErrorKind } from "../../types.ts";
import { messageField, numberField, numberOf, textField, textOf } from "../protobuf.ts";
import type { TokenKeeper } from "../token_keeper.ts";
import { unaryCall } from "./grpc.ts";
import type { HomeCamera } from "./home_graph.ts";

const SERVICE = "/google.internal.home.foyer.v1.CameraService";
const EXTENDED = 1;

/** The live streams of one account. Every call throws a source error where it fails. */
export interface Foyer {
  /** Has the camera begin to stream; one on a battery sleeps until then. */
  wake(camera: HomeCamera, signal: AbortSignal): Promise<void>;
  /** Takes an offer to the camera. */
  offer(
    camera: HomeCamera,
    options: { readonly sdp: string; readonly signal: AbortSignal },
  ): Promise<{ readonly answerSdp: string; readonly streamId: string }>;
  /** Keeps a stream; `false` where it cannot be kept. */
  extend(
    camera: HomeCamera,
    options: { readonly streamId: string; readonly signal: AbortSignal },
  ): Promise<boolean>;
  /** Ends a stream. */
  end(
    camera: HomeCamera,
    options: { readonly streamId: string; readonly signal: AbortSignal },
  ): Promise<void>;
}

/** Makes the calls of one account. */
export function createFoyer(
  { endpoint, token, clock, ca }: {
    readonly endpoint: URL;
    /** Of the scope for devices. */
    readonly token: TokenKeeper<string>;
    readonly clock: Clock;
    readonly ca?: string | undefined;
  },
): Foyer {
  const call = async (
    method: string,
    { fields, signal }: { readonly fields: readonly Uint8Array[]; readonly signal: AbortSignal },
  ): Promise<Uint8Array> => {
    const message = Uint8Array.from(fields.flatMap((field) => [...field]));
    const answer = await token.use(
      (bearer) =>
        unaryCall(`${SERVICE}/${method}`, { endpoint, message, token: bearer, clock, signal, ca })
          .catch((error: unknown) => {
            if (sourceErrorKind(error) === "auth") return { refusal: error };
            throw error;
          }),
      { signal, isRefused: (answer) => "refusal" in answer },
    );
    if ("refusal" in answer) throw answer.refusal;
    return answer;
  };
  const join = (camera: HomeCamera, command: string) => [
    textField(2, camera.id),
    textField(3, command),
  ];
  return {
    async wake(camera, signal) {
      const device = messageField(1, textField(1, camera.foyerId));
      const fields = [messageField(1, device, numberField(2, 1))];
      await call("SendCameraViewIntent", { fields, signal });
    },
    async offer(camera, { sdp, signal }) {
      const fields = [
        ...[textField(1, sdp), ...join(camera, "offer")],
        ...[numberField(6, 1), numberField(8, 2)],
      ];
      const { answerSdp, streamId } = parseJoinStream(await call("JoinStream", { fields, signal }));
      if (answerSdp === "" || streamId === "") {
        throw sourceError(
          "protocol",
          `${camera.name}: Google's answer to JoinStream has no ${
            answerSdp === "" ? "SDP" : "stream id"
          }: this camera may not stream by WebRTC`,
          { retryAfterMs: 60_000 },
        );
      }
      return { answerSdp, streamId };
    },
    async extend(camera, { streamId, signal }) {
      const fields = [...join(camera, "extend"), textField(4, streamId)];
      return parseJoinStream(await call("JoinStream", { fields, signal })).isExtended;
    },
    async end(camera, { streamId, signal }) {
      const fields = [...join(camera, "end"), textField(4, streamId), numberField(7, 2)];
      await call("JoinStream", { fields, signal });
    },
  };
}

/** What comes back from `JoinStream`, whatever it was asked for; empty texts where it has none. */
export function parseJoinStream(
  answer: Uint8Array,
): { readonly answerSdp: string; readonly streamId: string; readonly isExtended: boolean } {
  return {
    answerSdp: textOf(answer, 1),
    streamId: textOf(answer, 3),
    isExtended: numberOf(answer, 5) === EXTENDED,
  };
}
