/** The gRPC client of Google Home: calls over TLS as to Google's servers, and what its refusals are. */
import assert from "node:assert/strict";
import { unaryCall } from "../../core/sources/google_home/grpc.ts";
import { type SourceErrorKind, sourceErrorKind } from "../../core/types.ts";
import { createLoopbackCertificate } from "../../simulators/certificate.ts";
import { type GrpcReply, startGrpcServer } from "../../simulators/grpc_server.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { errorOf } from "./world.ts";

const PATH = "/google.internal.home.foyer.v1.CameraService/JoinStream";
const { signal } = new AbortController();

/** A server that gives this answer, and a call to it. */
async function createWorld(reply: GrpcReply, options: { readonly tls: boolean }) {
  const tls = createLoopbackCertificate();
  const asked: { path: string; token: string; message: number[] }[] = [];
  const server = await startGrpcServer({
    ...(options.tls ? { tls } : {}),
    answer(path, token, message) {
      asked.push({ path, token, message: [...message] });
      return Promise.resolve(reply);
    },
  });
  return {
    asked,
    call: ({ ca, message = Uint8Array.of(1, 2, 3) }: { ca?: string; message?: Uint8Array } = {}) =>
      unaryCall(PATH, {
        ...{ endpoint: new URL(server.url), message, token: "a-token", clock: createFakeClock() },
        ...{ signal, ca },
      }),
    caPem: tls.caPem,
    [Symbol.asyncDispose]: () => server.close(),
  };
}

Deno.test("a call goes over TLS to a server with a certificate that is trusted, and to no other", async () => {
  const body = new Uint8Array(40_000).fill(7);
  await using world = await createWorld({ status: 0, body }, { tls: true });
  assert.deepEqual([...await world.call({ ca: world.caPem })], [...body]);
  assert.deepEqual(world.asked, [
    { path: PATH, token: "a-token", message: [1, 2, 3] },
  ]);
  const error = await errorOf(world.call());
  assert.equal(sourceErrorKind(error), "offline");
  assert.match(error.message, /certificate|UnknownIssuer/i);
  assert.equal(world.asked.length, 1, "nothing was sent");
});

for (
  const [status, kind] of [
    [16, "auth"],
    [7, "auth"],
    [5, "offline"],
    [14, "offline"],
    [9, "offline"],
  ] as const satisfies readonly (readonly [number, SourceErrorKind])[]
) {
  Deno.test(`gRPC status ${status} is an error of the kind ${kind}, with the server's words`, async () => {
    const message = "The camera says no.";
    for (const body of [undefined, new Uint8Array(3)]) {
      await using world = await createWorld({ status, message, ...(body ? { body } : {}) }, {
        tls: false,
      });
      const error = await errorOf(world.call());
      assert.equal(sourceErrorKind(error), kind);
      assert.match(error.message, /The camera says no\./);
    }
  });
}
