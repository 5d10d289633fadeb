/**
 * RTP over UDP: a pair of ports for one stream. Packets that overtook each other are put in order
 * before they are handed on; what is missing for too long is given up.
 *
 * Only what comes from the camera's own address is taken. The camera is greeted once in a while, so
 * that a router in between lets its packets through.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import { isIP } from "node:net";
import { sourceError } from "../../types.ts";
import { u16 } from "./rtp_receiver.ts";

/** One stream's pair of ports. */
export interface UdpReceiver {
  /** For RTP, even, and the next one for RTCP. */
  readonly ports: readonly [number, number];
  /** Where packets come from. */
  from(address: string, ports: readonly [number, number] | undefined): void;
  /** Shows routers the way back. */
  greet(): void;
  close(): void;
}

/** Packets that wait for one before them; a larger gap is a loss. */
const WINDOW = 32;
const BIND_TRIES = 20;
const RECEIVE_BUFFER_BYTES = 2 ** 20;

/** Puts packets in the order of their sequence numbers. */
export interface Reorderer {
  take(packet: Uint8Array): void;
}

/** See {@linkcode Reorderer}. */
export function createReorderer(onPacket: (packet: Uint8Array) => void): Reorderer {
  const waiting = new Map<number, Uint8Array>();
  let expected = -1;
  const giveOut = () => {
    for (let next = waiting.get(expected); next; next = waiting.get(expected)) {
      waiting.delete(expected);
      expected = (expected + 1) & 0xffff;
      onPacket(next);
    }
  };
  return {
    take(packet) {
      if (packet.length < 12) return;
      const sequence = u16(packet, 2);
      const ahead = expected < 0 ? 0 : (sequence - expected) & 0xffff;
      if (ahead === 0) {
        expected = (sequence + 1) & 0xffff;
        onPacket(packet);
        return giveOut();
      }
      // Old ones, and those after a jump, are for the receiver to judge.
      if (ahead >= 1024) return onPacket(packet);
      waiting.set(sequence, packet);
      if (waiting.size < WINDOW) return;
      let nearest = 0x1_0000;
      for (const number of waiting.keys()) {
        nearest = Math.min(nearest, (number - expected) & 0xffff);
      }
      expected = (expected + nearest) & 0xffff;
      giveOut();
    },
  };
}

/** Opens a pair of ports. @throws a source error */
export async function openUdpReceiver(
  { onPacket }: { readonly onPacket: (packet: Uint8Array, isRtcp: boolean) => void },
): Promise<UdpReceiver> {
  const [rtp, rtcp] = await bindPair();
  const ports: readonly [number, number] = [rtp.address().port, rtcp.address().port];
  let camera:
    | { readonly address: string; readonly ports: readonly [number, number] | undefined }
    | undefined;
  const reorderer = createReorderer((packet) => onPacket(packet, false));
  const isCamera = (from: { readonly address: string }) =>
    camera === undefined || plain(from.address) === plain(camera.address);
  rtp.on("message", (packet, from) => {
    if (isCamera(from)) reorderer.take(packet);
  });
  rtcp.on("message", (packet, from) => {
    if (isCamera(from)) onPacket(packet, true);
  });
  for (const socket of [rtp, rtcp]) {
    socket.on("error", () => {}); // a port that is not open there; silence is noticed elsewhere
    try {
      socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
    } catch {
      // The system's own size must do.
    }
  }
  return {
    ports,
    from(address, serverPorts) {
      camera = { address, ports: serverPorts };
    },
    greet() {
      if (camera?.ports === undefined) return;
      // An RTP header without payload, and an empty receiver report (RFC 3550 §6.4.2).
      rtp.send(
        Uint8Array.of(0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        camera.ports[0],
        camera.address,
      );
      rtcp.send(Uint8Array.of(0x80, 201, 0, 1, 0, 0, 0, 0), camera.ports[1], camera.address);
    },
    close() {
      for (const socket of [rtp, rtcp]) socket.close();
    },
  };
}

/** An IPv4 address that came through an IPv6 socket is the same address. */
function plain(address: string): string {
  const bare = address.replace(/^::ffff:/i, "");
  return isIP(bare) === 4 ? bare : address.toLowerCase();
}

async function bindPair(): Promise<readonly [Socket, Socket]> {
  for (let tries = 0; tries < BIND_TRIES; tries++) {
    const first = await bind(0);
    const { port } = first.address();
    // RTP has the even port of a pair.
    if (port % 2 === 0) {
      try {
        return [first, await bind(port + 1)];
      } catch {
        // Somebody has it.
      }
    }
    first.close();
  }
  throw sourceError("offline", "no pair of free UDP ports was found on this machine");
}

function bind(port: number): Promise<Socket> {
  const socket = createSocket("udp4");
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(port, () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}
