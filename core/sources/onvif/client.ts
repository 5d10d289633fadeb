/**
 * How an ONVIF camera is asked: SOAP over HTTP, signed by the camera's own clock, because cameras whose
 * clock is wrong refuse what is signed by the right one; newer ones want HTTP's digest beside it.
 *
 * Addresses in the answers often name a host that only the camera's maker could reach; the host that
 * the user named takes its place, so that nothing is ever sent elsewhere.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { type Clock, sourceError } from "../../types.ts";
import { describeUrl } from "../hosts.ts";
import { openHttp } from "../http.ts";
import { createAuthenticator } from "../http_auth.ts";
import { elementsOf, soapEnvelope, type SoapHeader, textOf } from "./soap.ts";

/** Whom to ask. */
export interface OnvifClientOptions {
  /** The device's address; without a path its usual one is taken. */
  readonly url: string;
  readonly credentials: { readonly username: string; readonly password: string } | undefined;
  /** A PEM file of certificates to trust beside the usual ones. */
  readonly ca: string | undefined;
  readonly clock: Clock;
  readonly fetch: typeof fetch | undefined;
}

/** How one question is asked. */
export interface OnvifCall {
  readonly signal: AbortSignal;
  /** Default 5 s. */
  readonly timeoutMs?: number;
  readonly header?: SoapHeader;
}

/** A camera that is asked. */
export interface OnvifClient extends Disposable {
  /** Of the device service. */
  readonly home: URL;
  /** The camera's name in messages: its address without secrets. */
  readonly what: string;
  /** How far the camera's clock is ahead, ms; 0 where it does not tell. */
  readonly skewMs: number;
  /** Asks. @throws a source error, or the signal's reason when aborted */
  call(url: URL, body: string, options: OnvifCall): Promise<string>;
  /**
   * Where a service is: by GetServices, or by the older GetCapabilities; `undefined` where neither says.
   * `category` is the name that the older one has for it.
   */
  service(
    service: { readonly namespace: string; readonly category: "Media" | "Events" },
    options: OnvifCall,
  ): Promise<URL | undefined>;
}

const TIMEOUT_MS = 5000;
const MAX_BYTES = 512 * 1024;
const DEVICE = "http://www.onvif.org/ver10/device/wsdl";

/** Looks what time it is at the camera, and is ready to ask. @throws a source error */
export async function openOnvifClient(
  { url, credentials, ca, clock, fetch }: OnvifClientOptions,
  { signal }: { readonly signal: AbortSignal },
): Promise<OnvifClient> {
  const home = deviceUrl(url);
  const what = describeUrl(home);
  const http = await openHttp({ clock, ca, fetch });
  const digest = credentials && createAuthenticator(credentials);
  let skewMs = 0;

  const ask = async (
    url: URL,
    body: string,
    { signal, timeoutMs = TIMEOUT_MS, header, isSigned = true }: OnvifCall & {
      readonly isSigned?: boolean;
    },
  ): Promise<string> => {
    for (let logins = 0;; logins++) {
      const login = !isSigned || credentials === undefined ? undefined : {
        ...credentials,
        cameraNowMs: clock.now() + skewMs,
        nonce: new Uint8Array(randomBytes(16)),
      };
      const authorization = digest?.authorize("POST", url.pathname + url.search);
      const { status, headers, bytes } = await http.request(url, {
        ...{ signal, timeoutMs, maxBytes: MAX_BYTES, method: "POST" },
        headers: {
          "content-type": "application/soap+xml; charset=utf-8",
          "user-agent": "camsink",
          ...(authorization === undefined ? {} : { authorization }),
        },
        body: soapEnvelope(body, login, header),
      });
      const text = new TextDecoder().decode(bytes);
      // Newer cameras want HTTP's digest instead of the token.
      if (
        status === 401 && logins < 2 &&
        digest?.challenged(headers.get("www-authenticate")) === "answer"
      ) continue;
      if (status === 200) return text;
      const isLogin = status === 401 ||
        /NotAuthorized|FailedAuthentication|sender not auth/i.test(text);
      const said = textOf(text, "Text") ?? "";
      throw sourceError(
        isLogin ? "auth" : "protocol",
        isLogin
          ? `${what}: the camera refused the ONVIF login; many have users of their own for ONVIF: ` +
            "make one in the camera's settings"
          : `${what}: the camera answered ${status}${
            said === "" ? "" : ` (${said.slice(0, 120)})`
          }; ` +
            "see that ONVIF is switched on in its settings",
      );
    }
  };

  const client: OnvifClient = {
    ...{ home, what },
    get skewMs() {
      return skewMs;
    },
    call: ask,
    async service({ namespace, category }, options) {
      const questions = [
        `<GetServices xmlns="${DEVICE}"><IncludeCapability>false</IncludeCapability></GetServices>`,
        `<GetCapabilities xmlns="${DEVICE}"><Category>${category}</Category></GetCapabilities>`,
      ];
      for (const question of questions) {
        let answer: string;
        try {
          answer = await ask(home, question, options);
        } catch (error) {
          if (kindOf(error) === "protocol") continue; // it does not know the question
          throw error;
        }
        const service = elementsOf(answer, "Service")
          .find(({ inner }) => textOf(inner, "Namespace") === namespace);
        const inner = service?.inner ?? elementsOf(answer, category)[0]?.inner;
        const address = inner === undefined ? undefined : textOf(inner, "XAddr");
        const given = address === undefined ? undefined : atHome(address, home);
        if (given !== undefined && URL.canParse(given)) return new URL(given);
      }
      return undefined;
    },
    [Symbol.dispose]: () => http[Symbol.dispose](),
  };
  try {
    skewMs = await clockSkewMs(
      () => ask(home, `<GetSystemDateAndTime xmlns="${DEVICE}"/>`, { signal, isSigned: false }),
      clock,
    );
    return client;
  } catch (error) {
    client[Symbol.dispose]();
    throw error;
  }
}

/** The address of the device service. */
export function deviceUrl(text: string): URL {
  const url = new URL(text);
  if (url.pathname === "/") url.pathname = "/onvif/device_service";
  return url;
}

/** The same address at the host that the user named; http(s) also at its port. */
export function atHome(address: string, home: URL): string | undefined {
  const [, scheme, authority = "", rest = ""] =
    /^(https?|rtsps?):\/\/(?:[^/?#@]*@)?([^/?#]*)(.*)$/s.exec(address.trim()) ?? [];
  if (scheme === undefined) return undefined;
  if (scheme.startsWith("http")) return `${home.origin}${rest === "" ? "/" : rest}`;
  const port = /:(\d{1,5})$/.exec(authority)?.[1];
  return `${scheme}://${home.hostname}${
    port === undefined || port === "0" ? "" : `:${port}`
  }${rest}`;
}

/** How far the camera's clock is ahead, ms; 0 where it does not tell. */
async function clockSkewMs(ask: () => Promise<string>, clock: Clock): Promise<number> {
  let answer: string;
  try {
    answer = await ask();
  } catch (error) {
    // Some want a login even for that; a camera that is not there says so again.
    const kind = kindOf(error);
    if (kind !== "" && kind !== "offline") return 0;
    throw error;
  }
  const utc = elementsOf(answer, "UTCDateTime")[0]?.inner ?? "";
  const part = (name: string) => Number(textOf(utc, name) ?? NaN);
  const atMs = Date.UTC(
    part("Year"),
    part("Month") - 1,
    part("Day"),
    part("Hour"),
    part("Minute"),
    part("Second"),
  );
  return Number.isFinite(atMs) ? atMs - clock.now() : 0;
}

const kindOf = (error: unknown): unknown =>
  error instanceof Error && "sourceErrorKind" in error ? error.sourceErrorKind : "";
