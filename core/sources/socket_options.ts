/**
 * Options of sockets that the runtime has no way to set.
 *
 * @module
 */
import { type Libc, useLibc } from "../libc.ts";

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

// The same on x86-64 and arm64: asm-generic/socket.h, linux/socket.h.
const SOL_SOCKET = 1;
const SO_RCVLOWAT = 18;
const AF_INET = 2;
const AF_INET6 = 10;
/** Of the larger address, `struct sockaddr_in6`: family (2), port (2, big-endian), and the rest. */
const ADDRESS_BYTES = 28;

/** As many files as a process may have open that asks for no more. */
const MAX_FILES = 1024;

/**
 * Lets the kernel gather what comes on a connection (`SO_RCVLOWAT`, socket(7)). A camera sends
 * something forty times a second, and the runtime is woken for each of them even while nobody reads:
 * with one camera nearly half of what recording costs. `undefined` where it cannot be set.
 */
export function lowWaterOf(conn: Deno.Conn): LowWater | undefined {
  const libc = useLibc();
  if (libc === undefined) return undefined;
  const file = findFile(libc, conn);
  if (file === undefined) return undefined;
  const value = new Int32Array(1);
  const set = (bytes: number) => {
    value[0] = bytes;
    libc.setsockopt(file, SOL_SOCKET, SO_RCVLOWAT, value, value.byteLength);
  };
  return { raise: set, lower: () => set(1) };
}

/** The file descriptor of a connection: Deno keeps it to itself, so it is known by its addresses. */
function findFile(libc: Libc, { localAddr, remoteAddr }: Deno.Conn): number | undefined {
  if (!("port" in localAddr) || !("port" in remoteAddr)) return undefined;
  const address = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  const length = new Uint32Array(1);
  const portBy = (ask: Libc["getsockname"], file: number): number | undefined => {
    length[0] = ADDRESS_BYTES;
    if (ask(file, address, length) !== 0) return undefined; // no socket, or not connected
    const family = address.getUint16(0, true);
    return family === AF_INET || family === AF_INET6 ? address.getUint16(2) : undefined;
  };
  const files: number[] = [];
  for (let file = 0; file < MAX_FILES; file++) {
    if (portBy(libc.getsockname, file) !== localAddr.port) continue;
    if (portBy(libc.getpeername, file) === remoteAddr.port) files.push(file);
  }
  // Connections to two hosts may have the same ports at both ends.
  return files.length === 1 ? files[0] : undefined;
}
