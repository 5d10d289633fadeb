/**
 * What Device Access publishes, as messages of Cloud Pub/Sub: things that happen before cameras, and
 * much else (traits that change, devices that come and go), of which only the events are used. Nothing
 * is taken for granted: an event whose kind is not known here is still an event.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { field, textField } from "../nest/api.ts";

/** One event of a message. */
export interface SdmEvent {
  /** `motion`, `person`, `sound`, `doorbell`; another word for a kind that is not known; `clip` alone says only that there is a preview. */
  readonly kind: string;
  /** Events of one happening share it. */
  readonly sessionId: string;
  /** Names its picture. */
  readonly eventId?: string;
  /** Where the preview of its clip is. */
  readonly previewUrl?: string;
}

/** A message that tells of events. */
export interface SdmMessage {
  /** The same however often it is delivered. */
  readonly id: string;
  /** `enterprises/…/devices/…`. */
  readonly resource: string;
  /** Wall ms. */
  readonly atMs: number;
  readonly events: readonly SdmEvent[];
}

/** What was pulled. */
export interface Pulled {
  /** With what it is acknowledged. */
  readonly ackId: string;
  /** What it tells; a word for what is not used; `undefined` for what cannot be read. */
  readonly content: SdmMessage | "other" | undefined;
}

const KINDS: Readonly<Record<string, string>> = {
  "CameraMotion.Motion": "motion",
  "CameraPerson.Person": "person",
  "CameraSound.Sound": "sound",
  "DoorbellChime.Chime": "doorbell",
  "CameraClipPreview.ClipPreview": "clip",
};
const PREFIX = "sdm.devices.events.";
/** More of them in a message are not believed. */
const MAX_EVENTS = 20;

/** The answer of a pull; what has no `ackId` is left out, for it comes again. */
export function parsePull(answer: unknown): readonly Pulled[] {
  const received = field(answer, "receivedMessages");
  return (Array.isArray(received) ? received : []).flatMap((one: unknown): Pulled[] => {
    const ackId = textField(one, "ackId");
    if (!ackId) return [];
    const message = field(one, "message");
    return [{
      ackId,
      content: parseMessage(textField(message, "data") ?? "", {
        messageId: textField(message, "messageId") ?? ackId,
      }),
    }];
  });
}

/** The content of a message: JSON in Base64. */
export function parseMessage(
  data: string,
  { messageId }: { readonly messageId: string },
): Pulled["content"] {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(data, "base64").toString("utf8"));
  } catch {
    return undefined;
  }
  const update = field(value, "resourceUpdate");
  const resource = textField(update, "name");
  const events = field(update, "events");
  const atMs = Date.parse(textField(value, "timestamp") ?? "");
  if (typeof value !== "object" || value === null) return undefined;
  if (resource === undefined || typeof events !== "object" || events === null) return "other";
  if (!Number.isFinite(atMs)) return undefined;
  return {
    id: textField(value, "eventId") ?? messageId,
    resource,
    atMs,
    events: Object.entries(events).slice(0, MAX_EVENTS).flatMap(([name, event]) => {
      const kind = kindOf(name);
      if (kind === undefined) return [];
      const eventId = textField(event, "eventId");
      const previewUrl = textField(event, "previewUrl");
      return [{
        kind,
        sessionId: textField(event, "eventSessionId") ?? textField(value, "eventThreadId") ??
          messageId,
        ...(eventId ? { eventId } : {}),
        ...(previewUrl ? { previewUrl } : {}),
      }];
    }),
  };
}

function kindOf(name: string): string | undefined {
  if (!name.startsWith(PREFIX)) return undefined;
  const rest = name.slice(PREFIX.length);
  const known = Object.hasOwn(KINDS, rest) ? KINDS[rest] : undefined;
  if (known !== undefined) return known;
  const last = rest.split(".").at(-1) ?? "";
  if (!/^[A-Za-z][A-Za-z0-9]{0,38}$/.test(last)) return undefined;
  return last.replace(/(?<=[a-z0-9])(?=[A-Z])/g, "-").toLowerCase();
}
