/**
 * The options of an account of type `google-home`, and the addresses of Google's services with their
 * production values.
 *
 * @module
 */
import * as v from "valibot";
import { duration, secret } from "../../config/values.ts";
import { addresses, authority, endpoint } from "../cloud_options.ts";

/** Google's addresses. */
export interface GoogleHomeEndpoints {
  /** Where an issue token is exchanged for an access token. */
  readonly accounts: URL;
  /** Where a master token is exchanged for an access token. */
  readonly android: URL;
  /** The list of the home's devices, and live streams; gRPC. */
  readonly foyer: URL;
  /** The recordings. */
  readonly frontend: URL;
}

const PRODUCTION = {
  accounts: "https://accounts.google.com",
  android: "https://android.clients.google.com",
  foyer: "https://googlehomefoyer-pa.googleapis.com",
  frontend: "https://nest-camera-frontend.googleapis.com",
} as const;

/** Options of an account of type `google-home`. */
export const googleHomeOptions = v.pipe(
  v.strictObject({
    masterToken: v.optional(
      v.pipe(
        secret(),
        v.description(
          'A long-lived token of the Google account ("aas_et/…"), with email and androidId. ' +
            "docs/cameras.md tells how to get one.",
        ),
      ),
    ),
    email: v.optional(
      v.pipe(
        v.string("expected an e-mail address"),
        v.regex(/^\S+@\S+$/, "expected an e-mail address"),
        v.description("The Google account's address, with masterToken."),
      ),
    ),
    androidId: v.optional(
      v.pipe(
        v.string("expected 16 hexadecimal digits"),
        v.regex(/^[0-9a-f]{16}$/i, "expected 16 hexadecimal digits"),
        v.description("The device id that the master token was made with: 16 hexadecimal digits."),
      ),
    ),
    issueToken: v.optional(
      v.pipe(
        secret(),
        v.description(
          "In place of a master token, with cookie: the address of the iframerpc request, as for an " +
            "account of type nest.",
        ),
      ),
    ),
    cookie: v.optional(
      v.pipe(secret(), v.description("The Cookie header of that request, with issueToken.")),
    ),
    mode: v.pipe(
      v.optional(
        v.picklist(["recordings", "live"], 'expected "recordings" or "live"'),
        "recordings",
      ),
      v.description(
        '"recordings": what Google records is fetched. "live": the cameras are streamed and recorded ' +
          "here, around the clock, as Google's own app shows them.",
      ),
    ),
    history: v.pipe(
      v.optional(duration({ minMs: 600_000, maxMs: 60 * 86_400_000 }), "3h"),
      v.description(
        "How far back Google keeps recordings: 3h without a subscription, longer with Nest Aware.",
      ),
    ),
    ca: authority,
    endpoints: v.optional(
      v.pipe(
        v.strictObject({
          accounts: endpoint("Google's login.", PRODUCTION.accounts),
          android: endpoint("Where a master token is used.", PRODUCTION.android),
          foyer: endpoint("The list of devices, and live streams.", PRODUCTION.foyer),
          frontend: endpoint("The recordings.", PRODUCTION.frontend),
        }, "expected an object of addresses"),
        v.description("Google's addresses, for a server that stands in for it."),
      ),
      {},
    ),
  }),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const message = googleCredentialsProblem(dataset.value);
    if (message !== undefined) addIssue({ message });
  }),
  v.description(
    "The cameras of a Google Home: what Google records of them (events, or everything with a " +
      "subscription) is fetched as clips, or they are streamed live. No official interface of " +
      "Google's.",
  ),
);

/** Validated options of an account of type `google-home`. */
export type GoogleHomeOptions = v.InferOutput<typeof googleHomeOptions>;

/** What is wrong with the choice of credentials: exactly one kind must be there, and be whole. */
export function googleCredentialsProblem(
  given: Pick<
    GoogleHomeOptions,
    "masterToken" | "email" | "androidId" | "issueToken" | "cookie"
  >,
): string | undefined {
  const master = given.masterToken ?? given.email ?? given.androidId;
  const browser = given.issueToken ?? given.cookie;
  if (master !== undefined && browser !== undefined) {
    return 'two logins are given: expected either "masterToken" with "email" and "androidId", or ' +
      '"issueToken" with "cookie"';
  }
  if (master === undefined && browser === undefined) {
    return 'no credentials: expected "masterToken" with "email" and "androidId", or "issueToken" ' +
      'with "cookie"';
  }
  const [kind, needed] = master !== undefined
    ? ["masterToken", ["masterToken", "email", "androidId"]] as const
    : ["issueToken", ["issueToken", "cookie"]] as const;
  const missing = needed.filter((name) => given[name] === undefined);
  return missing.length === 0
    ? undefined
    : `a login by ${kind} needs ${missing.map((name) => `"${name}"`).join(" and ")} too`;
}

/** The addresses to use: production, with the user's own in their place. */
export function googleHomeEndpoints(
  { endpoints }: Pick<GoogleHomeOptions, "endpoints">,
): GoogleHomeEndpoints {
  return addresses(PRODUCTION, endpoints);
}
