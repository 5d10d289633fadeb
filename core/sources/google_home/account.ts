/**
 * A Google Home account: its Nest cameras, each with the recordings that Google keeps of it, or live.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { type Account, type AnyCamera, sourceError, sourceErrorKind } from "../../types.ts";
import type { SourceContext } from "../context.ts";
import { isLoopback } from "../hosts.ts";
import { type Http, openHttp } from "../http.ts";
import { googleArchive } from "./archive.ts";
import { createFoyer, type Foyer } from "./foyer.ts";
import { homeCameras } from "./home_graph.ts";
import { liveSource, type LiveSourceOptions } from "./live.ts";
import {
  googleCredentialsProblem,
  googleHomeEndpoints,
  type GoogleHomeOptions,
} from "./options.ts";
import { createGoogleTokens, type GoogleTokens } from "./tokens.ts";

/** The list of devices changes seldom, and the service is not ours to be asked every minute. */
const DEVICES_MS = 3_600_000;

interface Connection {
  readonly http: Http;
  readonly tokens: GoogleTokens;
  readonly foyer: Foyer;
  readonly ca?: string | undefined;
}

/**
 * Opens an account; nothing is sent before its cameras are asked for.
 *
 * @throws if not exactly one kind of credentials is given
 */
export function openGoogleHomeAccount(
  options: GoogleHomeOptions,
  context: SourceContext & Pick<LiveSourceOptions, "openSession">,
): Account<AnyCamera> {
  const problem = googleCredentialsProblem(options);
  if (problem !== undefined) throw sourceError("auth", problem);
  const { clock, random, log } = context;
  const endpoints = googleHomeEndpoints(options);
  let connection: Promise<Connection> | undefined;
  let known: { readonly cameras: readonly AnyCamera[]; readonly atMs: number } | undefined;
  const closing = new AbortController();

  const connect = async (): Promise<Connection> => {
    const ca = options.ca === undefined ? undefined : await readFile(options.ca, "utf8");
    const http = await openHttp({ clock, ca: options.ca, fetch: context.fetch });
    const auth = { endpoint: endpoints.android, clock, ca };
    const tokens = createGoogleTokens({ options, endpoints, http, auth, log });
    const foyer = createFoyer({ endpoint: endpoints.foyer, token: tokens.devices, clock, ca });
    return { http, ca, tokens, foyer };
  };

  const list = async (
    { http, tokens, foyer, ca }: Connection,
    signal: AbortSignal,
  ): Promise<readonly AnyCamera[]> => {
    const requestId = Array.from(
      { length: 32 },
      () => Math.floor(random() * 16).toString(16),
    ).join("");
    const found = await tokens.devices.use(
      (token) =>
        homeCameras({ endpoint: endpoints.foyer, token, requestId, clock, signal, ca })
          .catch((error: unknown) => {
            if (sourceErrorKind(error) === "auth") return { refusal: error };
            throw error;
          }),
      { signal, isRefused: (answer) => "refusal" in answer },
    );
    if ("refusal" in found) throw found.refusal;
    const { cameras, others } = found;
    if (others.length > 0 && known === undefined) {
      log.warn(
        `${
          options.mode === "live"
            ? "Google does not stream"
            : "Google keeps no recordings to fetch of"
        }: ${others.join(", ")}; ` +
          "cameras of the old Nest app need an account of type nest",
      );
    }
    return cameras.map((camera): AnyCamera => {
      const { id, name, model } = camera;
      const listed = { id, name, model, state: "online" } as const;
      if (options.mode === "live") {
        const source = liveSource({
          ...{ foyer, camera, clock, log, closing: closing.signal },
          loopback: isLoopback(endpoints.foyer),
          ...(context.openSession ? { openSession: context.openSession } : {}),
        });
        return { ...listed, source };
      }
      const archive = googleArchive({
        ...{ id, endpoint: endpoints.frontend, historyMs: options.history, http, clock },
        token: tokens.recordings,
      });
      return { ...listed, archive };
    });
  };

  return {
    async cameras({ signal }) {
      signal.throwIfAborted();
      closing.signal.throwIfAborted();
      if (known && clock.monotonic() - known.atMs < DEVICES_MS) return known.cameras;
      connection ??= connect().catch((error) => {
        connection = undefined; // an unreadable CA file may be there the next time
        throw error;
      });
      const cameras = await list(await connection, signal);
      // A camera keeps its archive or source, so that whoever has it notices nothing.
      const before = new Map(known?.cameras.map((camera) => [camera.id, camera]));
      known = {
        cameras: cameras.map((camera) => {
          const { id, name, model } = camera;
          const kept = before.get(id);
          return kept === undefined ? camera : { ...kept, name, ...(model ? { model } : {}) };
        }),
        atMs: clock.monotonic(),
      };
      return known.cameras;
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new Error("the account is closed"));
      const open = await connection?.catch(() => undefined);
      await open?.tokens[Symbol.asyncDispose]();
      open?.http[Symbol.dispose]();
    },
  };
}
