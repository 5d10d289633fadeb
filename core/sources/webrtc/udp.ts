/**
 * The UDP sockets under werift: Deno's in place of `node:dgram` (`datagrams.ts` says why). They are not
 * stable yet: where they were not allowed (`"unstable": ["net"]`), werift keeps to `node:dgram`.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { isIP } from "node:net";
import { type Transport, UdpTransport } from "werift";
import { receiveDatagrams } from "../datagrams.ts";
import { widenReceiveBuffer } from "../socket_options.ts";

type Init = typeof UdpTransport.init;

let isInUse = false;

/** From now on werift's UDP goes over Deno's sockets, where they are to be had. */
export function useDenoUdp(): void {
  if (isInUse || typeof Deno === "undefined" || !("listenDatagram" in Deno)) return;
  isInUse = true;
  const original = UdpTransport.init;
  const init = (...[type, options = {}]: Parameters<Init>): Promise<Transport> =>
    options.portRange !== undefined || options.port !== undefined
      ? original.call(UdpTransport, type, options)
      : Promise.resolve(
        new DenoUdp(
          options.interfaceAddresses?.[type === "udp6" ? "udp6" : "udp4"] ??
            (type === "udp6" ? "::" : "0.0.0.0"),
        ),
      );
  Object.assign(UdpTransport, { init });
}

class DenoUdp implements Transport {
  readonly type = "udp";
  readonly addressFamily: 4 | 6;
  onData: Transport["onData"] = () => {};
  closed = false;
  readonly #socket: Deno.DatagramConn;
  readonly #bound: Deno.NetAddr;
  readonly #received: Promise<void>;

  constructor(hostname: string) {
    this.addressFamily = isIP(hostname) === 6 ? 6 : 4;
    this.#socket = Deno.listenDatagram({ transport: "udp", hostname, port: 0 });
    widenReceiveBuffer(this.#socket);
    const { addr } = this.#socket;
    if (addr.transport !== "udp") {
      throw new TypeError(`expected a UDP address, got ${addr.transport}`);
    }
    this.#bound = addr;
    this.#received = receiveDatagrams(this.#socket, (packet, { hostname, port }) => {
      try {
        // A copy: packets are kept until those before them have come.
        this.onData(Buffer.from(packet), [hostname, port]);
      } catch {
        // werift leaves out what it cannot read, too.
      }
    });
  }

  get address(): { address: string; port: number; family: string } {
    return { address: this.host, port: this.port, family: `IPv${this.addressFamily}` };
  }

  get host(): string {
    return this.#bound.hostname;
  }

  get port(): number {
    return this.#bound.port;
  }

  /** Like werift's own it resolves before the packet is out; only an unknown name is told of. */
  readonly send: Transport["send"] = async (data, addr) => {
    if (addr === undefined || this.closed) return;
    const [hostname, port] = addr;
    const sent = this.#socket.send(data, { transport: "udp", hostname, port });
    if (isIP(hostname) === 0) await sent;
    else sent.catch(() => {}); // what does not get there is asked for again, or missed
  };

  readonly close: Transport["close"] = async () => {
    if (!this.closed) {
      this.closed = true;
      this.#socket.close();
    }
    await this.#received;
  };
}
