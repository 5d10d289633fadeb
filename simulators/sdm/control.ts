/**
 * The control route `/__control` of the simulated Device Access project, as the Nest cloud's
 * simulator has one. GET shows everything; POST takes one JSON order:
 *
 * | order | does |
 * |---|---|
 * | `{"do": "fault", "on": "sdm", "kind": "status", "status": 429, "count": 1}` | adds a fault |
 * | `{"do": "clear"}`, `{"do": "clear", "id": 1}` | removes all faults, or one |
 * | `{"do": "expire-tokens"}`, `{"do": "revoke"}` | ends access tokens; refresh tokens as well |
 * | `{"do": "camera", "name": "Yard", "online": false}` | switches a camera off or on |
 * | `{"do": "camera", "name": "Yard", "hangs": true}` | it does not answer, or does again |
 * | `{"do": "drop", "name": "Yard"}` | ends its streams |
 * | `{"do": "migrate", "name": "Yard", "protocol": "WEB_RTC"}` | moves it to Google Home |
 * | `{"do": "packets", "name": "Yard", "lossPercent": 5, "reorderPercent": 2, "silentMs": 3000}` | spoils its packets |
 * | `{"do": "event", "name": "Yard", "kind": "person", "times": 2}` | makes something happen |
 * | `{"do": "add-camera", "name": "Attic", "protocol": "RTSP"}`, `{"do": "remove-camera", …}` | |
 *
 * @module
 */
import { type Answer, answerOrder, type Asked } from "../http_server.ts";
import { type Fault, FAULT_KINDS } from "../nest/faults.ts";
import type { SdmProtocol } from "./camera.ts";
import { SDM_EVENTS, type SdmEventKind } from "./events.ts";
import type { SdmSimulator } from "./simulator.ts";

const ORDERS = [
  ...["fault", "clear", "expire-tokens", "revoke", "camera", "drop", "migrate"],
  ...["packets", "event", "add-camera", "remove-camera"],
];

/** Answers for the control route. */
export function answerSdmControl(asked: Asked, simulator: SdmSimulator): Promise<Answer> {
  return answerOrder(asked, {
    obey: (order) => obey(order, simulator),
    state: () => ({
      endpoints: simulator.endpoints,
      cameras: simulator.cameras.map((camera) => ({
        id: camera.id,
        name: camera.name,
        protocol: camera.protocol,
        online: camera.online,
        openStreams: camera.openStreams,
        counts: camera.counts,
        packets: simulator.media.counts(camera),
      })),
      quota: simulator.peaks,
      faults: simulator.faults.list(),
      faultKinds: FAULT_KINDS,
      requests: Object.fromEntries(simulator.requests),
    }),
  });
}

function obey(order: Readonly<Record<string, unknown>>, simulator: SdmSimulator): void {
  const { do: what, ...rest } = order;
  const camera = () => simulator.camera(String(rest["name"]));
  switch (what) {
    case "fault":
      // `add` checks every field that it uses.
      simulator.faults.add({ on: "sdm", ...rest } as unknown as Fault);
      return;
    case "clear":
      simulator.faults.clear(rest["id"] === undefined ? undefined : Number(rest["id"]));
      return;
    case "expire-tokens":
      simulator.oauth.expireTokens();
      return;
    case "revoke":
      simulator.oauth.revoke();
      return;
    case "camera":
      if (typeof rest["hangs"] === "boolean") {
        camera().hangs = rest["hangs"];
        return;
      }
      if (typeof rest["online"] !== "boolean") {
        throw new Error(`online is ${JSON.stringify(rest["online"])}: expected true or false`);
      }
      camera().setOnline(rest["online"]);
      return;
    case "drop":
      camera().dropStreams();
      return;
    case "migrate":
      camera().migrate(protocolOf(rest["protocol"]));
      return;
    case "packets": {
      const faults = simulator.media.faults(camera());
      for (const name of ["lossPercent", "reorderPercent"] as const) {
        const value = rest[name];
        if (value === undefined) continue;
        if (typeof value !== "number" || !(value >= 0 && value <= 100)) {
          throw new Error(`${name} is ${JSON.stringify(value)}: expected a number from 0 to 100`);
        }
        faults[name] = value;
      }
      if (rest["silentMs"] !== undefined) {
        faults.silentUntilMs = performance.now() + Number(rest["silentMs"]);
      }
      return;
    }
    case "event": {
      const kind = String(rest["kind"]);
      if (!Object.hasOwn(SDM_EVENTS, kind)) {
        throw new Error(
          `there is no event ${JSON.stringify(kind)}: expected one of ${
            Object.keys(SDM_EVENTS).join(", ")
          }`,
        );
      }
      simulator.events.publish(camera(), kind as SdmEventKind, {
        ...(rest["times"] === undefined ? {} : { times: Number(rest["times"]) }),
      });
      return;
    }
    case "add-camera": {
      const { name, protocol, battery } = rest;
      if (typeof name !== "string" || name === "") {
        throw new Error(`the name is ${JSON.stringify(name)}: expected the new camera's name`);
      }
      simulator.addCamera({
        customName: name,
        protocol: protocolOf(protocol ?? "WEB_RTC"),
        battery: battery === true,
      });
      return;
    }
    case "remove-camera":
      simulator.removeCamera(camera().id);
      return;
    default:
      throw new Error(
        `there is no order ${JSON.stringify(what)}: expected "do" to be one of ${
          ORDERS.join(", ")
        }`,
      );
  }
}

function protocolOf(value: unknown): SdmProtocol {
  if (value === "RTSP" || value === "WEB_RTC") return value;
  throw new Error(`the protocol is ${JSON.stringify(value)}: expected "RTSP" or "WEB_RTC"`);
}
