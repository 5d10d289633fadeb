/**
 * The options of an account of type `nest`, and the addresses of the cloud with their production
 * values. Every host that the adapter talks to comes from here or, for the cameras' regional
 * hosts, from the cloud's own answers, so that any server that speaks the protocol can stand in.
 *
 * @module
 */
import * as v from "valibot";
import { duration, secret, wholeNumber } from "../../config/values.ts";
import { addresses, authority, endpoint } from "../cloud_options.ts";
import { framesPerSecond } from "../snapshot.ts";

/** The cloud's addresses. */
export interface NestEndpoints {
  /** Google's login, where the issue token is exchanged. */
  readonly accounts: URL;
  /** Turns a Google token into a Nest one. */
  readonly jwt: URL;
  /** Nest's own sessions and the list of devices. */
  readonly home: URL;
  /** The cameras' web API. */
  readonly camera: URL;
}

const PRODUCTION = {
  accounts: "https://accounts.google.com",
  jwt: "https://nestauthproxyservice-pa.googleapis.com",
  home: "https://home.nest.com",
  camera: "https://webapi.camera.home.nest.com",
} as const;

/** Google's field test has Nest hosts of its own. */
const FIELD_TEST = {
  ...PRODUCTION,
  home: "https://home.ft.nest.com",
  camera: "https://webapi.camera.home.ft.nest.com",
} as const;

/** A wrong user agent gets a 406: this is the one of Nest's own app. */
export const USER_AGENT = "Nest/5.87.0 (iOScom.nestlabs.jasper.release) os=26.4";

/** Options of an account of type `nest`. */
export const nestOptions = v.pipe(
  v.strictObject({
    accessToken: v.optional(
      v.pipe(
        secret(),
        v.description(
          "For a Nest account that was never moved to Google: the first access_token shown at " +
            "https://home.nest.com/session while logged in. It lasts about 30 days.",
        ),
      ),
    ),
    issueToken: v.optional(
      v.pipe(
        secret(),
        v.description(
          "For a Google account, with cookie: the address of the iframerpc request that " +
            "https://home.nest.com makes while logging in (developer tools, filter issueToken).",
        ),
      ),
    ),
    cookie: v.optional(
      v.pipe(
        secret(),
        v.description(
          "For a Google account, with issueToken: the cookie header of the same request, taken in " +
            "Firefox or Safari; one from Chrome dies within hours. Never log out afterwards.",
        ),
      ),
    ),
    video: v.optional(
      v.pipe(
        v.picklist(["auto", "stream", "snapshot"], 'expected "auto", "stream" or "snapshot"'),
        v.description(
          "auto: the live stream (full rate, with sound, no encoding) of cameras that have one, and " +
            "pictures where there is none or it does not work. stream: nothing but the live stream. " +
            "snapshot: nothing but pictures, at the rate of fps.",
        ),
      ),
      "auto",
    ),
    audio: v.optional(
      v.pipe(v.boolean(), v.description("Record the sound of live streams.")),
      true,
    ),
    width: v.optional(
      v.pipe(
        wholeNumber(64, 4096, "a width from 64 to 4096 pixels"),
        v.description("Width of the pictures to ask for, pixels; a live stream has its own."),
      ),
      1280,
    ),
    fps: v.optional(
      v.pipe(
        framesPerSecond(),
        v.description("Pictures per second of each camera without a live stream, 0.01 to 30."),
      ),
      2,
    ),
    timeout: v.optional(
      v.pipe(
        duration({ minMs: 100, maxMs: 300_000 }),
        v.description("How long one picture may take to come."),
      ),
      "5s",
    ),
    fieldTest: v.optional(
      v.pipe(v.boolean(), v.description("The account belongs to Google's field test.")),
      false,
    ),
    userAgent: v.optional(
      v.pipe(
        v.string("expected a user agent"),
        v.regex(/^[\x20-\x7e]+$/, "expected a user agent in plain ASCII"),
        v.description("What to call ourselves; the cloud refuses names that it does not know."),
      ),
      USER_AGENT,
    ),
    ca: authority,
    endpoints: v.optional(
      v.pipe(
        v.strictObject({
          accounts: endpoint("Google's login.", PRODUCTION.accounts),
          jwt: endpoint("Where a Google token becomes a Nest one.", PRODUCTION.jwt),
          home: endpoint("Nest's sessions and devices.", PRODUCTION.home),
          camera: endpoint("The cameras' web API.", PRODUCTION.camera),
        }, "expected an object of addresses"),
        v.description(
          "Addresses of the cloud, for a server that stands in for it. The cameras' own hosts come " +
            "from its answers.",
        ),
      ),
      {},
    ),
  }),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const message = credentialsProblem(dataset.value);
    if (message !== undefined) addIssue({ message });
  }),
  v.description(
    "The cameras of a Nest account: their live streams, or pictures at a steady rate.",
  ),
);

/** Validated options of an account of type `nest`. */
export type NestOptions = v.InferOutput<typeof nestOptions>;

/** What is wrong with the choice of credentials: exactly one kind must be there, and be whole. */
export function credentialsProblem(
  { accessToken, issueToken, cookie }: Pick<NestOptions, "accessToken" | "issueToken" | "cookie">,
): string | undefined {
  const google = issueToken !== undefined || cookie !== undefined;
  if (accessToken !== undefined && google) {
    return 'two logins are given: expected either "accessToken" (Nest account) or ' +
      '"issueToken" with "cookie" (Google account), not both';
  }
  if (accessToken !== undefined) return undefined;
  if (!google) {
    return 'no credentials: expected "accessToken" (Nest account), or "issueToken" with "cookie" ' +
      "(Google account)";
  }
  if (issueToken === undefined) return '"cookie" needs "issueToken" beside it (Google account)';
  if (cookie === undefined) return '"issueToken" needs "cookie" beside it (Google account)';
  return undefined;
}

/** The addresses to use: production or field test, with the user's own in their place. */
export function nestEndpoints(
  { endpoints, fieldTest }: Pick<NestOptions, "endpoints" | "fieldTest">,
): NestEndpoints {
  return addresses(fieldTest ? FIELD_TEST : PRODUCTION, endpoints);
}
