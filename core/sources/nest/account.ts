/**
 * A Nest account: one login, one pool of connections, and its cameras as they come and go. A camera
 * keeps its source and its name for as long as it is in the account, so that whoever records it
 * notices nothing when others appear or vanish, or when it moves to another region.
 *
 * @module
 */
import { type Account, type Source, sourceError } from "../../types.ts";
import type { SourceContext } from "../context.ts";
import { type Http, openHttp, readCertificates } from "../http.ts";
import { createNestApi, type NestApi } from "./api.ts";
import { createNestAuth, type NestAuth } from "./auth.ts";
import { nestCameraSource } from "./camera.ts";
import { nestEvents } from "./cuepoints.ts";
import { discover, type NestCamera, streamAddress } from "./discovery.ts";
import { liveOrPicturesSource } from "./live.ts";
import type { TokenMemory } from "./nexus_credentials.ts";
import { openNexusSession } from "./nexus_session.ts";
import type { NexusAddress } from "./nexus_transport.ts";
import { credentialsProblem, nestEndpoints, type NestOptions } from "./options.ts";

interface Connection {
  readonly http: Http;
  readonly api: NestApi;
  readonly auth: NestAuth;
  /** Text of the file `ca`. */
  readonly ca?: string;
}

interface Known {
  readonly source: Source;
  camera: NestCamera;
  /** The label that `name` was made from. */
  label: string;
  name: string;
  size?: { readonly widthPx: number; readonly heightPx: number };
}

/**
 * Opens an account; nothing is sent before its cameras are asked for.
 *
 * @throws if not exactly one kind of credentials is given
 */
export function openNestAccount(options: NestOptions, context: SourceContext): Account {
  const problem = credentialsProblem(options);
  if (problem !== undefined) throw sourceError("auth", problem);
  const { clock, log } = context;
  const closing = new AbortController();
  const known = new Map<string, Known>();
  let connection: Promise<Connection> | undefined;
  /** Names of the cameras that are in Google Home now. */
  const movedLabels = new Map<string, string>();
  const tokenMemory: TokenMemory = { form: 0 };
  let saidMoved = "";

  const connect = async (): Promise<Connection> => {
    const http = await openHttp({ clock, ca: options.ca, fetch: context.fetch });
    const api = createNestApi({
      http,
      clock,
      endpoints: nestEndpoints(options),
      userAgent: options.userAgent,
    });
    const auth = createNestAuth({ api, options, log });
    const ca = options.ca === undefined ? undefined : await readCertificates(options.ca);
    return { http, api, auth, ...(ca === undefined ? {} : { ca }) };
  };
  const connected = (): Promise<Connection> => {
    closing.signal.throwIfAborted();
    // An unreadable CA file may be there the next time.
    return connection ??= connect().catch((error) => {
      connection = undefined;
      throw error;
    });
  };

  const add = (camera: NestCamera, open: Connection): Known => {
    const { api, auth, ca } = open;
    const { id } = camera;
    const latest = () => known.get(id)?.camera;
    const present = (): NestCamera => {
      const now = latest();
      if (now) return now;
      const moved = movedLabels.get(id);
      throw sourceError(
        "gone",
        moved === undefined
          ? "the camera is no longer in its account"
          : `${moved} was moved to Google Home, where this account does not reach`,
      );
    };
    const onSize = (widthPx: number, heightPx: number) => entry.size = { widthPx, heightPx };
    /** The way that worked last comes first. */
    let lastTransport: NexusAddress["transport"] = "tls";
    const entry: Known = {
      camera,
      label: camera.label,
      name: uniqueName(camera, known),
      source: liveOrPicturesSource({
        video: options.video,
        clock,
        log,
        closing: closing.signal,
        label: () => present().label,
        noStream: () => {
          const { stream } = present();
          if (!stream) return "the cloud names no live stream for this camera";
          return stream.addresses.length === 0 ? stream.problems.join("; ") : undefined;
        },
        async openStream(signal) {
          const { label, stream } = present();
          const addresses = (stream?.addresses ?? []).toSorted((a, b) =>
            Number(b.transport === lastTransport) - Number(a.transport === lastTransport)
          );
          const session = await openNexusSession({
            camera: { id, label },
            addresses,
            profiles: stream?.profiles ?? [],
            audio: options.audio && stream?.hasSound !== false,
            ...{ auth, clock, log, signal, memory: tokenMemory, random: context.random },
            userAgent: options.userAgent,
            ...(ca === undefined ? {} : { ca }),
            redirect(host, from) {
              const to = streamAddress(host, from.transport, api.endpoints);
              if (!("problem" in to)) return to;
              throw sourceError("protocol", `${label}: ${to.problem}`);
            },
          });
          lastTransport = session.address.transport;
          for (const track of session.tracks) {
            if (track.kind === "video") onSize(track.widthPx, track.heightPx);
          }
          return session;
        },
        refresh: async (signal) => void await find(open, signal),
        pictures: nestCameraSource({ api, auth, options, closing: closing.signal, latest, onSize }),
      }),
    };
    return entry;
  };

  /** Asks the cloud which cameras there are, and keeps what it says. */
  const find = async (open: Connection, signal: AbortSignal): Promise<readonly NestCamera[]> => {
    const { cameras, moved } = await discover(open.api, { auth: open.auth, signal });
    const names = moved.map(({ label }) => label).join(", ");
    if (names !== saidMoved && names !== "") {
      log.warn(
        `moved to Google Home, where this account's pictures do not reach: ${names}; ` +
          `these cameras need an account of a type for Google Home`,
      );
    }
    saidMoved = names;
    movedLabels.clear();
    for (const { id, label } of moved) movedLabels.set(id, label);
    const present = new Set(cameras.map((camera) => camera.id));
    for (const id of known.keys()) if (!present.has(id)) known.delete(id);
    for (const camera of cameras) {
      const entry = known.get(camera.id);
      if (entry === undefined) {
        known.set(camera.id, add(camera, open));
        continue;
      }
      entry.camera = camera;
      if (entry.label !== camera.label) {
        entry.label = camera.label;
        entry.name = uniqueName(camera, known);
      }
    }
    return cameras;
  };

  return {
    async cameras({ signal }) {
      signal.throwIfAborted();
      const open = await connected();
      const cameras = await find(open, signal);
      return cameras.flatMap(({ id, state, model }) => {
        const entry = known.get(id);
        return entry === undefined ? [] : [{
          id,
          name: entry.name,
          state,
          ...(model ? { model } : {}),
          ...entry.size,
          source: entry.source,
          events: ({ signal }) => {
            const latest = () => known.get(id)?.camera;
            return nestEvents({ api: open.api, auth: open.auth, latest, signal });
          },
        }];
      });
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new Error("the account is closed"));
      const open = await connection?.catch(() => undefined);
      await open?.auth[Symbol.asyncDispose]();
      open?.http[Symbol.dispose]();
    },
  };
}

/** A second "Kitchen" becomes "Kitchen (1a2b)"; the first keeps its name. */
function uniqueName(camera: NestCamera, known: ReadonlyMap<string, Known>): string {
  const taken = (name: string) =>
    [...known].some(([id, entry]) =>
      id !== camera.id && entry.name.toLowerCase() === name.toLowerCase()
    );
  if (!taken(camera.label)) return camera.label;
  for (let digits = 4; digits < camera.id.length; digits += 4) {
    const name = `${camera.label} (${camera.id.slice(0, digits)})`;
    if (!taken(name)) return name;
  }
  return `${camera.label} (${camera.id})`;
}
