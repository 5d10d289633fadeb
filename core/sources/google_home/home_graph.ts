/**
 * The devices of a Google Home: `StructuresService/GetHomeGraph` of the Foyer service. The call is made
 * once an hour.
 *
 * @module
 */
import type { Clock } from "../../types.ts";
import { bytesOf, textField, textOf } from "../protobuf.ts";
import { unaryCall } from "./grpc.ts";

/** A camera of a home. */
export interface HomeCamera {
  /** By which its recordings are found: `DEVICE_…`. */
  readonly id: string;
  /** By which the Foyer service wakes it; empty where it names none. */
  readonly foyerId: string;
  readonly name: string;
  readonly model: string;
}

const PATH = "/google.internal.home.foyer.v1.StructuresService/GetHomeGraph";
/**
 * The Nest cameras of all homes of the account, and the names of those that keep no recordings here.
 *
 * @throws a source error; of the kind `auth` where the token is refused
 */
export async function homeCameras(
  { endpoint, token, requestId, clock, signal, ca }: {
    readonly endpoint: URL;
    readonly token: string;
    readonly requestId: string;
    readonly clock: Clock;
    readonly signal: AbortSignal;
    readonly ca?: string | undefined;
  },
): Promise<{ readonly cameras: readonly HomeCamera[]; readonly others: readonly string[] }> {
  const message = textField(3, requestId);
  return parseHomeGraph(await unaryCall(PATH, { endpoint, message, token, clock, signal, ca }));
}

/** Reads the answer. @throws a source error of the kind `protocol` */
export function parseHomeGraph(
  answer: Uint8Array,
): { readonly cameras: readonly HomeCamera[]; readonly others: readonly string[] } {
  const cameras: HomeCamera[] = [];
  const others: string[] = [];
  for (const home of bytesOf(answer, 2)) {
    for (const device of bytesOf(home, 7)) {
      const traits = bytesOf(device, 7).map((trait) => new TextDecoder().decode(trait));
      const model = textOf(device, 17, 2);
      const isCamera = traits.some((trait) => trait.includes("action.devices.traits.CameraStream"));
      if (!isCamera || !model.includes("Nest")) continue;
      const id = historyId(device);
      const name = textOf(device, 4) || id || model;
      if (id === "") others.push(name);
      else if (!cameras.some((camera) => camera.id === id)) {
        cameras.push({ id, foyerId: textOf(device, 1, 1), name, model });
      }
    }
  }
  return { cameras, others };
}

/** The `DEVICE_…` among a device's names: its own or another one; empty where it has none. */
function historyId(device: Uint8Array): string {
  const own = textOf(device, 1, 2, 2);
  const more = bytesOf(device, 39).flatMap((ids) => bytesOf(ids, 1)).map((id) => textOf(id, 2));
  return [own, ...more].find((id) => /^DEVICE_[0-9A-Za-z]+$/.test(id)) ?? "";
}
