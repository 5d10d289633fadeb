/** The simulators' gRPC server: calls, and clients that end in every way. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type ClientHttp2Session, connect } from "node:http2";
import { startGrpcServer } from "../../simulators/grpc_server.ts";

/** One call with a body of some bytes; gives the status and the length of the answer. */
async function call(session: ClientHttp2Session, bytes: number) {
  const request = session.request({ ":method": "POST", ":path": "/echo", "te": "trailers" });
  let status = "";
  let length = 0;
  request.on("trailers", (trailers) => status = String(trailers["grpc-status"]));
  request.on("data", (data: Uint8Array) => length += data.length);
  const closed = new Promise((resolve) => request.on("close", resolve));
  const body = Buffer.alloc(5 + bytes);
  body.writeUInt32BE(bytes, 1);
  request.end(body);
  await closed;
  return { status, length };
}

const ENDINGS: Readonly<Record<string, (session: ClientHttp2Session) => unknown>> = {
  "close at once": (session) => session.close(),
  "are destroyed at once": (session) => session.destroy(),
  "close once the server has seen all": (session) =>
    new Promise((resolve) => session.ping(resolve)).then(() => session.close()),
};

for (const [ending, end] of Object.entries(ENDINGS)) {
  Deno.test(`the server outlives clients that ${ending}, and answers each`, async () => {
    const server = await startGrpcServer({
      answer: (_path, _token, body) => Promise.resolve({ status: 0, body }),
    });
    for (let client = 0; client < 30; client++) {
      const session = connect(server.url);
      session.on("error", () => {});
      const gone = new Promise((resolve) => session.on("close", resolve));
      // Up to several frames of 16 KiB.
      const bytes = client * 2000;
      assert.deepEqual(await call(session, bytes), { status: "0", length: 5 + bytes });
      await end(session);
      await gone;
    }
    await server.close();
  });
}
