/**
 * Options of sockets that the runtime has no way to set.
 *
 * @module
 */
import { type Libc, MAX_FILES, useLibc } from "../libc.ts";

/** The low-water mark of one open TCP connection. */
export interface LowWater {
  /**
   * Until {@linkcode lower}, less than so many bytes wake nobody. The kernel widens its receive window
   * to hold them, as far as it may. The end of the stream wakes all the same.
   */
  raise(bytes: number): void;
  /** What has come can be read, however little; the runtime hears of it when it waits next. */
  lower(): void;
}

// The same on x86-64 and arm64: asm-generic/socket.h, linux/socket.h, linux/net.h.
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_RCVBUF = 8;
const SO_RCVLOWAT = 18;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const AF_INET = 2;
const AF_INET6 = 10;
/** Of the larger address, `struct sockaddr_in6`: family (2), port (2, big-endian), and the rest. */
const ADDRESS_BYTES = 28;

/**
 * Lets the kernel gather what comes on a connection (`SO_RCVLOWAT`, socket(7)). A camera sends
 * something forty times a second, and the runtime is woken for each of them even while nobody reads:
 * with one camera nearly half of what recording costs. `undefined` where it cannot be set.
 */
export function lowWaterOf({ localAddr, remoteAddr }: Deno.Conn): LowWater | undefined {
  const libc = useLibc();
  if (libc === undefined || !("port" in localAddr) || !("port" in remoteAddr)) return undefined;
  const file = findFile(libc, SOCK_STREAM, localAddr.port, remoteAddr.port);
  if (file === undefined) return undefined;
  return {
    raise: (bytes) => setOption(libc, file, SO_RCVLOWAT, bytes),
    lower: () => setOption(libc, file, SO_RCVLOWAT, 1),
  };
}

/** What a camera of 8 Mbit/s sends in a second takes as much again to be kept. */
const DATAGRAM_BYTES = 2 ** 21;

/**
 * Lets the kernel keep more datagrams while the program is busy (`SO_RCVBUF`): 2 MiB, or as much as the
 * system allows anyone (`net.core.rmem_max`), which is at least twice what a socket has by itself.
 */
export function widenReceiveBuffer({ addr }: Deno.DatagramConn): void {
  const libc = useLibc();
  if (libc === undefined || !("port" in addr)) return;
  const file = findFile(libc, SOCK_DGRAM, addr.port);
  if (file !== undefined) setOption(libc, file, SO_RCVBUF, DATAGRAM_BYTES);
}

function setOption(libc: Libc, file: number, option: number, value: number): void {
  libc.setsockopt(file, SOL_SOCKET, option, Int32Array.of(value), Int32Array.BYTES_PER_ELEMENT);
}

/**
 * The file descriptor of a socket: Deno keeps it to itself, so it is known by its ports. `undefined` if
 * there are several: connections to two hosts may have the same ports at both ends.
 */
function findFile(
  libc: Libc,
  type: number,
  localPort: number,
  remotePort?: number,
): number | undefined {
  const address = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  const length = new Uint32Array(1);
  const value = new Int32Array(1);
  const typeOf = (file: number): number | undefined => {
    length[0] = value.byteLength;
    const status = libc.getsockopt(file, SOL_SOCKET, SO_TYPE, value, length);
    return status === 0 ? value[0] : undefined; // else it is no socket
  };
  const portBy = (ask: Libc["getsockname"], file: number): number | undefined => {
    length[0] = ADDRESS_BYTES;
    if (ask(file, address, length) !== 0) return undefined; // not connected
    const family = address.getUint16(0, true);
    return family === AF_INET || family === AF_INET6 ? address.getUint16(2) : undefined;
  };
  const files: number[] = [];
  for (let file = 0; file < MAX_FILES; file++) {
    if (typeOf(file) !== type || portBy(libc.getsockname, file) !== localPort) continue;
    if (portBy(libc.getpeername, file) === remotePort) files.push(file);
  }
  return files.length === 1 ? files[0] : undefined;
}
