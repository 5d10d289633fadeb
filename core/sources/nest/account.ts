/**
 * A Nest account: one login, one pool of connections, and its cameras as they come and go. A camera
 * keeps its source and its name for as long as it is in the account, so that whoever records it
 * notices nothing when others appear or vanish, or when it moves to another region.
 *
 * @module
 */
import { type Account, type Source, sourceError } from "../../types.ts";
import type { SourceContext } from "../context.ts";
import { type Http, openHttp } from "../http.ts";
import { createNestApi, type NestApi } from "./api.ts";
import { createNestAuth, type NestAuth } from "./auth.ts";
import { nestCameraSource } from "./camera.ts";
import { discover, type NestCamera } from "./discovery.ts";
import { credentialsProblem, nestEndpoints, type NestOptions } from "./options.ts";

interface Connection {
  readonly http: Http;
  readonly api: NestApi;
  readonly auth: NestAuth;
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
  let saidMoved = "";

  const connect = async (): Promise<Connection> => {
    const http = await openHttp({ clock, ca: options.ca, fetch: context.fetch });
    const api = createNestApi({
      http,
      clock,
      endpoints: nestEndpoints(options),
      userAgent: options.userAgent,
    });
    return { http, api, auth: createNestAuth({ api, options, log }) };
  };
  const connected = (): Promise<Connection> => {
    closing.signal.throwIfAborted();
    // An unreadable CA file may be there the next time.
    return connection ??= connect().catch((error) => {
      connection = undefined;
      throw error;
    });
  };

  const add = (camera: NestCamera, { api, auth }: Connection): Known => {
    const entry: Known = {
      camera,
      label: camera.label,
      name: uniqueName(camera, known),
      source: nestCameraSource({
        api,
        auth,
        options,
        closing: closing.signal,
        latest: () => known.get(camera.id)?.camera,
        onSize: (widthPx, heightPx) => entry.size = { widthPx, heightPx },
      }),
    };
    return entry;
  };

  return {
    async cameras({ signal }) {
      signal.throwIfAborted();
      const open = await connected();
      const { cameras, moved } = await discover(open.api, { auth: open.auth, signal });
      const names = moved.join(", ");
      if (names !== saidMoved && names !== "") {
        log.warn(
          `moved to Google Home, where this account's pictures do not reach: ${names}; ` +
            `these cameras need an account of a type for Google Home`,
        );
      }
      saidMoved = names;
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
      return cameras.flatMap(({ id, state, model }) => {
        const entry = known.get(id);
        return entry === undefined ? [] : [{
          id,
          name: entry.name,
          state,
          ...(model ? { model } : {}),
          ...entry.size,
          source: entry.source,
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
