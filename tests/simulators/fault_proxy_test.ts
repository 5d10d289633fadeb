import assert from "node:assert/strict";
import { createServer } from "node:net";
import { once } from "node:events";
import { httpSend } from "../../core/authoring.ts";
import { startFaultProxy } from "../../simulators/fault_proxy.ts";

Deno.test("an answer that comes before the body was taken reaches the client", async () => {
  // Takes the head and no more, as rclone's WebDAV does where another request holds the file.
  const sockets = new Set<{ destroy(): void }>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {}); // the client does not wait to be read
    socket.once("data", () => {
      socket.pause();
      socket.write("HTTP/1.1 423 Locked\r\ncontent-length: 0\r\n\r\n");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  await using proxy = await startFaultProxy({ target: `http://127.0.0.1:${port}` });
  const piece = new Uint8Array(64 * 1024);
  const bytes = 32 * 2 ** 20;
  const { status } = await httpSend({
    method: "PUT",
    url: `${proxy.url}/clip`,
    body: { bytes, data: Array.from({ length: bytes / piece.length }, () => piece) },
    signal: AbortSignal.timeout(60_000),
  });
  assert.equal(status, 423);
  assert.equal(proxy.requests[0]?.status, 423);
  for (const socket of sockets) socket.destroy();
  server.close();
});
