/**
 * The Nest service itself: `home.nest.com` with the session and the list of everything that the
 * account owns, and the transport host that tells of changes.
 *
 * @module
 */
import { type Answer, type Asked, asRecord, json, readFields } from "../http_server.ts";
import type { CameraModel } from "./camera.ts";
import { basicToken, type Cloud, refuse, sessionDate } from "./cloud.ts";

/** One thing that the account owns, as the home API gives it. */
interface Bucket {
  readonly object_key: string;
  readonly object_revision: number;
  readonly object_timestamp: number;
  readonly value: Readonly<Record<string, unknown>>;
}

/** Answers for `home.nest.com`. */
export async function answerHome(asked: Asked, cloud: Cloud): Promise<Answer> {
  // Seen since 2018: whatever looks neither like a browser nor like Nest's app is turned away.
  if (!/^(Mozilla|Nest)\/\d/.test(asked.header("user-agent"))) {
    return refuse(406, "the User-Agent begins with neither Mozilla/ nor Nest/");
  }
  const route = `${asked.method} ${asked.path}`;
  if (route === "POST /session") return await passwordLogin(asked, cloud);
  if (route === "POST /api/0.1/2fa/verify_pin") return await verifyPin(asked, cloud);
  if (route === "GET /session") return session(asked, cloud);
  if (route === `POST /api/0.1/user/${cloud.userId}/app_launch`) {
    return await appLaunch(asked, cloud);
  }
  if (/^POST \/api\/0\.1\/user\/[^/]+\/app_launch$/.test(route)) {
    return refuse(403, "app_launch names another user than the token's");
  }
  return refuse(404, "home has no such path");
}

/** Answers for the transport host, which the session names. */
export async function answerTransport(asked: Asked, cloud: Cloud): Promise<Answer> {
  if (asked.method !== "POST" || !/^\/v[56]\/(subscribe|put)$/.test(asked.path)) {
    return refuse(404, "transport has no such path");
  }
  if (cloud.tokens.expiresAtMs(basicToken(asked), "nest", "session") === undefined) {
    return refuse(401, "Authorization: Basic needs a live access token as it is, not in base64");
  }
  return asked.path.endsWith("subscribe") ? await subscribe(asked, cloud) : await put(asked, cloud);
}

/** Google has ended this login for nearly everyone; it answers 401 unless told to work. */
async function passwordLogin(asked: Asked, cloud: Cloud): Promise<Answer> {
  const fields = await readFields(asked);
  if (!fields || typeof fields["email"] !== "string" || typeof fields["password"] !== "string") {
    return refuse(400, "the body needs email and password");
  }
  const login = cloud.password;
  if (login?.email !== fields["email"] || login.password !== fields["password"]) {
    return json({ error: "unauthorized", error_description: "Unauthorized", instance_id: "" }, {
      status: 401,
      headers: {
        "x-simulator-reason": login ? "wrong e-mail or password" : "password login is dead",
      },
    });
  }
  if (login.pin !== undefined) {
    return json({
      status: "VERIFICATION_PENDING",
      "2fa_token": cloud.tokens.issue("pending", 600_000),
      truncated_phone_number: "**12",
    }, { status: 401 });
  }
  return sessionReply(cloud, cloud.tokens.issue("nest", cloud.nestLifeMs));
}

async function verifyPin(asked: Asked, cloud: Cloud): Promise<Answer> {
  const fields = await readFields(asked);
  if (cloud.tokens.expiresAtMs(String(fields?.["2fa_token"]), "pending") === undefined) {
    return refuse(401, "the 2fa_token is unknown or has expired");
  }
  if (String(fields?.["pin"]) !== cloud.password?.pin) {
    return json({ status: "id_match_negative" }, { status: 401 });
  }
  return json({
    status: "id_match_positive",
    access_token: cloud.tokens.issue("nest", cloud.nestLifeMs),
  });
}

function session(asked: Asked, cloud: Cloud): Answer {
  const token = basicToken(asked);
  if (cloud.tokens.expiresAtMs(token, "nest", "session") !== undefined) {
    return sessionReply(cloud, token);
  }
  const expiresAtMs = cloud.tokens.expiresAtMs(token, "jwt");
  if (expiresAtMs === undefined) {
    return json({ error: "unauthorized" }, {
      status: 401,
      headers: {
        "x-simulator-reason":
          "Authorization: Basic needs a live access token or JWT as it is, not in base64",
      },
    });
  }
  return sessionReply(cloud, cloud.tokens.issue("session", expiresAtMs - cloud.clock.now()));
}

function sessionReply(cloud: Cloud, accessToken: string): Answer {
  const expiresAtMs = cloud.tokens.expiresAtMs(accessToken, "nest", "session") ?? 0;
  return json({
    "2fa_state": "enrolled",
    access_token: accessToken,
    primary_phone: null,
    email: cloud.email,
    expires_in: sessionDate(expiresAtMs),
    urls: urls(cloud),
    "2fa_enabled": false,
    userid: cloud.userId,
    "2fa_state_changed": "2026-01-01",
    is_superuser: false,
    language: "en-US",
    weave: {
      service_config: "",
      pairing_token: "wpt.simulated",
      access_token: "simulated-weave-token",
    },
    limits: limits(),
    user: `user.${cloud.userId}`,
    is_staff: false,
  }, {
    headers: {
      "set-cookie": `cztoken=${accessToken}; Path=/; HttpOnly; Expires=${
        new Date(expiresAtMs).toUTCString()
      }`,
    },
  });
}

function urls(cloud: Cloud) {
  return {
    rubyapi_url: `${cloud.urls.home}/`,
    czfe_url: cloud.urls.transport,
    log_upload_url: `${cloud.urls.home}/log`,
    transport_url: cloud.urls.transport,
    weather_url: `${cloud.urls.home}/weather?query=`,
    support_url: `${cloud.urls.home}/support`,
    direct_transport_url: cloud.urls.transport,
  };
}

function limits() {
  return {
    thermostats_per_structure: 20,
    structures: 5,
    smoke_detectors_per_structure: 18,
    smoke_detectors: 54,
    thermostats: 60,
  };
}

async function appLaunch(asked: Asked, cloud: Cloud): Promise<Answer> {
  if (cloud.tokens.expiresAtMs(basicToken(asked), "nest", "session") === undefined) {
    return refuse(401, "Authorization: Basic needs a live access token as it is, not in base64");
  }
  const userHeader = asked.header("x-nl-user-id");
  if (userHeader !== "" && userHeader !== cloud.userId) {
    return refuse(403, "X-nl-user-id names another user than the token's");
  }
  const fields = await readFields(asked);
  const types = fields?.["known_bucket_types"];
  if (!Array.isArray(types) || !Array.isArray(fields?.["known_bucket_versions"])) {
    return refuse(400, "the body needs the lists known_bucket_types and known_bucket_versions");
  }
  return json({
    updated_buckets: buckets(cloud).filter(({ object_key }) =>
      types.includes(object_key.split(".")[0])
    ),
    service_urls: { urls: urls(cloud), limits: limits() },
    weather_for_structures: {},
    "2fa_enabled": false,
  });
}

/** Everything that the account owns. */
function buckets(cloud: Cloud): Bucket[] {
  const cameras = [...cloud.cameras.values()];
  const changedAtMs = Math.max(0, ...cameras.map((camera) => camera.changedAtMs));
  const bucket = (key: string, value: Bucket["value"]): Bucket => ({
    object_key: key,
    object_revision: 1,
    object_timestamp: changedAtMs,
    value,
  });
  return [
    bucket(`user.${cloud.userId}`, {
      email: cloud.email,
      name: "Simulated Owner",
      structures: [`structure.${cloud.structureId}`],
    }),
    bucket(`structure.${cloud.structureId}`, {
      name: "Home",
      devices: [],
      time_zone: "Europe/Berlin",
      country_code: "DE",
      away: false,
    }),
    bucket(`where.${cloud.structureId}`, {
      wheres: cameras.map((camera) => ({ name: camera.name, where_id: whereId(camera) })),
    }),
    ...cameras.map((camera) => cameraBucket(camera, cloud)),
  ];
}

function whereId(camera: CameraModel): string {
  return camera.uuid.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function cameraBucket(camera: CameraModel, cloud: Cloud): Bucket {
  const url = cloud.urls.regions.get(camera.region) ?? "";
  const host = url.replace(/^https?:\/\//, "");
  const { direct, webSocket } = cloud.urls.nexus ?? {};
  const live = camera.live !== undefined;
  return {
    object_key: `quartz.${camera.uuid}`,
    object_revision: camera.revision,
    object_timestamp: camera.changedAtMs,
    value: {
      activation_time: 1514764800000,
      audio_input_enabled: camera.live?.audio ?? true,
      camera_type: 8,
      capabilities: capabilities(camera),
      cvr_enrolled: false,
      description: camera.name,
      ...(live ? { direct_nexustalk_host: direct } : {}),
      download_host: host,
      ip_address: "192.0.2.10",
      last_connect_time: Math.floor(camera.changedAtMs / 1000),
      live_stream_host: host,
      mac_address: camera.serial.slice(0, 12),
      model: "Nest Cam IQ",
      nexus_api_http_server_url: url,
      preview_streaming_enabled: false,
      public_share_enabled: false,
      serial_number: camera.serial,
      snapshot_url: {
        snapshot_url_prefix: `${url}/get_image?uuid=`,
        snapshot_url_suffix: "",
      },
      software_version: "216-600012",
      streaming_state: camera.state === "online"
        ? "streaming-enabled"
        : camera.state === "off"
        ? "streaming-disabled"
        : "offline",
      structure_id: cloud.structureId,
      ...(live ? { websocket_nexustalk_host: webSocket } : {}),
      where_id: whereId(camera),
      properties: {
        "audio.enabled": camera.live?.audio ?? true,
        "cc2migration.overview_state": camera.migration,
      },
    },
  };
}

/** What a camera of this size says that it can do. */
export function capabilities(camera: CameraModel): string[] {
  return [
    "streaming.cameraprofile.AVPROFILE_MOBILE_1",
    "streaming.cameraprofile.VIDEO_H264_100KBIT_L30",
    "streaming.cameraprofile.VIDEO_H264_530KBIT_L31",
    ...(camera.widthPx >= 1920 ? ["streaming.cameraprofile.VIDEO_H264_2MBIT_L40"] : []),
    "audio.microphone",
    "stranger_detection",
  ];
}

/** Holds the request until something is newer than the caller knows; empty if nothing is in time. */
async function subscribe(asked: Asked, cloud: Cloud): Promise<Answer> {
  const fields = await readFields(asked);
  const objects = fields?.["objects"];
  if (!Array.isArray(objects)) return refuse(400, "the body needs the list objects");
  const known = new Map(
    objects.map(asRecord).map((object) => [
      object["object_key"],
      Number(object["object_revision"] ?? 0),
    ]),
  );
  const newer = () =>
    buckets(cloud).filter((bucket) =>
      bucket.object_revision > (known.get(bucket.object_key) ?? Infinity)
    );
  const asksMs = Number(fields?.["timeout"] ?? 600) * 1000;
  const done = new AbortController();
  const signal = AbortSignal.any([asked.signal, done.signal]);
  const wake = () => {
    if (newer().length > 0) done.abort();
  };
  cloud.listeners.add(wake);
  try {
    wake();
    await cloud.clock.sleep(Math.min(asksMs, cloud.subscribeMs), { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    cloud.listeners.delete(wake);
  }
  const changed = newer();
  return changed.length === 0 ? { body: "" } : json({ objects: changed });
}

/** Takes changes of a camera; only switching it on and off does anything. */
async function put(asked: Asked, cloud: Cloud): Promise<Answer> {
  const fields = await readFields(asked);
  const objects = fields?.["objects"];
  if (!Array.isArray(objects)) return refuse(400, "the body needs the list objects");
  const changed: Bucket[] = [];
  for (const object of objects.map(asRecord)) {
    const camera = cloud.cameras.get(String(object["object_key"]).replace(/^quartz\./, ""));
    if (!camera) continue;
    const wanted = asRecord(object["value"])["streaming_state"];
    if (wanted === "streaming-enabled") camera.setState("online");
    if (wanted === "streaming-disabled") camera.setState("off");
    changed.push(cameraBucket(camera, cloud));
  }
  return json({
    objects: changed.map(({ object_key, object_revision, object_timestamp }) => ({
      object_key,
      object_revision,
      object_timestamp,
    })),
  });
}
