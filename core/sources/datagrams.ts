/**
 * What comes on a UDP socket. `node:dgram` makes a buffer of 64 KiB for each packet that it receives,
 * which is half of what receiving costs, and garbage by the megabyte; `Deno.listenDatagram` fills the
 * same buffer again and again.
 *
 * @module
 */

/** The largest datagram there is. */
const MAX_DATAGRAM_BYTES = 65_536;
/** Windows tells of a port that nobody listens on by failing to receive; more in a row are not that. */
const MAX_FAILURES = 100;

/**
 * Hands on each packet until the socket is closed. A packet is a view that is good until `onPacket`
 * returns.
 */
export async function receiveDatagrams(
  socket: Deno.DatagramConn,
  onPacket: (packet: Uint8Array<ArrayBuffer>, from: Deno.NetAddr) => void,
): Promise<void> {
  const buffer = new Uint8Array(MAX_DATAGRAM_BYTES);
  for (let failures = 0; failures < MAX_FAILURES;) {
    let received: [Uint8Array<ArrayBuffer>, Deno.Addr];
    try {
      received = await socket.receive(buffer);
    } catch (error) {
      if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) {
        return; // closed
      }
      failures++;
      continue;
    }
    failures = 0;
    const [packet, from] = received;
    if (from.transport === "udp") onPacket(packet, from);
  }
}
