/**
 * RTP over UDP: a pair of ports for one stream. Packets that overtook each other are put in order
 * before they are handed on; what is missing for too long is given up.
 *
 * Only what comes from the camera's own address is taken. The camera is greeted once in a while, so
 * that a router in between lets its packets through.
 *
 * @module
 */
import { isIP } from "node:net";
import { sourceError } from "../../types.ts";
import { receiveDatagrams } from "../datagrams.ts";
import { widenReceiveBuffer } from "../socket_options.ts";
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

/** Puts packets in the order of their sequence numbers; copies those that have to wait. */
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
      waiting.set(sequence, packet.slice());
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

/**
 * Opens a pair of ports. A packet is good until `onPacket` returns.
 *
 * @throws a source error
 */
export function openUdpReceiver(
  { onPacket }: { readonly onPacket: (packet: Uint8Array, isRtcp: boolean) => void },
): UdpReceiver {
  const [rtp, rtcp] = bindPair();
  let camera:
    | { readonly address: string; readonly ports: readonly [number, number] | undefined }
    | undefined;
  const reorderer = createReorderer((packet) => onPacket(packet, false));
  const receive = (socket: UdpSocket, take: (packet: Uint8Array) => void) =>
    receiveDatagrams(socket.conn, (packet, { hostname }) => {
      if (camera === undefined || plain(hostname) === camera.address) take(packet);
    });
  receive(rtp, reorderer.take);
  receive(rtcp, (packet) => onPacket(packet, true));
  const send = ({ conn }: UdpSocket, port: number, bytes: Uint8Array): void => {
    if (camera === undefined) return;
    // A port that is not open there; silence is noticed elsewhere.
    conn.send(bytes, { transport: "udp", hostname: camera.address, port }).catch(() => {});
  };
  return {
    ports: [rtp.port, rtcp.port],
    from(address, serverPorts) {
      camera = { address: plain(address), ports: serverPorts };
    },
    greet() {
      if (camera?.ports === undefined) return;
      // An RTP header without payload, and an empty receiver report (RFC 3550 §6.4.2).
      send(rtp, camera.ports[0], Uint8Array.of(0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
      send(rtcp, camera.ports[1], Uint8Array.of(0x80, 201, 0, 1, 0, 0, 0, 0));
    },
    close() {
      for (const { conn } of [rtp, rtcp]) conn.close();
    },
  };
}

/** An IPv4 address that came through an IPv6 socket is the same address. */
function plain(address: string): string {
  const bare = address.replace(/^::ffff:/i, "");
  return isIP(bare) === 4 ? bare : address.toLowerCase();
}

interface UdpSocket {
  readonly conn: Deno.DatagramConn;
  readonly port: number;
}

function bindPair(): readonly [UdpSocket, UdpSocket] {
  for (let tries = 0; tries < BIND_TRIES; tries++) {
    const first = bind(0);
    // RTP has the even port of a pair.
    if (first.port % 2 === 0) {
      try {
        return [first, bind(first.port + 1)];
      } catch {
        // Somebody has it.
      }
    }
    first.conn.close();
  }
  throw sourceError("offline", "no pair of free UDP ports was found on this machine");
}

function bind(port: number): UdpSocket {
  const conn = Deno.listenDatagram({ transport: "udp", hostname: "0.0.0.0", port });
  widenReceiveBuffer(conn);
  return { conn, port: conn.addr.transport === "udp" ? conn.addr.port : 0 };
}
