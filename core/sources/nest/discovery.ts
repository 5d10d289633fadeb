/**
 * Which cameras an account has: `app_launch` gives every object of its homes as a *bucket*
 * (`{object_key, value}`); `quartz.<uuid>` are cameras, `where.<structure>` the names of rooms. A
 * camera's pictures come from the regional host that its bucket names. Where it names none, the
 * camera API is asked. Whatever it names must be one of Nest's own hosts: the login goes there.
 *
 * A camera that was moved to Google Home is still in the list but dead there.
 *
 * @module
 */
import * as v from "valibot";
import { type DiscoveredCamera, sourceError } from "../../types.ts";
import { isLoopback, isWithin } from "../hosts.ts";
import { below, field, jsonOf, type NestApi, refusal, textField } from "./api.ts";
import type { NestAuth } from "./auth.ts";
import type { NestLogin } from "./login.ts";
import { VIDEO_PROFILES } from "./nexus_packets.ts";
import type { NexusAddress, NexusTransport } from "./nexus_transport.ts";
import type { NestEndpoints } from "./options.ts";

/** A camera as the cloud tells of it. */
export interface NestCamera {
  /** 32 hex digits. */
  readonly id: string;
  /** What its owner calls it, not yet unique. */
  readonly label: string;
  readonly state: DiscoveredCamera["state"];
  readonly model?: string;
  /** Where its pictures come from, or why they cannot be had. */
  readonly images: URL | { readonly problem: string };
  /** Its live stream, where it has one. */
  readonly stream?: NestStream;
}

/** Where and how a camera streams. */
export interface NestStream {
  /** In the order in which they are tried; none where the cloud names only hosts that are refused. */
  readonly addresses: readonly NexusAddress[];
  /** Why an address is not used. */
  readonly problems: readonly string[];
  /** Video profiles that it offers, the best one first. */
  readonly profiles: readonly number[];
  /** Its owner lets it be heard. */
  readonly hasSound: boolean;
}

/** What a discovery found. */
export interface Discovery {
  readonly cameras: readonly NestCamera[];
  /** Cameras that live in Google Home now. */
  readonly moved: readonly { readonly id: string; readonly label: string }[];
}

/** Anything unexpected counts as absent, so that one odd camera does not hide the others. */
const text = () => v.fallback(v.optional(v.string()), undefined);

const quartzBucket = v.object({
  description: text(),
  nexus_api_http_server_url: text(),
  streaming_state: text(),
  where_id: text(),
  model: text(),
  direct_nexustalk_host: text(),
  websocket_nexustalk_host: text(),
  capabilities: v.fallback(v.optional(v.array(v.unknown())), undefined),
  audio_input_enabled: v.fallback(v.optional(v.boolean()), undefined),
  properties: v.fallback(v.optional(v.record(v.string(), v.unknown())), undefined),
});

const MIGRATION = "cc2migration.overview_state";
const HERE = ["NORMAL", "REVERSE_MIGRATION_IN_PROGRESS"];

/** Asks the cloud, with a new login if the present one is refused. */
export async function discover(
  api: NestApi,
  { auth, signal }: { readonly auth: NestAuth; readonly signal: AbortSignal },
): Promise<Discovery> {
  let cameraHeaders: NestLogin["cameraHeaders"] = {};
  const response = await auth.use((login) => {
    cameraHeaders = login.cameraHeaders;
    return api.request(below(api.endpoints.home, `/api/0.1/user/${login.userId}/app_launch`), {
      signal,
      headers: {
        "authorization": `Basic ${login.accessToken}`,
        "x-nl-protocol-version": "1",
        "x-nl-user-id": login.userId,
      },
      json: { known_bucket_types: ["quartz", "where"], known_bucket_versions: [] },
    });
  }, { signal, proven: true });
  if (response.status !== 200) {
    throw refusal(response, {
      clock: api.clock,
      refused: "the cloud refuses to list the cameras although the login was just renewed",
    });
  }
  const buckets = field(jsonOf(response), "updated_buckets");
  if (!Array.isArray(buckets)) {
    throw sourceError(
      "protocol",
      `the list of cameras was not understood: expected JSON with "updated_buckets", got ${
        jsonOf(response) === undefined ? "something else than JSON" : "JSON without them"
      }`,
    );
  }
  return await readBuckets(buckets, { api, cameraHeaders, signal });
}

async function readBuckets(
  buckets: readonly unknown[],
  { api, cameraHeaders, signal }: {
    readonly api: NestApi;
    readonly cameraHeaders: NestLogin["cameraHeaders"];
    readonly signal: AbortSignal;
  },
): Promise<Discovery> {
  const rooms = new Map<string, string>();
  const found = new Map<string, v.InferOutput<typeof quartzBucket>>();
  for (const bucket of buckets) {
    const key = textField(bucket, "object_key") ?? "";
    const value = field(bucket, "value");
    if (key.startsWith("where.")) {
      const wheres = field(value, "wheres");
      for (const where of Array.isArray(wheres) ? wheres : []) {
        const [id, name] = [textField(where, "where_id"), textField(where, "name")];
        if (id !== undefined && name !== undefined) rooms.set(id, name);
      }
    }
    const id = /^quartz\.([\w-]+)$/.exec(key)?.[1];
    const camera = v.safeParse(quartzBucket, value);
    if (id !== undefined && camera.success) found.set(id, camera.output);
  }

  const homeless = [...found.values()].some((camera) => !camera.nexus_api_http_server_url);
  const hosts = homeless ? await hostsFromCameraApi(api, { cameraHeaders, signal }) : new Map();

  const cameras: NestCamera[] = [];
  const moved: { id: string; label: string }[] = [];
  for (const [id, camera] of found) {
    const label = camera.description?.trim() || rooms.get(camera.where_id ?? "")?.trim() ||
      `Nest camera ${id.slice(0, 6)}`;
    const migration = camera.properties?.[MIGRATION];
    if (typeof migration === "string" && !HERE.includes(migration)) {
      moved.push({ id, label });
      continue;
    }
    const stream = streamOf(camera, api.endpoints);
    const streaming = camera.streaming_state?.toLowerCase() ?? "enabled";
    cameras.push({
      id,
      label,
      state: streaming.includes("offline")
        ? "offline"
        : streaming.includes("enabled")
        ? "online"
        : "off",
      ...(camera.model ? { model: camera.model } : {}),
      images: imageHost(camera.nexus_api_http_server_url || hosts.get(id), api.endpoints),
      ...(stream ? { stream } : {}),
    });
  }
  cameras.sort((a, b) => a.id < b.id ? -1 : 1);
  return { cameras, moved };
}

/** The regional hosts by camera id. What is missing here too is said when the camera is opened. */
async function hostsFromCameraApi(
  api: NestApi,
  { cameraHeaders, signal }: {
    readonly cameraHeaders: NestLogin["cameraHeaders"];
    readonly signal: AbortSignal;
  },
): Promise<Map<string, string>> {
  const response = await api.request(
    below(api.endpoints.camera, "/api/cameras.get_owned_and_member_of_with_properties"),
    { signal, headers: cameraHeaders },
  );
  const items = response.status === 200 ? field(jsonOf(response), "items") : undefined;
  const hosts = new Map<string, string>();
  for (const item of Array.isArray(items) ? items : []) {
    const id = textField(item, "uuid");
    const host = textField(item, "nexus_api_nest_domain_host") ??
      textField(item, "nexus_api_http_server");
    if (id !== undefined && host !== undefined) hosts.set(id, host);
  }
  return hosts;
}

/** The live stream of a camera, where the cloud names a host for it. */
function streamOf(
  camera: v.InferOutput<typeof quartzBucket>,
  endpoints: NestEndpoints,
): NestStream | undefined {
  const { direct_nexustalk_host: direct, websocket_nexustalk_host: webSocket } = camera;
  if (!direct && !webSocket) return undefined;
  const addresses: NexusAddress[] = [];
  const problems: string[] = [];
  for (const [named, transport] of [[direct, "tls"], [webSocket, "websocket"]] as const) {
    if (!named) continue;
    const address = streamAddress(named, transport, endpoints);
    if ("problem" in address) problems.push(address.problem);
    else addresses.push(address);
  }
  const prefix = "streaming.cameraprofile.";
  const offered = new Set(
    (camera.capabilities ?? []).flatMap((capability) =>
      typeof capability === "string" && capability.startsWith(prefix)
        ? [capability.slice(prefix.length)]
        : []
    ),
  );
  const profiles = Object.entries(VIDEO_PROFILES)
    .flatMap(([name, profile]) => offered.has(name) ? [profile] : []);
  // What every client asks for comes last where the camera does not name it.
  for (const usual of [9, 7, 8]) if (!profiles.includes(usual)) profiles.push(usual);
  const audible = camera.properties?.["audio.enabled"] ?? camera.audio_input_enabled;
  return { addresses, problems, profiles, hasSound: audible !== false && audible !== "false" };
}

/**
 * Where a live stream is, if the login may be sent there; the rules are those of
 * {@linkcode imageHost}. The host may have a port; without one the transport has its own.
 */
export function streamAddress(
  named: string,
  transport: NexusTransport,
  endpoints: NestEndpoints,
): NexusAddress | { readonly problem: string } {
  // Hosts are named bare; whatever else the text holds does not belong there.
  const text = named.replace(/^(wss|https):\/\//i, "").replace(/\/(nexustalk)?\/?$/, "");
  const address = `https://${text}`;
  const url = /^[\w.:[\]-]+$/.test(text) && URL.canParse(address) ? new URL(address) : undefined;
  if (!url) {
    const shown = JSON.stringify(named.slice(0, 80));
    return { problem: `the cloud names no valid host for the live stream: ${shown}` };
  }
  if (!mayHaveLogin(url, endpoints)) {
    return {
      problem: `the cloud sends us to ${url.host} for the live stream, which is refused: ` +
        `expected a host in ${ZONES.join(" or ")}`,
    };
  }
  const port = /:(\d+)$/.exec(text)?.[1];
  return {
    transport,
    hostname: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: port === undefined ? (transport === "tls" ? 1443 : 443) : Number(port),
  };
}

/** The zones that Nest's camera hosts are in. */
const ZONES = ["nest.com", "dropcam.com"];

/** Whether the account's login may be sent to a host that the cloud named. */
function mayHaveLogin(url: URL, endpoints: NestEndpoints): boolean {
  const own = Object.values<URL>({ ...endpoints });
  return isWithin(url, ZONES) ||
    own.some((endpoint) => endpoint.hostname === url.hostname) ||
    (isLoopback(url) && own.every(isLoopback));
}

/**
 * Where a camera's pictures come from, if the login may be sent there: one of Nest's zones over
 * https, or a host that the user's own endpoints name. Where these are on this machine, as for a
 * simulator, any port of it will do.
 */
export function imageHost(
  named: string | undefined,
  endpoints: NestEndpoints,
): NestCamera["images"] {
  if (!named) return { problem: "the cloud does not say which host its pictures come from" };
  const address = /^[a-z]+:\/\//i.test(named) ? named : `https://${named}`;
  if (!URL.canParse(address)) return { problem: `the cloud names no valid host: "${named}"` };
  const url = new URL(address);
  const allowed = mayHaveLogin(url, endpoints);
  const encrypted = url.protocol === "https:" ||
    (url.protocol === "http:" && endpoints.home.protocol === "http:");
  if (allowed && encrypted && url.username === "") return new URL(url.pathname, url.origin);
  return {
    problem:
      `the cloud sends us to ${url.protocol}//${url.host} for its pictures, which is refused: ` +
      `expected https and a host in ${
        ZONES.join(" or ")
      }; a host of your own goes into "endpoints"`,
  };
}
