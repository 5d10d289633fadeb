/**
 * What an ONVIF camera notices: motion, persons, sounds. A pull point (ONVIF Core §9.2) is subscribed
 * to, asked for messages, renewed while it is used and given back at the end.
 *
 *     CreatePullPointSubscription → its address
 *     PullMessages → some messages, or none when the time is up
 *     Renew, Unsubscribe
 *
 * A message tells a topic, such as `tns1:RuleEngine/CellMotionDetector/Motion`, what it is about
 * (`Source`), and a state (`Data`), such as `IsMotion` = `true`. A state that lasts is told on as an
 * event that lasts until it is over. What was true before anybody asked comes first.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { type CameraEvent, type Clock, sourceError } from "../../types.ts";
import { atHome, type OnvifClient, type OnvifClientOptions, openOnvifClient } from "./client.ts";
import { attributeOf, elementsOf, namespacesOf, type SoapHeader, tagsOf, textOf } from "./soap.ts";

/** One message of a camera. */
export interface OnvifMessage {
  /** What kind of event it is, in Camsink's words. */
  readonly kind: string;
  /** Tells this detector from the camera's others. */
  readonly detector: string;
  /** It goes on until the opposite is told. `undefined`: it was a moment's. */
  readonly isOn: boolean | undefined;
  /** By the camera's clock, wall ms; `undefined` where it does not say. */
  readonly atMs: number | undefined;
}

const EVENTS = "http://www.onvif.org/ver10/events/wsdl";
const NOTIFY = "http://docs.oasis-open.org/wsn/b-2";
const ACTIONS = {
  create: `${EVENTS}/EventPortType/CreatePullPointSubscriptionRequest`,
  pull: `${EVENTS}/PullPointSubscription/PullMessagesRequest`,
  renew: "http://docs.oasis-open.org/wsn/bw-2/SubscriptionManager/RenewRequest",
  unsubscribe: "http://docs.oasis-open.org/wsn/bw-2/SubscriptionManager/UnsubscribeRequest",
} as const;

/** A subscription lasts so long without being renewed, s, and is renewed twice in that time. */
const LASTS_S = 120;
/** How long the camera may wait for something to tell, s; a shorter time while something lasts. */
const WAIT_S = { idle: 10, active: 2 };
/** Beyond that the camera must have answered, ms. */
const PATIENCE_MS = 8000;
/** A camera that does not wait, but answers at once, is not asked more often than this, ms. */
const LEAST_PAUSE_MS = 1000;
/** A state that is on and not spoken of for so long is forgotten: its end was lost, ms. */
const FORGOTTEN_MS = 30 * 60_000;
/** A camera's word is old by so much at most, ms; else the time of arrival counts. */
const MAX_AGE_MS = 30_000;
/** A camera without an event service gets one with new firmware or not at all, ms. */
const NO_SERVICE_MS = 3_600_000;
const MAX_MESSAGES = 100;
const MAX_DETECTORS = 256;
/** The last word to the camera may take so long, ms. */
const GOODBYE_MS = 1000;

/** What topics mean; the first that fits. Makers' own detectors are named by what they find. */
const KINDS: readonly (readonly [RegExp, string])[] = [
  [/visitor|doorbell/i, "doorbell"],
  [/people|person|human|face/i, "person"],
  [/vehicle|car\b/i, "vehicle"],
  [/dogcat|animal|pet/i, "animal"],
  [/sound|audio/i, "sound"],
  [/motion|fielddetector|objectsinside|linedetector|crossed|intrusion|tpsmart/i, "motion"],
];
/** The states that say whether it is so. */
const STATES =
  /^(?:State|Is[A-Z]\w*|LogicalState|Active|active|triggered|Motion|motion|Alarm|alarm)$/;

/** Reads the messages of an answer to PullMessages; what is not understood is left out. */
export function parseMessages(answer: string): OnvifMessage[] {
  return elementsOf(answer, "NotificationMessage").slice(0, MAX_MESSAGES).flatMap(({ inner }) => {
    const topic = (textOf(inner, "Topic") ?? "").replaceAll(/[\w.-]+:/g, "");
    const source = elementsOf(inner, "Source")[0]?.inner ?? "";
    const data = elementsOf(inner, "Data")[0]?.inner ?? "";
    const kind = KINDS.find(([pattern]) => pattern.test(topic))?.[1];
    // That its picture became too dark or too bright, or that it was moved, is no motion.
    if (kind === undefined || /tamper|scene(change)?|globalscene/i.test(topic)) return [];
    const items = tagsOf(data, "SimpleItem").map((tag) => ({
      name: attributeOf(tag, "Name") ?? "",
      value: attributeOf(tag, "Value") ?? "",
    }));
    const state = items.find(({ name }) => STATES.test(name))?.value.toLowerCase();
    const message = tagsOf(inner, "Message").find((tag) => attributeOf(tag, "UtcTime"));
    const atMs = Date.parse(attributeOf(message ?? "", "UtcTime") ?? "");
    const operation = attributeOf(message ?? "", "PropertyOperation");
    const isState = state === "true" || state === "1" || state === "false" || state === "0";
    if (!isState && operation === "Initialized") return []; // nothing has happened
    return [{
      kind,
      detector: `${topic} ${tagsOf(source, "SimpleItem").join(" ")}`.slice(0, 500),
      isOn: operation === "Deleted"
        ? false
        : isState
        ? state === "true" || state === "1"
        : undefined,
      atMs: Number.isFinite(atMs) ? atMs : undefined,
    }];
  });
}

/**
 * Tells a camera's events until `signal` is aborted.
 *
 * @throws a source error when the camera cannot be asked any more; who listens begins again
 */
export async function* listenToOnvif(
  options: OnvifClientOptions,
  { signal }: { readonly signal: AbortSignal },
): AsyncGenerator<CameraEvent> {
  const { clock } = options;
  using client = await openOnvifClient(options, { signal });
  const pullPoint = await subscribe(client, { signal });
  const states = createStates(clock, client.skewMs);
  let renewMs = clock.monotonic() + LASTS_S * 500;
  try {
    while (true) {
      const askedMs = clock.monotonic();
      const waitS = states.areOn ? WAIT_S.active : WAIT_S.idle;
      const answer = await pullPoint.ask("pull", {
        body: `<PullMessages xmlns="${EVENTS}"><Timeout>PT${waitS}S</Timeout>` +
          `<MessageLimit>${MAX_MESSAGES}</MessageLimit></PullMessages>`,
        ...{ signal, timeoutMs: waitS * 1000 + PATIENCE_MS },
      });
      yield* states.take(parseMessages(answer));
      yield* states.lasting(2 * WAIT_S.active * 1000);
      if (clock.monotonic() >= renewMs) {
        renewMs = clock.monotonic() + LASTS_S * 500;
        await renew(pullPoint, { signal });
      }
      const tookMs = clock.monotonic() - askedMs;
      if (tookMs < LEAST_PAUSE_MS) await clock.sleep(LEAST_PAUSE_MS - tookMs, { signal });
    }
  } finally {
    const body = `<Unsubscribe xmlns="${NOTIFY}"/>`;
    // Many cameras have room for few subscriptions; one that has gone needs no good-bye.
    await pullPoint.ask("unsubscribe", {
      ...{ body, signal: new AbortController().signal, timeoutMs: GOODBYE_MS },
    }).catch(() => {});
  }
}

/** Where messages are fetched from. */
interface PullPoint {
  ask(
    what: "pull" | "renew" | "unsubscribe",
    options: { readonly body: string; readonly signal: AbortSignal; readonly timeoutMs?: number },
  ): Promise<string>;
}

async function subscribe(
  client: OnvifClient,
  { signal }: { readonly signal: AbortSignal },
): Promise<PullPoint> {
  const { home, what } = client;
  const service = await client.service({ namespace: EVENTS, category: "Events" }, { signal });
  if (service === undefined) {
    throw sourceError("protocol", `${what}: the camera tells no events: it has no event service`, {
      retryAfterMs: NO_SERVICE_MS,
    });
  }
  const header = (action: string, to: string): SoapHeader => ({
    ...{ action, to, messageId: randomUUID(), reference: "", namespaces: "" },
  });
  const answer = await client.call(
    service,
    `<CreatePullPointSubscription xmlns="${EVENTS}">` +
      `<InitialTerminationTime>PT${LASTS_S}S</InitialTerminationTime></CreatePullPointSubscription>`,
    { signal, header: header(ACTIONS.create, service.href) },
  );
  const reference = elementsOf(answer, "SubscriptionReference")[0]?.inner ?? "";
  const address = textOf(reference, "Address");
  const given = address === undefined ? undefined : atHome(address, home);
  if (address === undefined || given === undefined || !URL.canParse(given)) {
    throw sourceError("protocol", `${what}: expected the address of a pull point, got none`);
  }
  const parameters = elementsOf(reference, "ReferenceParameters")[0]?.inner.trim() ?? "";
  const tooMuch = parameters.length > 4096;
  return {
    ask: (what, { body, ...rest }) =>
      client.call(new URL(given), body, {
        ...rest,
        header: {
          ...header(ACTIONS[what], address),
          reference: tooMuch ? "" : parameters,
          namespaces: tooMuch || parameters === "" ? "" : namespacesOf(answer),
        },
      }),
  };
}

/** Not every camera knows Renew; one that does not lets the subscription run out, which shows. */
async function renew(pullPoint: PullPoint, { signal }: { readonly signal: AbortSignal }) {
  const body = `<Renew xmlns="${NOTIFY}"><TerminationTime>PT${LASTS_S}S</TerminationTime></Renew>`;
  try {
    await pullPoint.ask("renew", { body, signal });
  } catch (error) {
    const isUnknown = error instanceof Error && "sourceErrorKind" in error &&
      error.sourceErrorKind === "protocol";
    if (!isUnknown) throw error;
  }
}

/** What is going on before the camera, by its detectors. */
function createStates(clock: Clock, skewMs: number) {
  const on = new Map<
    string,
    { readonly kind: string; readonly startMs: number; toldMs: number }
  >();
  /** When it was, by our clock; a word that comes late, or from a clock that moved, is of now. */
  const timeOf = ({ atMs }: OnvifMessage): number => {
    const nowMs = clock.now();
    const ownMs = atMs === undefined ? nowMs : atMs - skewMs;
    return ownMs > nowMs || nowMs - ownMs > MAX_AGE_MS ? nowMs : ownMs;
  };
  return {
    get areOn(): boolean {
      return on.size > 0;
    },
    *take(messages: readonly OnvifMessage[]): Generator<CameraEvent> {
      for (const message of messages) {
        const { kind, detector, isOn } = message;
        const atMs = timeOf(message);
        const before = on.get(detector);
        if (isOn === undefined) yield { kind, startMs: atMs, endMs: atMs };
        else if (isOn && before !== undefined) before.toldMs = clock.monotonic();
        else if (isOn) {
          if (on.size < MAX_DETECTORS) {
            on.set(detector, { kind, startMs: atMs, toldMs: clock.monotonic() });
          }
          yield { kind, startMs: atMs };
        } else if (before !== undefined) {
          on.delete(detector);
          yield { kind, startMs: before.startMs, endMs: Math.max(before.startMs, atMs) };
        }
      }
    },
    /** Tells on what lasts; it does so until `aheadMs` from now at least, when it is told again. */
    *lasting(aheadMs: number): Generator<CameraEvent> {
      for (const [detector, { kind, startMs, toldMs }] of on) {
        if (clock.monotonic() - toldMs > FORGOTTEN_MS) on.delete(detector);
        else yield { kind, startMs, endMs: clock.now() + aheadMs };
      }
    },
  };
}
