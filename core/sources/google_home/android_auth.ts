/**
 * Google's login for Android devices: a form is posted, lines of `Key=Value` come back. It is asked
 * over a socket of our own, because the service looks at how TLS is spoken: a client that offers ALPN,
 * as every `fetch` does, is answered `BadAuthentication` although its token is good.
 *
 * @module
 */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { Buffer } from "node:buffer";
import { type Clock, sourceError } from "../../types.ts";
import { describeUrl } from "../hosts.ts";
import { passingError } from "../http.ts";

/** Signature of the Google Home app, whose rights the token gets. */
const HOME_APP = {
  app: "com.google.android.apps.chromecast.app",
  client_sig: "24bb24c05e47e0aefa68a58a766179d9b613a600",
} as const;
/** Signature of Google's own services, which turn a browser's token into a master token. */
const SERVICES_SIG = "38918a453d07199354f8b19af05ec6562ced5788";

const DEVICE = {
  device_country: "us",
  operatorCountry: "us",
  lang: "en",
  sdk_version: "17",
  google_play_services_version: "240913000",
} as const;

const TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 256 * 1024;

/** What the service is asked with. */
export interface AndroidAuth {
  /** Its address. */
  readonly endpoint: URL;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** PEM certificates to trust beside the usual ones. */
  readonly ca?: string | undefined;
}

/** The account and the device that a master token belongs to. */
export interface AndroidDevice {
  readonly email: string;
  /** 16 hexadecimal digits. */
  readonly androidId: string;
}

/**
 * An access token for a scope.
 *
 * @throws a source error; `auth` where the master token is refused
 */
export async function accessToken(
  auth: AndroidAuth,
  { email, androidId, masterToken, scope }: AndroidDevice & {
    readonly masterToken: string;
    readonly scope: string;
  },
): Promise<string> {
  const answer = await ask(auth, {
    ...{ accountType: "HOSTED_OR_GOOGLE", Email: email, has_permission: "1" },
    ...{ EncryptedPasswd: masterToken, service: scope, source: "android", androidId },
    ...HOME_APP,
    ...DEVICE,
  });
  const token = answer.get("Auth");
  if (token) return token;
  throw refusal(answer, 'the master token: make a new one, see "Google Home" in docs/cameras.md');
}

/**
 * A master token for the `oauth_token` cookie of https://accounts.google.com/EmbeddedSetup, which is
 * good for one try.
 *
 * @throws a source error; `auth` where the cookie is refused
 */
export async function masterToken(
  auth: AndroidAuth,
  { email, androidId, oauthToken }: AndroidDevice & { readonly oauthToken: string },
): Promise<string> {
  const answer = await ask(auth, {
    ...{ accountType: "HOSTED_OR_GOOGLE", Email: email, has_permission: "1", add_account: "1" },
    ...{ ACCESS_TOKEN: "1", Token: oauthToken, service: "ac2dm", source: "android", androidId },
    ...{ client_sig: SERVICES_SIG, callerSig: SERVICES_SIG, droidguard_results: "dummy123" },
    ...DEVICE,
  });
  const token = answer.get("Token");
  if (token) return token;
  throw refusal(
    answer,
    "the oauth_token: it is good for one try and a few minutes; take a new one",
  );
}

function refusal(answer: ReadonlyMap<string, string>, what: string) {
  const error = answer.get("Error")?.slice(0, 100) ?? "an answer without a token";
  return sourceError("auth", `Google refuses ${what} (it says ${error})`);
}

/** Posts a form and reads the lines of the answer. */
async function ask(
  auth: AndroidAuth,
  form: Readonly<Record<string, string>>,
): Promise<ReadonlyMap<string, string>> {
  const url = new URL(`${auth.endpoint.pathname.replace(/\/$/, "")}/auth`, auth.endpoint);
  const what = `POST ${describeUrl(url)}`;
  const { status, body } = parseAnswer(await exchange(url, form, auth), what);
  if (status === 429 || status >= 500) throw passingError("rate", `${what}: status ${status}`);
  const lines = body.split(/\r?\n/).flatMap((line): [string, string][] => {
    const at = line.indexOf("=");
    return at < 1 ? [] : [[line.slice(0, at), line.slice(at + 1)]];
  });
  if (lines.length === 0) {
    throw passingError("protocol", `${what}: expected lines of Key=Value, got status ${status}`);
  }
  return new Map(lines);
}

/** One exchange on a connection of its own. */
async function exchange(
  url: URL,
  form: Readonly<Record<string, string>>,
  { clock, signal, ca }: AndroidAuth,
): Promise<Uint8Array> {
  signal.throwIfAborted();
  const what = `POST ${describeUrl(url)}`;
  const body = new URLSearchParams(form).toString();
  const head = [
    `POST ${url.pathname} HTTP/1.1`,
    `Host: ${url.host}`,
    "User-Agent: GoogleAuth/1.4",
    "Accept-Encoding: identity",
    "Content-Type: application/x-www-form-urlencoded",
    `Content-Length: ${body.length}`,
    "Connection: close",
  ].join("\r\n");
  const timer = new AbortController();
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const isTls = url.protocol === "https:";
  const port = Number(url.port) || (isTls ? 443 : 80);
  const socket: Socket = isTls
    ? connectTls({ host, port, servername: host, ...(ca === undefined ? {} : { ca }) })
    : connectTcp({ host, port });
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  clock.sleep(TIMEOUT_MS, { signal: timer.signal }).then(
    () => reject(passingError("offline", `${what}: no answer within ${TIMEOUT_MS / 1000} s`)),
    () => {}, // answered in time
  );
  const chunks: Uint8Array[] = [];
  let length = 0;
  socket.on("data", (chunk: Uint8Array) => {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) {
      reject(
        passingError("protocol", `${what}: the answer is longer than ${MAX_ANSWER_BYTES} bytes`),
      );
    }
  });
  socket.on("error", ({ message }) => reject(passingError("offline", `${what}: ${message}`)));
  socket.on("close", () => resolve(Buffer.concat(chunks)));
  socket.write(`${head}\r\n\r\n${body}`);
  try {
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
    timer.abort();
    socket.destroy();
  }
}

/** An HTTP/1.1 answer that ends with its connection. @throws a source error if it is none */
export function parseAnswer(
  answer: Uint8Array,
  what: string,
): { readonly status: number; readonly body: string } {
  const text = new TextDecoder("latin1").decode(answer);
  const end = text.indexOf("\r\n\r\n");
  const status = Number(/^HTTP\/1\.[01] (\d{3})\b/.exec(text)?.[1]);
  if (end < 0 || Number.isNaN(status)) {
    throw passingError("protocol", `${what}: the answer is no HTTP`);
  }
  const headers = text.slice(0, end).toLowerCase();
  const rest = text.slice(end + 4);
  if (/\r\ntransfer-encoding: *chunked/.test(headers)) {
    return { status, body: unchunked(rest, what) };
  }
  const declared = /\r\ncontent-length: *(\d+)/.exec(headers)?.[1];
  if (declared !== undefined && rest.length < Number(declared)) {
    throw passingError("offline", `${what}: the connection broke before the answer was whole`);
  }
  return { status, body: declared === undefined ? rest : rest.slice(0, Number(declared)) };
}

/** RFC 9112 §7.1. */
function unchunked(text: string, what: string): string {
  let body = "";
  for (let at = 0;;) {
    const lineEnd = text.indexOf("\r\n", at);
    const size = Number.parseInt(text.slice(at, lineEnd), 16);
    if (lineEnd < 0 || Number.isNaN(size) || lineEnd + 2 + size > text.length) {
      throw passingError("offline", `${what}: the connection broke before the answer was whole`);
    }
    if (size === 0) return body;
    body += text.slice(lineEnd + 2, lineEnd + 2 + size);
    at = lineEnd + 4 + size;
  }
}
