/**
 * What is said of a clip over MQTT, and how Home Assistant finds it.
 *
 * Under the topic `camsink`, for the camera `yard`: `camsink/yard/clip` has one message per clip;
 * `camsink/yard/last` keeps the newest (retained); `camsink/yard/recent` keeps which clips were told
 * of (retained), so that a repeated one is known also after a restart; `camsink/status` is `online`
 * or `offline` (retained).
 *
 * @module
 */
import { createHash } from "node:crypto";
import { type Clip, encodeKey, keyParts } from "camsink";
import type { MqttMessage } from "./packets.ts";

/** Clips that a camera's `recent` names. */
export const RECENT_CLIPS = 64;

/** What the broker keeps of a camera. */
export interface Recent {
  /** When the newest clip ended, ISO 8601. */
  readonly newest: string;
  /** Key and SHA-256 of the clips told of last, oldest first. */
  readonly clips: readonly (readonly [key: string, sha256: string])[];
}

/** The camera as a part of a topic: the first part of its keys, of letters that are safe everywhere. */
export function cameraTopic(key: string): string {
  const [first = ""] = keyParts(key);
  return plain(first);
}

/** `a b` → `a_b-6f1c2a`: told apart from `a_b` by a hash. */
export function plain(text: string): string {
  const safe = text.replaceAll(/[^A-Za-z0-9_-]/g, "_").slice(0, 60);
  if (safe === text) return safe;
  return `${safe}-${createHash("sha256").update(text.toWellFormed()).digest("hex").slice(0, 6)}`;
}

/** The event as JSON. */
export function clipEvent(clip: Clip, clipsUrl: string | undefined): string {
  return JSON.stringify({
    event: "clip",
    key: clip.key,
    camera: clip.camera.toWellFormed(),
    start: clip.start.toISOString(),
    end: clip.end.toISOString(),
    seconds: Math.round((clip.end.getTime() - clip.start.getTime()) / 100) / 10,
    bytes: clip.bytes,
    sha256: clip.sha256,
    contentType: clip.contentType,
    ...(clipsUrl === undefined
      ? {}
      : { url: `${clipsUrl.replace(/\/+$/, "")}/${encodeKey(clip.key)}` }),
  });
}

/** What the broker kept, or nothing where it is no such thing: somebody else may write there. */
export function parseRecent(payload: Uint8Array): Recent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(payload));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { newest, clips } = value as {
    readonly newest?: unknown;
    readonly clips?: unknown;
  };
  if (typeof newest !== "string" || !Array.isArray(clips)) return undefined;
  return {
    newest,
    clips: clips.flatMap((entry: unknown) => {
      if (!Array.isArray(entry)) return [];
      const [key, sha256] = entry as unknown[];
      return typeof key === "string" && typeof sha256 === "string" ? [[key, sha256] as const] : [];
    }).slice(-RECENT_CLIPS),
  };
}

/** Home Assistant's discovery messages for one camera: the last clip's end, and whether clips come. */
export function discovery(options: {
  readonly topic: string;
  readonly prefix: string;
  /** As in topics. */
  readonly camera: string;
  /** As its owner wrote it. */
  readonly cameraName: string;
  readonly quietAfterMs: number;
}): readonly MqttMessage[] {
  const { topic, prefix, camera } = options;
  const id = `${plain(topic)}_${camera}`;
  const quietS = Math.round(options.quietAfterMs / 1000);
  const shared = {
    state_topic: `${topic}/${camera}/last`,
    availability_topic: `${topic}/status`,
    device: {
      identifiers: [id],
      name: options.cameraName.toWellFormed().slice(0, 100) || camera,
      manufacturer: "Camsink",
    },
    origin: { name: "Camsink" },
  };
  const config = (
    kind: string,
    what: string,
    value: Record<string, unknown>,
  ): MqttMessage => ({
    topic: `${prefix}/${kind}/${id}/${what}/config`,
    payload: JSON.stringify({
      unique_id: `${id}_${what}`,
      ...value,
      ...shared,
    }),
    retain: true,
  });
  return [
    config("sensor", "last_clip", {
      name: "Last clip",
      device_class: "timestamp",
      value_template: "{{ value_json.end }}",
      json_attributes_topic: `${topic}/${camera}/last`,
    }),
    config("binary_sensor", "clips", {
      name: "Clips arriving",
      device_class: "running",
      // A retained clip of yesterday, heard after a restart, is no sign of life.
      value_template: "{{ 'ON' if (now() - as_datetime(value_json.end)).total_seconds() < " +
        `${quietS} else 'OFF' }}`,
      off_delay: quietS,
    }),
  ];
}
