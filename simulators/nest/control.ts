/**
 * The control route `/__control` of the simulated cloud, for people with curl and for tests that
 * run the program as another process. GET shows everything; POST takes one JSON order:
 *
 * | order | does |
 * |---|---|
 * | `{"do": "fault", "kind": "slow", "ms": 3000, "camera": "Yard", "count": 5}` | adds a fault |
 * | `{"do": "clear"}`, `{"do": "clear", "id": 1}` | removes all faults, or one |
 * | `{"do": "expire-tokens"}` | ends every token but the Nest account's access token |
 * | `{"do": "revoke-access-token"}` | ends the Nest account's access token too |
 * | `{"do": "log-out"}` | the Google cookie is dead from now on |
 * | `{"do": "camera", "name": "Yard", "state": "offline"}` | `online`, `offline` or `off` |
 * | `{"do": "migrate", "name": "Yard"}` | moves it to Google Home |
 * | `{"do": "fault", "kind": "redirect", "at": "ok"}` | a fault of the live streams, see `faults.ts` |
 * | `{"do": "add-camera", "name": "Attic", "region": "eu1"}` | the account gets a camera |
 * | `{"do": "remove-camera", "name": "Attic"}` | the account loses it |
 *
 * @module
 */
import { type Answer, answerOrder, type Asked } from "../http_server.ts";
import { type Fault, FAULT_KINDS } from "./faults.ts";
import type { NestSimulator } from "./simulator.ts";

const ORDERS = [
  ...["fault", "clear", "expire-tokens", "revoke-access-token", "log-out"],
  ...["camera", "migrate", "add-camera", "remove-camera"],
];

/** Answers for the control route. */
export function answerControl(asked: Asked, simulator: NestSimulator): Promise<Answer> {
  return answerOrder(asked, {
    obey: (order) => obey(order, simulator),
    state: () => ({
      endpoints: simulator.endpoints,
      cameras: simulator.cameras.map((
        { uuid, name, region, widthPx, heightPx, state, served },
      ) => ({
        ...{ uuid, name, region, widthPx, heightPx, state, served },
      })),
      faults: simulator.faults.list(),
      faultKinds: FAULT_KINDS,
      requests: Object.fromEntries(simulator.requests),
    }),
  });
}

async function obey(
  order: Readonly<Record<string, unknown>>,
  simulator: NestSimulator,
): Promise<void> {
  const { do: what, ...rest } = order;
  const camera = () => simulator.camera(String(rest["name"]));
  switch (what) {
    case "fault":
      // `add` checks every field that it uses.
      simulator.faults.add(rest as unknown as Fault);
      return;
    case "clear":
      simulator.faults.clear(rest["id"] === undefined ? undefined : Number(rest["id"]));
      return;
    case "expire-tokens":
      simulator.expireTokens();
      return;
    case "revoke-access-token":
      simulator.revokeAccessToken();
      return;
    case "log-out":
      simulator.logOut();
      return;
    case "camera": {
      const state = rest["state"];
      if (state !== "online" && state !== "offline" && state !== "off") {
        throw new Error(
          `the state is ${JSON.stringify(state)}: expected "online", "offline" or "off"`,
        );
      }
      camera().setState(state);
      return;
    }
    case "migrate":
      camera().migrate();
      return;
    case "add-camera": {
      const { name, region, widthPx, heightPx } = rest;
      if (typeof name !== "string" || name === "") {
        throw new Error(`the name is ${JSON.stringify(name)}: expected the new camera's name`);
      }
      const optional = (value: unknown) => value === undefined ? undefined : Number(value);
      await simulator.addCamera({
        name,
        region: typeof region === "string" ? region : undefined,
        widthPx: optional(widthPx),
        heightPx: optional(heightPx),
      });
      return;
    }
    case "remove-camera":
      simulator.removeCamera(camera().uuid);
      return;
    default:
      throw new Error(
        `there is no order ${JSON.stringify(what)}: expected "do" to be one of ${
          ORDERS.join(", ")
        }`,
      );
  }
}
