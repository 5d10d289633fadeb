/**
 * What happens in front of the simulated cameras, as Device Access tells it: messages in a pull
 * subscription of Cloud Pub/Sub, that come again until they are acknowledged, now and then twice and
 * late; the pictures of events, to be had for thirty seconds; and previews of clips.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Clock } from "../../core/types.ts";
import { type Answer, type Asked, asRecord, json } from "../http_server.ts";
import type { SdmCamera } from "./camera.ts";
import { googleError } from "./google_error.ts";

/** What can happen. */
export const SDM_EVENTS = {
  motion: "sdm.devices.events.CameraMotion.Motion",
  person: "sdm.devices.events.CameraPerson.Person",
  sound: "sdm.devices.events.CameraSound.Sound",
  chime: "sdm.devices.events.DoorbellChime.Chime",
  "clip-preview": "sdm.devices.events.CameraClipPreview.ClipPreview",
} as const;

/** One of {@linkcode SDM_EVENTS}. */
export type SdmEventKind = keyof typeof SDM_EVENTS;

/** How an event is told. */
export interface SdmEventOptions {
  /** Events of one session belong together; a new one by default. */
  readonly sessionId?: string;
  /** When it happened, wall ms; now by default. An old one arrives late. */
  readonly atMs?: number;
  /** How many times the message is delivered; 1 by default. */
  readonly times?: number;
  readonly zones?: readonly string[];
  readonly threadState?: "STARTED" | "UPDATED" | "ENDED";
}

/** The subscription, and what its messages point to. */
export interface SdmEvents {
  /** Makes something happen; gives the event's id and session. */
  publish(
    camera: SdmCamera,
    kind: SdmEventKind,
    options?: SdmEventOptions,
  ): { readonly eventId: string; readonly sessionId: string };
  /** Puts any message into the subscription. */
  publishRaw(data: string): void;
  /** `POST …:pull` and `…:acknowledge`. */
  answerPubSub(asked: Asked): Promise<Answer>;
  /** The command `GenerateImage`; the picture is then to be had below `baseUrl`. */
  generateImage(params: Readonly<Record<string, unknown>>, baseUrl: string): Answer;
  /** The pictures and previews themselves. `bearer` is alive where `isAlive` says so. */
  answerMedia(asked: Asked, isAlive: (token: string) => boolean): Promise<Answer>;
  /** Messages that were not acknowledged yet. */
  readonly waiting: number;
}

interface Message {
  readonly id: string;
  readonly data: string;
  readonly publishTime: string;
  /** Not delivered again before this, monotonic ms. */
  nextMs: number;
  ackId: string;
}

const ACK_DEADLINE_MS = 10_000;
const IMAGE_LIFE_MS = 30_000;

/** Makes an empty subscription. */
export function createSdmEvents(
  { clock, random, userId, baseUrl, picture, preview }: {
    readonly clock: Clock;
    readonly random: () => number;
    readonly userId: string;
    readonly baseUrl: () => string;
    /** A JPEG of what the camera saw. */
    readonly picture: (camera: SdmCamera, widthPx: number | undefined) => Uint8Array;
    /** An MP4 of ten frames. */
    readonly preview: (camera: SdmCamera) => Promise<Uint8Array>;
  },
): SdmEvents {
  const messages: Message[] = [];
  const events = new Map<string, { readonly camera: SdmCamera; readonly atMs: number }>();
  const images = new Map<string, { readonly token: string; readonly camera: SdmCamera }>();
  const previews = new Map<string, SdmCamera>();
  const text = (length: number) =>
    Array.from({ length }, () => Math.floor(random() * 36).toString(36)).join("");
  const uuid = () => [8, 4, 4, 4, 12].map(text).join("-");

  const put = (data: string) => {
    messages.push({
      id: String(Math.floor(random() * 1e15)),
      data: Buffer.from(data).toString("base64"),
      publishTime: new Date(clock.now()).toISOString(),
      nextMs: clock.monotonic(),
      ackId: "",
    });
  };

  return {
    get waiting() {
      return messages.length;
    },
    publishRaw: put,
    publish(camera, kind, options = {}) {
      const { sessionId = uuid(), atMs = clock.now(), times = 1, zones, threadState } = options;
      const eventId = `${text(20)}`;
      events.set(eventId, { camera, atMs });
      const blob = text(40);
      if (kind === "clip-preview") previews.set(blob, camera);
      const event = kind === "clip-preview"
        ? {
          eventSessionId: sessionId,
          previewUrl: `${baseUrl()}/frontend/encrypted/clippreview/${blob}`,
        }
        : { eventSessionId: sessionId, eventId, ...(zones ? { zones } : {}) };
      const message = JSON.stringify({
        eventId: uuid(),
        timestamp: new Date(atMs).toISOString(),
        resourceUpdate: { name: camera.path, events: { [SDM_EVENTS[kind]]: event } },
        userId,
        eventThreadId: uuid(),
        ...(threadState ? { eventThreadState: threadState } : {}),
        resourceGroup: [camera.path],
      });
      for (let time = 0; time < times; time++) put(message);
      return { eventId, sessionId };
    },
    async answerPubSub(asked) {
      const body = asRecord(JSON.parse(await asked.text() || "{}"));
      if (asked.path.endsWith(":acknowledge")) {
        const acks = Array.isArray(body["ackIds"]) ? body["ackIds"] : [];
        for (const ack of acks) {
          const index = messages.findIndex(({ ackId }) => ackId !== "" && ackId === ack);
          if (index >= 0) messages.splice(index, 1);
        }
        return json({});
      }
      const max = Number(body["maxMessages"]);
      if (!(max >= 1)) return googleError("INVALID_ARGUMENT", "maxMessages must be positive.");
      // Like the real one it waits a while for a message, but may come back with none.
      for (let turn = 0; turn < 10; turn++) {
        if (messages.some(({ nextMs }) => nextMs <= clock.monotonic())) break;
        await clock.sleep(500, { signal: asked.signal });
      }
      const due = messages.filter(({ nextMs }) => nextMs <= clock.monotonic()).slice(0, max);
      return json(
        due.length === 0 ? {} : {
          receivedMessages: due.map((message) => {
            message.nextMs = clock.monotonic() + ACK_DEADLINE_MS;
            message.ackId = text(30);
            const { id, data, publishTime, ackId } = message;
            return { ackId, message: { data, messageId: id, publishTime } };
          }),
        },
      );
    },
    generateImage(params, base) {
      const event = events.get(String(params["eventId"]));
      if (event === undefined) {
        return googleError("INVALID_ARGUMENT", "Request contains an invalid argument.");
      }
      if (clock.now() - event.atMs > IMAGE_LIFE_MS) {
        return googleError(
          "DEADLINE_EXCEEDED",
          "Camera image is no longer available for download.",
        );
      }
      const path = text(40);
      const token = `g.0.${text(20)}`;
      images.set(path, { token, camera: event.camera });
      return json({ results: { url: `${base}/sdm_event_snapshot/${path}`, token } });
    },
    async answerMedia(asked, isAlive) {
      const name = asked.path.split("/").at(-1) ?? "";
      const [, scheme, token = ""] = /^(Basic|Bearer) (\S+)$/.exec(asked.header("authorization")) ??
        [];
      if (asked.path.startsWith("/sdm_event_snapshot/")) {
        const image = images.get(name);
        if (image === undefined) return { status: 404 };
        if (scheme !== "Basic" || token !== image.token) return { status: 401 };
        const width = Number(asked.query.get("width"));
        return {
          headers: { "content-type": "image/jpeg" },
          body: picture(image.camera, width > 0 ? width : undefined),
        };
      }
      const camera = previews.get(name);
      if (camera === undefined) return { status: 404 };
      if (scheme !== "Bearer" || !isAlive(token)) return { status: 401 };
      return { headers: { "content-type": "video/mp4" }, body: await preview(camera) };
    },
  };
}
