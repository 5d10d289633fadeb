/**
 * A Device Access account: one token, one quota for all commands, and its cameras as they come and go.
 * A camera keeps its source and its name for as long as it is in the project, whatever happens to the
 * others and whichever way it streams.
 *
 * @module
 */
import type { Account, Source } from "../../types.ts";
import type { SourceContext } from "../context.ts";
import { isLoopback } from "../hosts.ts";
import { type Http, openHttp } from "../http.ts";
import type { TokenKeeper } from "../token_keeper.ts";
import { createSdmApi, type SdmApi } from "./api.ts";
import { PROTOCOL_NAMES, sdmCameraSource } from "./camera.ts";
import { getDevice, listDevices, type SdmDevice } from "./devices.ts";
import { type GoogleSdmOptions, type SdmEndpoints, sdmEndpoints } from "./options.ts";
import { type CommandQuota, createCommandQuota } from "./quota.ts";
import { openSubscription, type SdmSubscription } from "./subscription.ts";
import type { SdmTransports } from "./streams.ts";
import { keepGoogleToken } from "./token.ts";

/** The whole program is to have ended five seconds after it was told to. */
const STOP_PATIENCE_MS = 1500;

interface Connection {
  readonly http: Http;
  readonly api: SdmApi;
  readonly token: TokenKeeper<string>;
  readonly subscription?: SdmSubscription;
}

interface Known {
  readonly source: Source;
  device: SdmDevice;
  /** The label that `name` was made from. */
  label: string;
  name: string;
}

/** Opens an account; nothing is sent before its cameras are asked for. */
export function openGoogleSdmAccount(
  options: GoogleSdmOptions,
  context: SourceContext & {
    readonly transports?: SdmTransports;
    readonly quota?: CommandQuota;
  },
): Account {
  const { clock, log, random } = context;
  const endpoints = sdmEndpoints(options);
  const closing = new AbortController();
  const known = new Map<string, Known>();
  const quota = context.quota ??
    createCommandQuota({ clock, perMinute: options.commandsPerMinute });
  const transports = context.transports ??
    realTransports(context, { endpoints, ca: options.ca });
  const stopping = new Set<Promise<void>>();
  let connection: Promise<Connection> | undefined;

  const connect = async (): Promise<Connection> => {
    const http = await openHttp({ clock, ca: options.ca, fetch: context.fetch });
    const token = keepGoogleToken({
      http,
      clock,
      log,
      oauth: endpoints.oauth,
      clientId: options.clientId,
      clientSecret: options.clientSecret,
      refreshToken: options.refreshToken,
    });
    const { projectId } = options;
    const api = createSdmApi({ http, clock, endpoints, token, quota, projectId });
    const { subscription, attachments } = options;
    return {
      ...{ http, token, api },
      ...(subscription === undefined ? {} : {
        subscription: openSubscription({
          ...{ api, subscription, attachments, log },
          closing: closing.signal,
        }),
      }),
    };
  };
  const connected = (): Promise<Connection> => {
    closing.signal.throwIfAborted();
    // An unreadable CA file may be there the next time.
    return connection ??= connect().catch((error) => {
      connection = undefined;
      throw error;
    });
  };

  /** Takes up what was told of a camera that is known. */
  const update = (entry: Known, device: SdmDevice) => {
    const before = entry.device.protocol;
    entry.device = device;
    if (device.protocol !== before && device.protocol !== undefined && before !== undefined) {
      log.info(
        `${entry.name}: it was moved from ${PROTOCOL_NAMES[before]} to ${
          PROTOCOL_NAMES[device.protocol]
        }; its next stream comes that way`,
        { event: "protocol-changed" },
      );
    }
    if (entry.label !== device.label) {
      entry.label = device.label;
      entry.name = uniqueName(device, known);
    }
  };

  /** Waits a moment until Google has been told of the streams that ended; they would end anyway. */
  const settledWithin = async (ms: number): Promise<void> => {
    const done = new AbortController();
    const tooLong = clock.sleep(ms, { signal: done.signal }).catch(() => {});
    await Promise.race([Promise.all(stopping), tooLong]);
    done.abort();
  };

  const latest = (id: string): SdmDevice | undefined => {
    const entry = known.get(id);
    return entry && { ...entry.device, label: entry.name };
  };

  const add = (device: SdmDevice, { api }: Connection): Known => {
    const source = sdmCameraSource({
      api,
      quota,
      transports,
      log,
      random,
      closing: closing.signal,
      stopping,
      latest: () => latest(device.id),
      async refresh(signal) {
        const now = await getDevice(api, { id: device.id, signal });
        const entry = known.get(device.id);
        if (now === undefined || entry === undefined) return undefined;
        update(entry, now);
        return { ...now, label: entry.name };
      },
    });
    return { source, device, label: device.label, name: uniqueName(device, known) };
  };

  return {
    async cameras({ signal }) {
      signal.throwIfAborted();
      const open = await connected();
      const devices = await listDevices(open.api, signal);
      const present = new Set(devices.map(({ id }) => id));
      for (const id of known.keys()) if (!present.has(id)) known.delete(id);
      for (const device of devices) {
        const entry = known.get(device.id);
        if (entry === undefined) known.set(device.id, add(device, open));
        else update(entry, device);
      }
      const { subscription } = open;
      return devices.flatMap(({ id, resource, type, room, label, protocol, widthPx, heightPx }) => {
        const entry = known.get(id);
        return entry === undefined ? [] : [{
          id,
          name: entry.name,
          // The API does not say whether a camera is reachable; only a stream shows.
          state: "online" as const,
          model: [
            type.toLowerCase(),
            ...(protocol === undefined ? [] : [PROTOCOL_NAMES[protocol]]),
            ...(room === undefined || room === label ? [] : [`in ${room}`]),
          ].join(", "),
          ...(widthPx === undefined || heightPx === undefined ? {} : { widthPx, heightPx }),
          source: entry.source,
          ...(subscription === undefined ? {} : {
            tellsAlways: true,
            events: ({ signal }: { readonly signal: AbortSignal }) =>
              subscription.listen({
                resource,
                signal,
                latest: () => latest(id),
              }),
          }),
        }];
      });
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new Error("the account is closed"));
      await settledWithin(STOP_PATIENCE_MS);
      const open = await connection?.catch(() => undefined);
      await open?.token[Symbol.asyncDispose]();
      quota[Symbol.dispose]();
      open?.http[Symbol.dispose]();
    },
  };
}

/** A second "Kitchen" becomes "Kitchen (1a2b)"; the first keeps its name. */
function uniqueName(device: SdmDevice, known: ReadonlyMap<string, Known>): string {
  const taken = (name: string) =>
    [...known].some(([id, entry]) =>
      id !== device.id && entry.name.toLowerCase() === name.toLowerCase()
    );
  if (!taken(device.label)) return device.label;
  // The ends of ids differ; their beginnings are alike.
  for (let digits = 4; digits < device.id.length; digits += 4) {
    const name = `${device.label} (${device.id.slice(-digits)})`;
    if (!taken(name)) return name;
  }
  return `${device.label} (${device.id})`;
}

/** RTSP and WebRTC as they are; each is loaded when the first camera needs it. */
function realTransports(
  { clock, log }: SourceContext,
  { endpoints, ca }: { readonly endpoints: SdmEndpoints; readonly ca: string | undefined },
): SdmTransports {
  return {
    async rtsp({ url, signal }) {
      const { openRtspSession } = await import("../rtsp/session.ts");
      return await openRtspSession(
        { url: url.href, transport: "tcp", ...(ca === undefined ? {} : { ca }), clock, log },
        { signal },
      );
    },
    async webRtc({ exchange, signal }) {
      const { openWebRtcSession } = await import("../webrtc/session.ts");
      const loopback = isLoopback(endpoints.sdm);
      return await openWebRtcSession({ exchange, signal, clock, log, loopback });
    },
  };
}
