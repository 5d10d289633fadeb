/**
 * The hosts that know the cameras: `webapi.camera.home.nest.com` with the camera API, and the
 * regional `nexusapi` hosts with pictures and events. A region knows its own cameras only.
 *
 * @module
 */
import { type Answer, type Asked, json, readFields } from "../http_server.ts";
import type { CameraModel } from "./camera.ts";
import { type Cloud, comesFromHome, mayUseCameras, refuse } from "./cloud.ts";
import { capabilities } from "./home.ts";

/** Answers for `webapi.camera.home.nest.com`, which says nearly everything with status 200. */
export async function answerCameraApi(asked: Asked, cloud: Cloud): Promise<Answer> {
  if (!comesFromHome(asked, cloud)) {
    return refuse(403, "neither Referer nor Origin is https://home.nest.com");
  }
  const call = asked.path.replace(/^\/api\/(v1\/)?/, "");
  const route = `${asked.method} ${call}`;
  if (route === "POST login.login_nest") return await loginNest(asked, cloud);
  if (!mayUseCameras(asked, cloud)) {
    return inBody(403, "unauthorized", "Unauthorized.");
  }
  switch (route) {
    case "GET cameras.get_owned_and_member_of_with_properties":
      return items([...cloud.cameras.values()].map((camera) => describe(camera, cloud)));
    case "GET cameras.get_with_properties": {
      const camera = cloud.cameras.get(asked.query.get("uuid") ?? "");
      return camera
        ? items([describe(camera, cloud)])
        : inBody(404, "not-found", "There is no such camera.");
    }
    case "POST dropcams.set_properties": {
      const fields = await readFields(asked);
      const camera = cloud.cameras.get(String(fields?.["uuid"]));
      if (!camera) return inBody(404, "not-found", "There is no such camera.");
      const enabled = fields?.["streaming.enabled"];
      if (enabled !== undefined) camera.setState(String(enabled) === "true" ? "online" : "off");
      return items([describe(camera, cloud)]);
    }
    case "GET users.get_current":
      return items([{ id: 1, nest_user_id: cloud.userId, email: cloud.email }]);
    default:
      return refuse(404, "the camera API has no such call");
  }
}

/** A Nest account's access token for the cookie that opens the camera hosts. */
async function loginNest(asked: Asked, cloud: Cloud): Promise<Answer> {
  const token = (await readFields(asked))?.["access_token"];
  if (typeof token !== "string" || token === "") {
    return inBody(400, "bad-request", "Invalid Request");
  }
  if (cloud.tokens.expiresAtMs(token, "nest") === undefined) {
    return inBody(403, "unauthorized", "Unauthorized.");
  }
  const sessionToken = cloud.tokens.issue("cookie", cloud.nestLifeMs);
  return items([{ session_token: sessionToken }], {
    "set-cookie": `website_2=${sessionToken}; Path=/; HttpOnly; Max-Age=${
      Math.floor(cloud.nestLifeMs / 1000)
    }`,
  });
}

function items(list: readonly object[], headers: Readonly<Record<string, string>> = {}): Answer {
  return json(
    { status: 0, items: list, status_description: "ok", status_detail: "" },
    { headers },
  );
}

/** An error as the camera API tells it: status 200, the real one in the body. */
function inBody(status: number, description: string, detail: string): Answer {
  return json({ status, items: [], status_description: description, status_detail: detail });
}

function describe(camera: CameraModel, cloud: Cloud): object {
  const url = cloud.urls.regions.get(camera.region) ?? "";
  const host = url.replace(/^https?:\/\//, "");
  const { direct, webSocket } = cloud.urls.nexus ?? {};
  const live = camera.live !== undefined;
  const online = camera.state !== "offline";
  return {
    uuid: camera.uuid,
    name: camera.name,
    title: camera.name,
    description: camera.name,
    is_online: online,
    is_connected: online,
    is_streaming: camera.state === "online",
    is_streaming_enabled: camera.state !== "off",
    ...(live ? { direct_nexustalk_host: direct, websocket_nexustalk_host: webSocket } : {}),
    live_stream_host: host,
    talkback_stream_host: host,
    nexus_api_http_server: url,
    nexus_api_nest_domain_host: host,
    download_host: host,
    wwn_clips_host: host,
    capabilities: capabilities(camera),
    properties: {
      "streaming.enabled": camera.state !== "off",
      "audio.enabled": camera.live?.audio ?? true,
      "streaming.cameraprofile": camera.widthPx >= 1920
        ? "VIDEO_H264_2MBIT_L40"
        : "VIDEO_H264_530KBIT_L31",
      "streaming.data-usage-tier": 3,
      "cvr.allowed": false,
      "freetier.history.enabled": true,
      "cc2migration.overview_state": camera.migration,
    },
    serial_number: camera.serial,
    mac_address: camera.serial.slice(0, 12),
    hours_of_free_tier_history: 3,
    hours_of_recording_max: 0,
    timezone: "Europe/Berlin",
    nest_structure_id: `structure.${cloud.structureId}`,
    where: camera.name,
    type: 8,
    last_connected_time: Math.floor(camera.changedAtMs / 1000),
  };
}

/** The camera that a request to a regional host is about, if this region has it. */
export function askedCamera(asked: Asked, region: string, cloud: Cloud): CameraModel | undefined {
  const uuid = asked.query.get("uuid") ??
    /^\/(?:cuepoint|cuepoint_category|event_snapshot)\/([^/]+)/.exec(asked.path)?.[1] ?? "";
  const camera = cloud.cameras.get(uuid);
  return camera?.region === region ? camera : undefined;
}

/** Answers for one `nexusapi` host. */
export function answerNexus(asked: Asked, region: string, cloud: Cloud): Answer {
  const camera = askedCamera(asked, region, cloud);
  const isImage = asked.path === "/get_image";
  if (
    !isImage && !/^\/(cuepoint|cuepoint_category|get_event_clip|event_snapshot)\b/.test(asked.path)
  ) {
    return refuse(404, "nexusapi has no such path");
  }
  if (asked.method !== "GET") return refuse(405, "nexusapi takes GET");
  if (!mayUseCameras(asked, cloud)) {
    return refuse(
      403,
      "needs the cookie website_2 of login_nest, or Authorization: Basic with a session's token",
    );
  }
  if (!camera) return refuse(404, `the region ${region} knows no such camera`);
  if (asked.path.startsWith("/cuepoint_category/")) {
    return json([{ id: 1, label: "Zone 1", type: "region", hidden: false }]);
  }
  if (asked.path.startsWith("/cuepoint/")) return json(events(asked, camera, cloud));
  if (!isImage) return refuse(404, "there is no footage: the simulated cameras keep none");
  if (camera.migration !== "NORMAL") return refuse(404, "the camera was moved to Google Home");
  if (camera.state !== "online") return refuse(404, `the camera is ${camera.state}`);
  const width = asked.query.get("width");
  return {
    headers: { "content-type": "image/jpeg", "cache-control": "no-cache, no-store" },
    body: camera.picture(width === null ? undefined : Number(width)),
  };
}

const EVENT_EVERY_MS = 60_000;
const EVENT_MS = 8000;
const HISTORY_MS = 3 * 3_600_000;

/** A motion at the start of every minute, for as far back as the free history goes. */
function events(asked: Asked, camera: CameraModel, cloud: Cloud): object[] {
  const now = cloud.clock.now();
  const seconds = (name: string, fallbackMs: number) =>
    asked.query.has(name) ? Number(asked.query.get(name)) * 1000 : fallbackMs;
  const fromMs = Math.max(seconds("start_time", now - HISTORY_MS), now - HISTORY_MS);
  const toMs = Math.min(seconds("end_time", now), now);
  const list: object[] = [];
  const firstMs = Math.floor(fromMs / EVENT_EVERY_MS) * EVENT_EVERY_MS;
  for (let startMs = firstMs; startMs < toMs; startMs += EVENT_EVERY_MS) {
    if (startMs + EVENT_MS < fromMs) continue;
    list.push({
      id: `${Math.floor(startMs / 1000)}-labs`,
      camera_uuid: camera.uuid,
      start_time: startMs / 1000,
      end_time: Math.min(now, startMs + EVENT_MS) / 1000,
      playback_time: startMs / 1000,
      in_progress: startMs + EVENT_MS > now,
      is_important: true,
      importance: 3,
      types: ["motion"],
      zone_ids: [0],
    });
  }
  return list;
}
