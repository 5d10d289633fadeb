/**
 * The events of a simulated ONVIF device: pull points as the ONVIF Core specification has them (§9.2,
 * §9.3, on WS-BaseNotification 1.3). Each subscription has its own queue, begins with the state of
 * every property ("Initialized"), and ends at its termination time unless it is renewed. A request has
 * to name its action and to give back the reference parameter that it got.
 *
 *     POST /onvif/events        CreatePullPointSubscription
 *     POST /onvif/events/pull   PullMessages, Renew, Unsubscribe
 *
 * @module
 */
import type { Clock } from "../core/types.ts";

/** What may go wrong. */
export type OnvifEventFault =
  /** Renew is not known. */
  | "no-renew"
  /** PullMessages answers at once, with nothing. */
  | "does-not-wait"
  /** Every subscription is forgotten. */
  | "forgets"
  /** No more subscriptions are to be had. */
  | "full"
  /** PullMessages gets no answer. */
  | "never"
  /** The connection breaks at PullMessages. */
  | "reset"
  /** PullMessages is answered with something else. */
  | "garbage";

/** How a state is told. */
export interface OnvifState {
  /** Default `tns1:RuleEngine/CellMotionDetector/Motion`. */
  readonly topic?: string;
  /** Name of the state; default `IsMotion`. */
  readonly item?: string;
  /** Which detector; default `1`. */
  readonly source?: string;
}

/** What the device notices. */
export interface OnvifEvents {
  /** A state begins or ends. */
  set(isOn: boolean, state?: OnvifState): void;
  /** Something happens and is over. */
  happen(topic: string, items: Readonly<Record<string, string>>): void;
  /** What goes wrong from now on. */
  faults: Set<OnvifEventFault>;
  /** Subscriptions that live. */
  readonly subscriptions: number;
  /** Answers a call. */
  answer(
    call: string,
    request: {
      readonly question: string;
      readonly path: string;
      readonly address: string;
      readonly signal: AbortSignal;
    },
  ): Promise<
    | { readonly body: string }
    | { readonly fault: string; readonly status: number }
    | "reset"
    | "never"
  >;
}

interface Subscription {
  readonly id: string;
  readonly messages: string[];
  endsMs: number;
  wake: () => void;
}

const ACTIONS: Readonly<Record<string, string>> = {
  CreatePullPointSubscription:
    "http://www.onvif.org/ver10/events/wsdl/EventPortType/CreatePullPointSubscriptionRequest",
  PullMessages: "http://www.onvif.org/ver10/events/wsdl/PullPointSubscription/PullMessagesRequest",
  Renew: "http://docs.oasis-open.org/wsn/bw-2/SubscriptionManager/RenewRequest",
  Unsubscribe: "http://docs.oasis-open.org/wsn/bw-2/SubscriptionManager/UnsubscribeRequest",
};
/** As small cameras have it. */
const MAX_SUBSCRIPTIONS = 4;
const MAX_WAIT_S = 60;

const NOTIFY = 'xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2"';
const EVENTS = 'xmlns:tev="http://www.onvif.org/ver10/events/wsdl"';

/** Makes them. `nowMs` is the device's own, perhaps wrong, time. */
export function createOnvifEvents(
  { clock, nowMs }: { readonly clock: Clock; readonly nowMs: () => number },
): OnvifEvents {
  const subscriptions = new Map<string, Subscription>();
  const states = new Map<string, { readonly state: Required<OnvifState>; isOn: boolean }>();
  const faults = new Set<OnvifEventFault>();
  let count = 0;

  const time = (ms: number) => new Date(ms).toISOString();
  const message = (
    topic: string,
    { operation, source, items }: {
      readonly operation?: string;
      readonly source: string;
      readonly items: Readonly<Record<string, string>>;
    },
  ) =>
    `<wsnt:NotificationMessage ${NOTIFY}><wsnt:Topic Dialect="http://www.onvif.org/ver10/tev/` +
    `topicExpression/ConcreteSet" xmlns:tns1="http://www.onvif.org/ver10/topics">${topic}</wsnt:Topic>` +
    `<wsnt:Message><tt:Message UtcTime="${time(nowMs())}"${
      operation === undefined ? "" : ` PropertyOperation="${operation}"`
    }><tt:Source><tt:SimpleItem Name="VideoSourceConfigurationToken" Value="${source}"/></tt:Source>` +
    `<tt:Data>${
      Object.entries(items).map(([name, value]) =>
        `<tt:SimpleItem Name="${name}" Value="${value}"/>`
      ).join("")
    }</tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage>`;
  const messageOf = (
    { state, isOn }: { readonly state: Required<OnvifState>; readonly isOn: boolean },
    operation: string,
  ) =>
    message(state.topic, { operation, source: state.source, items: { [state.item]: `${isOn}` } });
  const tell = (text: string) => {
    for (const subscription of subscriptions.values()) {
      subscription.messages.push(text);
      subscription.wake();
    }
  };
  const expire = () => {
    for (const [id, { endsMs }] of subscriptions) {
      if (endsMs <= clock.monotonic()) subscriptions.delete(id);
    }
  };
  /** `PT2M`, `PT60S` → s. */
  const seconds = (question: string, name: string, usual: number): number => {
    const [, minutes, rest] =
      new RegExp(`<(?:\\w+:)?${name}[^>]*>PT(?:(\\d+)M)?(?:(\\d+(?:\\.\\d+)?)S)?<`)
        .exec(question) ?? [];
    return minutes === undefined && rest === undefined
      ? usual
      : Number(minutes ?? 0) * 60 + Number(rest ?? 0);
  };
  const until = (endsMs: number) =>
    `<wsnt:CurrentTime ${NOTIFY}>${time(nowMs())}</wsnt:CurrentTime>` +
    `<wsnt:TerminationTime ${NOTIFY}>${
      time(nowMs() + endsMs - clock.monotonic())
    }</wsnt:TerminationTime>`;

  const pull = async (
    subscription: Subscription,
    { question, signal }: { readonly question: string; readonly signal: AbortSignal },
  ) => {
    const waitS = Math.min(MAX_WAIT_S, seconds(question, "Timeout", 1));
    const limit = Number(/MessageLimit[^>]*>(\d+)</.exec(question)?.[1] ?? 1);
    if (subscription.messages.length === 0 && !faults.has("does-not-wait")) {
      const told = new AbortController();
      subscription.wake = () => told.abort();
      const any = AbortSignal.any([told.signal, signal]);
      await clock.sleep(waitS * 1000, { signal: any }).catch(() => {});
      subscription.wake = () => {};
    }
    const messages = subscription.messages.splice(0, Math.max(1, limit));
    return {
      body:
        `<tev:PullMessagesResponse ${EVENTS}><tev:CurrentTime>${time(nowMs())}</tev:CurrentTime>` +
        `<tev:TerminationTime>${time(nowMs() + 1000)}</tev:TerminationTime>${
          messages.join("")
        }</tev:PullMessagesResponse>`,
    };
  };

  return {
    faults,
    get subscriptions() {
      expire();
      return subscriptions.size;
    },
    set(isOn, given = {}) {
      const state = {
        ...{ topic: "tns1:RuleEngine/CellMotionDetector/Motion", item: "IsMotion", source: "1" },
        ...given,
      };
      const key = `${state.topic} ${state.source}`;
      states.set(key, { state, isOn });
      tell(messageOf({ state, isOn }, "Changed"));
    },
    happen: (topic, items) => tell(message(topic, { source: "1", items })),
    async answer(call, { question, path, address, signal }) {
      expire();
      const action = /<(?:\w+:)?Action[^>]*>([^<]*)</.exec(question)?.[1]?.trim();
      if (action !== ACTIONS[call]) return { fault: `no such action: ${action}`, status: 400 };
      if (call === "CreatePullPointSubscription") {
        if (faults.has("full") || subscriptions.size >= MAX_SUBSCRIPTIONS) {
          return { fault: "the number of subscriptions is exceeded", status: 400 };
        }
        const id = String(++count);
        const endsMs = clock.monotonic() + 1000 * seconds(question, "InitialTerminationTime", 60);
        const messages = [...states.values()].map((one) => messageOf(one, "Initialized"));
        subscriptions.set(id, { id, messages, endsMs, wake: () => {} });
        return {
          body: `<tev:CreatePullPointSubscriptionResponse ${EVENTS} xmlns:sim="urn:simulated">` +
            `<tev:SubscriptionReference><wsa:Address xmlns:wsa="http://www.w3.org/2005/08/addressing">` +
            `${address}/pull</wsa:Address><wsa:ReferenceParameters xmlns:wsa="http://www.w3.org/2005/` +
            `08/addressing"><sim:Id>${id}</sim:Id></wsa:ReferenceParameters>` +
            `</tev:SubscriptionReference>${
              until(endsMs)
            }</tev:CreatePullPointSubscriptionResponse>`,
        };
      }
      if (faults.has("forgets")) subscriptions.clear();
      const id = /<sim:Id>([^<]*)</.exec(question)?.[1] ?? "";
      const isDeclared = /xmlns:sim="urn:simulated"/.test(question);
      const subscription = isDeclared ? subscriptions.get(id) : undefined;
      if (subscription === undefined || !path.endsWith("/pull")) {
        return { fault: "ResourceUnknownFault: no such subscription", status: 400 };
      }
      switch (call) {
        case "PullMessages":
          if (faults.has("never")) return "never";
          if (faults.has("reset")) return "reset";
          if (faults.has("garbage")) return { body: "<a><b</a>]]>&&<NotificationMessage>" };
          return await pull(subscription, { question, signal });
        case "Renew": {
          if (faults.has("no-renew")) {
            return { fault: "Optional Action Not Implemented", status: 500 };
          }
          const endsMs = clock.monotonic() + 1000 * seconds(question, "TerminationTime", 60);
          subscription.endsMs = endsMs;
          return { body: `<wsnt:RenewResponse ${NOTIFY}>${until(endsMs)}</wsnt:RenewResponse>` };
        }
        default:
          subscriptions.delete(id);
          subscription.wake();
          return { body: `<wsnt:UnsubscribeResponse ${NOTIFY}/>` };
      }
    },
  };
}
