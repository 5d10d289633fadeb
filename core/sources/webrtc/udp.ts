/**
 * The UDP sockets under werift. `node:dgram` makes a buffer of 64 KiB for each packet that it receives,
 * which is half of what receiving costs, and garbage by the megabyte; `Deno.listenDatagram` fills the
 * same buffer again and again. It is not stable yet: where it was not allowed (`"unstable": ["net"]`),
 * werift keeps to `node:dgram`.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { isIP } from "node:net";
import { type Transport, UdpTransport } from "werift";

type Init = typeof UdpTransport.init;

/** The largest datagram there is. */
const MAX_DATAGRAM_BYTES = 65_536;
/** Windows tells of a port that nobody listens on by failing to receive; more in a row are not that. */
const MAX_FAILURES = 100;

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
    const { addr } = this.#socket;
    if (addr.transport !== "udp") {
      throw new TypeError(`expected a UDP address, got ${addr.transport}`);
    }
    this.#bound = addr;
    this.#received = this.#receive();
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

  async #receive(): Promise<void> {
    const buffer = new Uint8Array(MAX_DATAGRAM_BYTES);
    for (let failures = 0; !this.closed && failures < MAX_FAILURES;) {
      let received: [Uint8Array, Deno.Addr];
      try {
        received = await this.#socket.receive(buffer);
      } catch {
        failures++; // or it was closed
        continue;
      }
      failures = 0;
      const [data, from] = received;
      if (from.transport !== "udp") continue;
      try {
        // A copy: packets are kept until those before them have come.
        this.onData(Buffer.from(data), [from.hostname, from.port]);
      } catch {
        // werift leaves out what it cannot read, too.
      }
    }
  }
}
