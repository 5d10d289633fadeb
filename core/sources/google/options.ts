/**
 * The options of an account of type `google-sdm` (Google's Device Access), and the addresses of its
 * hosts with their production values.
 *
 * @module
 */
import * as v from "valibot";
import { secret, wholeNumber } from "../../config/values.ts";
import { addresses, authority, endpoint } from "../cloud_options.ts";

/** Where Device Access is. */
export interface SdmEndpoints {
  /** Where the owner consents, in a browser. */
  readonly consent: URL;
  /** Where tokens come from. */
  readonly oauth: URL;
  /** Devices and commands. */
  readonly sdm: URL;
  /** Events. */
  readonly pubsub: URL;
}

const PRODUCTION = {
  consent: "https://nestservices.google.com",
  oauth: "https://oauth2.googleapis.com",
  sdm: "https://smartdevicemanagement.googleapis.com",
  pubsub: "https://pubsub.googleapis.com",
} as const;

const text = (message: string, pattern: RegExp) =>
  v.pipe(v.string(message), v.regex(pattern, message));

/** Options of an account of type `google-sdm`. */
export const googleSdmOptions = v.pipe(
  v.strictObject({
    projectId: v.pipe(
      text(
        "expected the project id of the Device Access console, such as " +
          '"12345678-90ab-cdef-1234-567890abcdef"',
        /^[\w-]{8,64}$/,
      ),
      v.description(
        "The project's id in the Device Access console (https://console.nest.google.com/device-access), not that of the Google Cloud project.",
      ),
    ),
    clientId: v.pipe(
      text(
        'expected an OAuth client id that ends with ".apps.googleusercontent.com"',
        /^[\w-]+\.apps\.googleusercontent\.com$/,
      ),
      v.description("The OAuth client's id, from the Google Cloud console."),
    ),
    clientSecret: v.pipe(secret(), v.description("The OAuth client's secret.")),
    refreshToken: v.pipe(
      secret(),
      v.description(
        "What the consent gave: `camsink init` gets it. It lasts until it is revoked, but only seven " +
          'days while the OAuth consent screen is in the state "Testing": publish it.',
      ),
    ),
    commandsPerMinute: v.optional(
      v.pipe(
        wholeNumber(1, 10),
        v.description(
          "How many of Google's 10 commands a minute to use. Leave some to other programs that use " +
            "the same project.",
        ),
      ),
      9,
    ),
    subscription: v.optional(
      v.pipe(
        text(
          'expected the full name of a pull subscription, such as "projects/my-project/' +
            'subscriptions/camsink"',
          /^projects\/[\w.:-]+\/subscriptions\/[\w.~+%-]+$/,
        ),
        v.description(
          "A pull subscription of Cloud Pub/Sub to the project's events. With it, clips are tagged " +
            'with what happened, `"events": { "mode": "event" }` works, and what Google gives to an ' +
            "event is saved.",
        ),
      ),
    ),
    attachments: v.optional(
      v.pipe(
        v.boolean("expected true or false"),
        v.description(
          "Saves the picture of an event, or the preview of its clip, as a small clip of its own. " +
            "Needs `subscription`.",
        ),
      ),
      true,
    ),
    ca: authority,
    endpoints: v.optional(
      v.pipe(
        v.strictObject({
          consent: endpoint("Where the owner consents.", PRODUCTION.consent),
          oauth: endpoint("Where tokens come from.", PRODUCTION.oauth),
          sdm: endpoint("Devices and commands.", PRODUCTION.sdm),
          pubsub: endpoint("Events.", PRODUCTION.pubsub),
        }, "expected an object of addresses"),
        v.description("Addresses of the cloud, for a server that stands in for it."),
      ),
      {},
    ),
  }),
  v.description(
    "Nest cameras in Google Home, through Google's own Device Access (5 US$ once): RTSP or WebRTC, as " +
      "each camera has it.",
  ),
);

/** Validated options of an account of type `google-sdm`. */
export type GoogleSdmOptions = v.InferOutput<typeof googleSdmOptions>;

/** The addresses to use: production, with the user's own in their place. */
export function sdmEndpoints(options: Pick<GoogleSdmOptions, "endpoints">): SdmEndpoints {
  return addresses(PRODUCTION, options.endpoints);
}
