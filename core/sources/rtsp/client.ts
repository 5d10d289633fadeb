/**
 * The conversation with a camera, from OPTIONS to PLAY, and what keeps it up: logins (Basic, Digest,
 * nonces that grow old), redirects, the choice between TCP and UDP for each stream, keep-alive before
 * the session's timeout, and TEARDOWN, because many cameras have room for one viewer only.
 *
 * @module
 */
import { type Clock, type Log, type SourceError, sourceError } from "../../types.ts";
import { type Authenticator, createAuthenticator } from "../http_auth.ts";
import { connectRtsp, field, type RtspConnection, type RtspRequestOptions } from "./connection.ts";
import {
  parseRtpInfo,
  parseSessionField,
  parseTransport,
  RtspError,
  type RtspResponse,
} from "./message.ts";
import { parseSdp, type Sdp, type SdpMedia } from "./sdp.ts";
import {
  describeRtspUrl,
  joinControl,
  mayHaveLogin,
  requestUri,
  rtspRedirectTarget,
  type RtspUrl,
  withoutLogin,
} from "./url.ts";

/** What a conversation needs. */
export interface RtspClientOptions {
  readonly url: RtspUrl;
  readonly credentials: { readonly username: string; readonly password: string } | undefined;
  readonly ca: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** See `connection.ts`. */
  onFrame(channel: number, data: Uint8Array, from: number, to: number): void;
  onRead(): void;
  /** See {@linkcode ConnectionOptions}. */
  onRest(): number | undefined;
  onLost(error: unknown): void;
}

/** A stream that the camera has agreed to send. */
export interface SetUpStream {
  /** First channel; RTCP has the next one. `undefined` over UDP. */
  readonly channel: number | undefined;
  readonly serverPorts: readonly [number, number] | undefined;
  /** Where it is, for `RTP-Info`. */
  readonly uri: string;
}

/** A conversation. */
export interface RtspClient {
  readonly connection: RtspConnection;
  /** The address in the end, after redirects. */
  readonly url: RtspUrl;
  readonly sdp: Sdp;
  /** Asks for a stream. @throws a source error; `unsupportedTransport` marks an answer 461 */
  setUp(
    media: SdpMedia,
    transport: { readonly channel: number } | { readonly ports: readonly [number, number] },
  ): Promise<SetUpStream>;
  /** Starts all streams; gives the timestamps with which they begin, by their address. */
  play(): Promise<ReadonlyMap<string, number>>;
  /** Time between two signs of life that the camera wants, ms. */
  readonly keepAliveMs: number;
  /** One sign of life. */
  keepAlive(): Promise<void>;
  /** Ends the session; with `wait` until the camera says that it knows, or a moment. */
  tearDown(options: { readonly wait: boolean }): Promise<void>;
}

const ANSWER_MS = 5000;
const TEARDOWN_MS = 250;
const MAX_REDIRECTS = 5;
const MAX_LOGINS = 3;
/** Where the camera does not say how long it waits: RFC 2326 says 60 s, some cut off after 30. */
const UNSAID_KEEP_ALIVE_MS = 25_000;

/** An error that says that the camera does not send this way. */
export function isUnsupportedTransport(error: unknown): boolean {
  return error instanceof Error && "rtspStatus" in error && error.rtspStatus === 461;
}

/** Connects and fetches the description. @throws a source error, or the signal's reason */
export async function openRtspClient(options: RtspClientOptions): Promise<RtspClient> {
  let url = options.url;
  for (let hops = 0;; hops++) {
    const client = new Client(options, url, await connectRtsp({ ...options, url }));
    try {
      const redirect = await client.describe();
      if (redirect === undefined) return client;
      if (hops === MAX_REDIRECTS) {
        throw sourceError(
          "protocol",
          `${describeRtspUrl(options.url)}: more than ${MAX_REDIRECTS} redirects in a row`,
        );
      }
      url = rtspRedirectTarget(redirect, { from: url, home: options.url });
      options.log.debug(`the camera redirects to ${describeRtspUrl(url)}`);
      client.connection.close();
    } catch (error) {
      client.connection.close();
      throw error;
    }
  }
}

class Client implements RtspClient {
  readonly connection: RtspConnection;
  readonly url: RtspUrl;
  readonly #options: RtspClientOptions;
  readonly #what: string;
  readonly #authenticator: Authenticator | undefined;
  readonly #trusted: boolean;
  #publicMethods: ReadonlySet<string> = new Set();
  #base: string;
  #session: string | undefined;
  #timeoutS: number | undefined;
  #sdp: Sdp = { control: undefined, media: [] };

  constructor(options: RtspClientOptions, url: RtspUrl, connection: RtspConnection) {
    this.#options = options;
    this.url = url;
    this.connection = connection;
    this.#what = describeRtspUrl(url);
    this.#base = requestUri(url);
    this.#trusted = mayHaveLogin(url, options.url);
    this.#authenticator = options.credentials === undefined || !this.#trusted
      ? undefined
      : createAuthenticator(options.credentials);
  }

  get sdp(): Sdp {
    return this.#sdp;
  }

  /** The location, if the camera sends us elsewhere. */
  async describe(): Promise<string | undefined> {
    const uri = requestUri(this.url);
    try {
      const options = await this.#ask("OPTIONS", uri);
      this.#publicMethods = new Set(
        field(options, "public").toUpperCase().split(/[\s,]+/).filter(Boolean),
      );
    } catch (error) {
      // Some cameras know no OPTIONS; a wrong password or a dead line is none of that.
      if (!(error instanceof Error && "rtspStatus" in error) || error.rtspStatus === 401) {
        throw error;
      }
    }
    const response = await this.#ask("DESCRIBE", uri, {
      fields: [["Accept", "application/sdp"]],
    });
    if (response.status >= 300) return field(response, "location");
    try {
      this.#sdp = parseSdp(new TextDecoder().decode(response.body));
    } catch (error) {
      if (!(error instanceof RtspError)) throw error;
      throw sourceError("protocol", `${this.#what}: ${error.message}`, { cause: error });
    }
    const base = field(response, "content-base") || field(response, "content-location");
    if (/^rtsps?:\/\//i.test(base)) this.#base = withoutLogin(base);
    return undefined;
  }

  async setUp(
    media: SdpMedia,
    transport: { readonly channel: number } | { readonly ports: readonly [number, number] },
  ): Promise<SetUpStream> {
    const uri = joinControl(this.#base, media.control);
    const wanted = "channel" in transport
      ? `RTP/AVP/TCP;unicast;interleaved=${transport.channel}-${transport.channel + 1}`
      : `RTP/AVP;unicast;client_port=${transport.ports[0]}-${transport.ports[1]}`;
    const response = await this.#ask("SETUP", uri, { fields: [["Transport", wanted]] });
    const { id, timeoutS } = parseSessionField(field(response, "session"));
    if (id !== "") this.#session = id;
    this.#timeoutS = timeoutS ?? this.#timeoutS;
    const agreed = parseTransport(field(response, "transport"));
    if ("ports" in transport) {
      return { channel: undefined, serverPorts: agreed.serverPorts, uri };
    }
    // The answer's numbers count, also where they are not those that were asked for.
    const [channel, rtcp] = agreed.channels ?? [transport.channel, transport.channel + 1];
    this.connection.channels.add(channel).add(rtcp);
    return { channel, serverPorts: undefined, uri };
  }

  async play(): Promise<ReadonlyMap<string, number>> {
    const response = await this.#ask("PLAY", this.#aggregate(), {
      fields: [["Range", "npt=0.000-"]],
    });
    const info = parseRtpInfo(field(response, "rtp-info"));
    return new Map(
      info.flatMap(({ url, timestamp }) =>
        timestamp === undefined ? [] : [[url, timestamp] as const]
      ),
    );
  }

  get keepAliveMs(): number {
    const timeoutS = this.#timeoutS;
    if (timeoutS === undefined || timeoutS === 0) return UNSAID_KEEP_ALIVE_MS;
    return Math.max(1, timeoutS - 5, timeoutS / 2) * 1000;
  }

  async keepAlive(): Promise<void> {
    const useGet = this.#publicMethods.has("GET_PARAMETER");
    try {
      await this.#ask(useGet ? "GET_PARAMETER" : "OPTIONS", this.#aggregate());
    } catch (error) {
      const status = error instanceof Error && "rtspStatus" in error ? error.rtspStatus : undefined;
      // 454: the session is over. Any other number is at least an answer.
      if (status === undefined || status === 454 || status === 401) throw error;
      if (useGet) this.#publicMethods = new Set();
    }
  }

  async tearDown({ wait }: { readonly wait: boolean }): Promise<void> {
    this.connection.gather(false);
    this.connection.hold(false);
    if (this.#session !== undefined) {
      try {
        // Not the session's signal: it may be why we leave.
        const { signal } = new AbortController();
        const options = { timeoutMs: TEARDOWN_MS, signal };
        const answered = this.#ask("TEARDOWN", this.#aggregate(), options);
        // What was written is sent also when the connection is closed at once.
        if (!wait) answered.catch(() => {});
        await (wait ? answered : this.connection.written());
      } catch {
        // It is gone, or knows it soon.
      }
    }
    this.connection.close();
  }

  #aggregate(): string {
    return joinControl(this.#base, this.#sdp.control);
  }

  /** One request with its login; any answer but success and, for DESCRIBE, a redirect is an error. */
  async #ask(
    method: string,
    uri: string,
    {
      fields = [],
      timeoutMs = ANSWER_MS,
      signal = this.#options.signal,
    }: Partial<RtspRequestOptions> = {},
  ): Promise<RtspResponse> {
    for (let logins = 0;; logins++) {
      const response = await this.#send(method, uri, { fields, timeoutMs, signal });
      const { status } = response;
      if (status !== 401) {
        this.#authenticator?.accepted();
        if (status >= 200 && status < 300) return response;
        if (method === "DESCRIBE" && status >= 301 && status <= 308) return response;
        throw this.#statusError(method, response);
      }
      const verdict = this.#authenticator?.challenged(
        response.headers.get("www-authenticate") ?? null,
      );
      if (verdict === "answer" && logins < MAX_LOGINS) continue;
      throw this.#loginError(verdict);
    }
  }

  #send(
    method: string,
    uri: string,
    { fields, ...rest }: RtspRequestOptions,
  ): Promise<RtspResponse> {
    const authorization = this.#authenticator?.authorize(method, uri);
    const session = method === "DESCRIBE" ? undefined : this.#session;
    return this.connection.request(method, uri, {
      ...rest,
      fields: [
        ...(authorization === undefined ? [] : [["Authorization", authorization] as const]),
        ...(session === undefined ? [] : [["Session", session] as const]),
        ...fields,
      ],
    });
  }

  #loginError(verdict: "answer" | "refused" | "unknown" | undefined): SourceError {
    const why = !this.#trusted
      ? "it was reached by a redirect and asks for a login (401); a login is never sent to another " +
        'host: give the final address itself in "url"'
      : verdict === undefined
      ? 'the camera asks for a login (401): give "username" and "password"'
      : verdict === "unknown"
      ? "the camera asks for a login (401) of a kind that is not known here: expected Basic or Digest"
      : "the camera refused the user name or the password (401)";
    return withStatus(sourceError("auth", `${this.#what}: ${why}`), 401);
  }

  #statusError(method: string, { status, reason }: RtspResponse): SourceError {
    const said = `${method} was answered ${status}${reason === "" ? "" : ` ${reason}`}`;
    const hint: Readonly<Record<number, readonly ["auth" | "offline" | "protocol", string]>> = {
      403: ["auth", "this user may not see the stream"],
      404: ["protocol", "there is no stream under this path: look it up in the camera's manual"],
      406: ["protocol", "the camera cannot describe this stream"],
      453: ["offline", "the camera has no room for one more viewer: end another one"],
      454: ["offline", "the camera has forgotten the session"],
      461: ["protocol", 'the camera does not send this way: try another "transport"'],
      500: ["offline", "the camera is in trouble: try to restart it"],
      503: ["offline", "the camera is busy, or has no room for one more viewer"],
    };
    const [kind, text] = hint[status] ?? [status >= 500 ? "offline" : "protocol", ""];
    return withStatus(
      sourceError(kind, `${this.#what}: ${said}${text === "" ? "" : `: ${text}`}`),
      status,
    );
  }
}

function withStatus(error: SourceError, status: number): SourceError {
  return Object.assign(error, { rtspStatus: status });
}
