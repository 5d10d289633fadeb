/**
 * An RTSP camera that asks for a login, refuses it, and throws it back: in its status line, in a header
 * and in its body, as it came and in base64.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** A running camera. */
export interface EchoCamera extends AsyncDisposable {
  readonly url: string;
}

/** Starts it; `onHeard` gets the logins that it was told, decoded. */
export function startEchoCamera(onHeard: (text: string) => void): EchoCamera {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const connections = new Set<Deno.Conn>();
  const serve = async (connection: Deno.Conn) => {
    connections.add(connection);
    try {
      let text = "";
      for await (const part of connection.readable.pipeThrough(new TextDecoderStream())) {
        text += part;
        for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
          const request = text.slice(0, end);
          text = text.slice(end + 4);
          await connection.write(new TextEncoder().encode(answerTo(request, onHeard)));
        }
      }
    } catch {
      // The program has gone.
    } finally {
      connections.delete(connection);
    }
  };
  const accepting = (async () => {
    for await (const connection of listener) void serve(connection);
  })();
  const { port } = listener.addr;
  return {
    url: `rtsp://127.0.0.1:${port}/live`,
    async [Symbol.asyncDispose]() {
      listener.close();
      for (const connection of connections) {
        try {
          connection.close();
        } catch {
          // It was closed from the other side.
        }
      }
      await accepting.catch(() => {});
    },
  };
}

function answerTo(request: string, onHeard: (text: string) => void): string {
  const field = (name: string) =>
    new RegExp(`^${name}: *(.*)$`, "im").exec(request)?.[1]?.trim() ?? "";
  const login = field("authorization");
  if (login === "") {
    return `RTSP/1.0 401 Unauthorized\r\nCSeq: ${field("cseq")}\r\n` +
      'WWW-Authenticate: Basic realm="shut"\r\n\r\n';
  }
  const plain = Buffer.from(login.replace(/^basic /i, ""), "base64").toString();
  onHeard(plain);
  const body = `${request}\n${plain}\n${Buffer.from(request).toString("base64")}`;
  return `RTSP/1.0 500 no ${login} ${plain}\r\nCSeq: ${field("cseq")}\r\nServer: ${plain}\r\n` +
    `Content-Type: text/plain\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}
