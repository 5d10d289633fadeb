/**
 * Unary calls of gRPC over HTTP/2 (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md),
 * each on a connection of its own: there are two a minute at most.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { connect } from "node:http2";
import { type Clock, sourceError } from "../../types.ts";
import { describeUrl } from "../hosts.ts";
import { passingError } from "../http.ts";

const TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 16 * 2 ** 20;

/** Codes of https://grpc.io/docs/guides/status-codes/ that a login is to blame for. */
const AUTH_CODES = new Set([7, 16]);

/**
 * One message there and one back, at `path` below the service's address.
 *
 * @throws a source error; of the kind `auth` where the token is refused
 */
export async function unaryCall(
  path: string,
  { endpoint, message, token, clock, signal, ca }: {
    readonly endpoint: URL;
    readonly message: Uint8Array;
    readonly token: string;
    readonly clock: Clock;
    readonly signal: AbortSignal;
    readonly ca?: string | undefined;
  },
): Promise<Uint8Array> {
  signal.throwIfAborted();
  const url = new URL(endpoint.pathname.replace(/\/$/, "") + path, endpoint);
  const what = `gRPC ${describeUrl(url)}`;
  const session = connect(url.origin, ca === undefined ? {} : { ca });
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  const timer = new AbortController();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  clock.sleep(TIMEOUT_MS, { signal: timer.signal }).then(
    () => reject(passingError("offline", `${what}: no answer within ${TIMEOUT_MS / 1000} s`)),
    () => {}, // answered in time
  );
  const broken = (error: Error) => reject(passingError("offline", `${what}: ${error.message}`));
  session.on("error", broken);
  try {
    const request = session.request({
      ":method": "POST",
      ":path": url.pathname,
      "authorization": `Bearer ${token}`,
      "content-type": "application/grpc",
      "te": "trailers",
    });
    let httpStatus = 0;
    let status: string | undefined;
    let reason = "";
    const note = (headers: Readonly<Record<string, unknown>>) => {
      if (headers["grpc-status"] === undefined) return;
      status = String(headers["grpc-status"]);
      reason = String(headers["grpc-message"] ?? "").slice(0, 200);
    };
    const chunks: Uint8Array[] = [];
    let length = 0;
    request.on("response", (headers) => {
      httpStatus = Number(headers[":status"]);
      note(headers);
    });
    request.on("trailers", note);
    request.on("data", (chunk: Uint8Array) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length > MAX_ANSWER_BYTES) {
        reject(
          passingError("protocol", `${what}: the answer is longer than ${MAX_ANSWER_BYTES} bytes`),
        );
      }
    });
    request.on("error", broken);
    request.on("close", () => {
      if (httpStatus === 401 || httpStatus === 403 || AUTH_CODES.has(Number(status))) {
        reject(sourceError("auth", `${what}: the token is refused (${reason || httpStatus})`));
      } else if (httpStatus !== 200 || (status !== undefined && status !== "0")) {
        reject(
          passingError("offline", `${what}: HTTP ${httpStatus}, gRPC status ${status}: ${reason}`),
        );
      } else resolve(Buffer.concat(chunks));
    });
    request.end(framed(message));
    return unframed(await promise, what);
  } finally {
    signal.removeEventListener("abort", onAbort);
    timer.abort();
    session.destroy();
  }
}

/** Compressed flag (1) · length (4) · message. */
function framed(message: Uint8Array): Uint8Array {
  const frame = new Uint8Array(5 + message.length);
  new DataView(frame.buffer).setUint32(1, message.length);
  frame.set(message, 5);
  return frame;
}

/** The message of an answer. @throws a source error of the kind `protocol` */
export function unframed(answer: Uint8Array, what: string): Uint8Array {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.byteLength);
  if (answer.length < 5 || answer[0] !== 0 || view.getUint32(1) !== answer.length - 5) {
    throw passingError(
      "protocol",
      `${what}: expected one uncompressed gRPC message, got ${answer.length} bytes of another form`,
    );
  }
  return answer.subarray(5);
}
