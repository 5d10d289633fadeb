/**
 * The owner's consent for Device Access: a page of Google's in a browser, which then sends the browser
 * to this machine with a code, or, where the browser is on another one, to an address that leads
 * nowhere and is pasted here. The code becomes the refresh token.
 *
 * @module
 */
import { createServer } from "node:http";
import { EXIT, withExitCode } from "../core/exit_codes.ts";
import { openHttp } from "../core/sources/http.ts";
import { below } from "../core/sources/nest/api.ts";
import { requestToken } from "../core/sources/google/token.ts";
import type { SdmEndpoints } from "../core/sources/google/options.ts";
import type { Clock } from "../core/types.ts";
import { type Prompter, usageError } from "./prompter.ts";

/** Where Google sends the browser: it has to be entered in the console, so it does not change. */
export const CONSENT_PORT = 8125;
const REDIRECT = `http://localhost:${CONSENT_PORT}/`;
/** How long somebody may take to click through Google's pages. */
const PATIENCE_MS = 600_000;

/** What has to be done in Google's consoles before. */
export const CONSOLE_STEPS =
  `1. https://console.nest.google.com/device-access: pay the 5 US$ (once), create a project.
2. https://console.cloud.google.com: create a project there too, switch on the "Smart Device
   Management API".
3. OAuth consent screen: External, then "Publish app": in the state "Testing" the login would end
   after seven days.
4. Credentials → Create OAuth client ID → Web application, with the authorised redirect URI
   ${REDIRECT}
5. Enter that client id in the Device Access project.`;

/** What a consent is asked with. */
export interface ConsentOptions {
  readonly endpoints: SdmEndpoints;
  readonly projectId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly prompter: Prompter;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Makes the mark by which our own consent is known. Numbers in [0, 1). */
  readonly random: () => number;
}

/** Leads through the consent; gives the refresh token. @throws a source error, or says what to do */
export async function googleConsent(options: ConsentOptions): Promise<string> {
  const { prompter, endpoints, projectId, clientId, clientSecret, clock, signal } = options;
  const state = Array.from({ length: 24 }, () => Math.floor(options.random() * 36).toString(36))
    .join("");
  const url = below(endpoints.consent, `/partnerconnections/${projectId}/auth`);
  url.search = new URLSearchParams({
    redirect_uri: REDIRECT,
    access_type: "offline",
    prompt: "consent",
    client_id: clientId,
    response_type: "code",
    scope: "https://www.googleapis.com/auth/sdm.service https://www.googleapis.com/auth/pubsub",
    state,
  }).toString();
  const how = await prompter.choose({
    flag: "--refresh-token env:GOOGLE_REFRESH_TOKEN",
    message: "Google asks for your consent in a browser. Where is it?",
    choices: [
      { value: "here", label: "On this machine" },
      { value: "elsewhere", label: "On another one", hint: "you paste an address back" },
    ],
  });
  // Before the address is shown: a browser that has consented already comes back at once.
  const coming = how === "here" ? await waitForBrowser(signal) : undefined;
  prompter.note(
    "Open this address, choose the home and the cameras, and allow all",
    how === "here" ? url.href : `${url.href}

At the end the browser says that it cannot reach localhost: that is right.
Copy the address that it then shows.`,
  );
  const back = coming
    ? await prompter.busy("Waiting for the browser", () => coming.address)
    : await prompter.text({
      flag: "--refresh-token",
      message: "The address that the browser shows in the end",
      validate: (text) => codeProblem(text, state),
    });
  const problem = codeProblem(back, state);
  if (problem !== undefined) throw usageError(`the consent: ${problem}`);
  using http = await openHttp({ clock });
  const grant = await requestToken({
    http,
    clock,
    oauth: endpoints.oauth,
    signal,
    form: {
      grant_type: "authorization_code",
      client_id: clientId,
      client_secret: clientSecret,
      code: new URL(back).searchParams.get("code") ?? "",
      redirect_uri: REDIRECT,
    },
  });
  if (grant.refreshToken !== undefined) return grant.refreshToken;
  throw withExitCode(
    new Error(
      "Google gave no refresh token: take Camsink away at https://myaccount.google.com/connections " +
        "and consent again",
    ),
    EXIT.denied,
  );
}

/** What is wrong with the address that came back. */
function codeProblem(text: string, state: string): string | undefined {
  if (!URL.canParse(text)) return `expected an address that begins with ${REDIRECT}?`;
  const { searchParams } = new URL(text);
  const error = searchParams.get("error");
  if (error !== null) return `Google says "${error}": was the consent refused?`;
  if (!searchParams.get("code")) return `expected an address with "code=" in it`;
  if (searchParams.get("state") !== state) {
    return "the address belongs to another try: open the one that was shown last";
  }
  return undefined;
}

/** Listens for the browser; `address` is the one with which it comes to this machine. */
async function waitForBrowser(
  signal: AbortSignal,
): Promise<{ readonly address: Promise<string> }> {
  const came = Promise.withResolvers<string>();
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", REDIRECT);
    const isIt = url.searchParams.has("code") || url.searchParams.has("error");
    response.writeHead(isIt ? 200 : 404, {
      "content-type": "text/plain; charset=utf-8",
      "connection": "close",
    });
    response.end(isIt ? "Camsink has it. You can close this page.\n" : "");
    if (isIt) came.resolve(url.href);
  });
  server.on("error", (cause) =>
    came.reject(
      new Error(`cannot listen on ${REDIRECT}: ${cause.message}; choose "On another one"`, {
        cause,
      }),
    ));
  const abort = () => came.reject(signal.reason);
  const timer = setTimeout(
    () => came.reject(new Error(`nobody came within ${PATIENCE_MS / 60_000} minutes`)),
    PATIENCE_MS,
  );
  signal.addEventListener("abort", abort, { once: true });
  const listening = new Promise<void>((resolve) => server.once("listening", resolve));
  server.listen(CONSENT_PORT, "127.0.0.1");
  const address = came.promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    server.close();
  });
  address.catch(() => {}); // whoever asks for it is told
  await Promise.race([listening, address]);
  return { address };
}
