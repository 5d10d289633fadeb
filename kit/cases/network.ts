/**
 * Cases about what servers and networks answer: each has a kind, and delivery does the waiting.
 *
 * @module
 */
import { createServer } from "node:http";
import { sinkErrorKind } from "../../core/types.ts";
import { type Bench, brief, type Outcome, refusedHost } from "../bench.ts";
import { type TestClip, testClip } from "../clips.ts";
import type { SinkTestAnswer } from "../contract.ts";
import { fail, type KitCase, needsHttp, needsNetwork, notApplicable } from "./case.ts";

const BUSY: SinkTestAnswer = { status: 429, headers: { "retry-after": "7" } };
const ERROR: SinkTestAnswer = { status: 500, body: "out of order" };

/** Puts a clip of which one bit is changed on the way, or of the event that tells of it. */
async function putDamaged(bench: Bench, clip: TestClip): Promise<Outcome> {
  needsNetwork(bench);
  const { http, tcp } = bench;
  const isEvent = bench.server.carries === "events";
  const at = isEvent ? 100 : clip.bytes / 2;
  let isDone = false;
  tcp?.fail({ kind: "damage", at: isEvent ? clip.sha256 : at });
  if (http) {
    http.decide = ({ announcedBytes, headers }) => {
      const bytes = announcedBytes ?? ("transfer-encoding" in headers ? Infinity : 0);
      if (isDone || bytes <= at) return undefined;
      isDone = true;
      return { kind: "damage", at };
    };
  }
  const outcome = await bench.put(clip);
  isDone ||= tcp?.hasDamaged === true;
  bench.heal();
  if (!isDone) fail(`nothing that put sent had more than ${at} bytes, so none could be damaged`);
  return outcome;
}

/** Lets every request meet this answer for one put that must fail. */
async function putAgainst(bench: Bench, answer: SinkTestAnswer): Promise<unknown> {
  needsHttp(bench);
  await bench.mustPut(testClip(10)); // so that whatever is made once is there
  bench.fail({ kind: "answer", ...answer });
  const error = await bench.mustFail(testClip(1000), "retry");
  bench.heal();
  return error;
}

function expectWait(error: unknown, fromMs: number, toMs: number): void {
  const waits = error instanceof Error && "retryAfterMs" in error ? error.retryAfterMs : undefined;
  if (typeof waits === "number" && waits >= fromMs && waits <= toMs) return;
  fail(
    `the server asked to wait ${Math.round(toMs / 1000)} s, and the error has retryAfterMs ` +
      `${waits}; expected ${fromMs === toMs ? toMs : `${fromMs} to ${toMs}`}`,
  );
}

const RETRY_AFTER = {
  why: "a server that is asked too often says how long to wait; asking earlier gets the account " +
    "blocked. Delivery waits, if it is told.",
  fix: 'read the header "Retry-After" (seconds or a date) of 429 and 503 and pass it on: ' +
    'new SinkError("retry", …, { retryAfterMs })',
};

/** In the order in which they run. */
export const networkCases: readonly KitCase[] = [
  {
    id: "retry-after",
    title: "the time to wait that a busy server asks for is passed on as retryAfterMs",
    ...RETRY_AFTER,
    run: async (bench) => {
      expectWait(await putAgainst(bench, bench.server.answers?.busy ?? BUSY), 7000, 7000);
    },
  },
  {
    id: "retry-after-date",
    title: "Retry-After may be a date",
    ...RETRY_AFTER,
    run: async (bench) => {
      needsHttp(bench);
      if (bench.server.answers?.busy !== undefined) return;
      const date = new Date(Date.now() + 3_600_000).toUTCString();
      const error = await putAgainst(bench, { status: 503, headers: { "retry-after": date } });
      expectWait(error, 3_000_000, 3_600_000); // the machine may be slow
    },
  },
  {
    id: "server-error",
    title: "an answer 500 is tried again",
    why:
      "a server's mishap passes. A clip that is put aside for it (permanent) or a sink that is " +
      "parked for it (auth) waits for a person.",
    fix: 'throw new SinkError("retry", …) for every status of 500 and above',
    run: async (bench) => {
      await putAgainst(bench, bench.server.answers?.error ?? ERROR);
    },
  },
  {
    id: "no-retries",
    title: "the sink does not try again by itself",
    why: "retries in two places multiply: a client's five times delivery's ten is fifty, and " +
      "nobody's waiting time is kept.",
    fix: "switch the client library's retries off, and throw at the first failure",
    run: async (bench) => {
      needsNetwork(bench);
      await bench.mustPut(testClip(10));
      if (bench.tcp) {
        const before = bench.tcp.connections.length;
        bench.tcp.fail({ kind: "refuse" });
        await bench.mustFail(testClip(1000), "retry");
        bench.heal();
        const tries = bench.tcp.connections.length - before;
        if (tries > 1) fail(`one put connected ${tries} times to a server that refused it`);
        return;
      }
      const http = needsHttp(bench);
      for (const answer of [bench.server.answers?.error ?? ERROR, { status: 503 }]) {
        const from = http.requests.length;
        bench.fail({ kind: "answer", ...answer });
        await bench.mustFail(testClip(1000), "retry");
        bench.heal();
        const counts = new Map<string, number>();
        for (const { method, path, query } of http.requests.slice(from)) {
          const id = `${method} ${path}?${query}`;
          counts.set(id, (counts.get(id) ?? 0) + 1);
        }
        for (const [id, times] of counts) {
          if (times > 1) {
            const plain = id.replace(/\?.*$/s, "");
            fail(
              `one put sent ${plain} ${times} times to a server that answered ` +
                `${answer.status}; expected once`,
            );
          }
        }
      }
    },
  },
  {
    id: "connection-refused",
    title: "a server that is not there is tried again",
    why: "servers restart and cables are pulled. That is no reason to ask the owner for anything.",
    fix: 'throw "retry" when no connection comes about, with the host in the message',
    run: async (bench) => {
      needsNetwork(bench);
      const url = new URL(bench.url);
      url.port = String(await freePort());
      await expectRetry(bench, url.href, "a port where nothing listens");
    },
  },
  {
    id: "dns-failure",
    title: "a host name that is not found is tried again, and the message names the host",
    why:
      "at home the name server goes with the line. A sink that gives up for it stays parked after " +
      "the line is back.",
    fix:
      'throw "retry" with the host in the message; do the first request in put, not in open, or ' +
      'throw "retry" there too',
    run: async (bench) => {
      needsNetwork(bench);
      const url = new URL(bench.url);
      url.hostname = "camsink-kit.invalid";
      const error = await expectRetry(bench, url.href, "a host that does not exist");
      if (!Deno.inspect(error).includes("camsink-kit.invalid")) {
        fail(`the error does not name the host: ${brief(error)}`);
      }
    },
  },
  {
    id: "declared-hosts",
    title: "the sink goes to the hosts that net() names, and to no other",
    why:
      "the owner grants exactly these hosts. Anything else is refused at run time, and looks like " +
      "a plugin that sends clips elsewhere.",
    fix: 'return every host from net(config), as "host" or "host:port"; leave telemetry out',
    run: async (bench) => {
      const { hosts, undeclared } = await bench.opened();
      if (bench.url !== "") {
        const { host, hostname } = new URL(bench.url);
        if (![host, hostname, "*"].some((name) => hosts.includes(name))) {
          fail(`net() names ${hosts.join(", ") || "no host"}; the sink's server is ${host}`);
        }
      }
      const [other] = [...undeclared, ...bench.undeclared];
      if (other !== undefined) fail(`the sink tried to reach ${other}, which net() does not name`);
    },
  },
  {
    id: "redirect-elsewhere",
    title: "a redirect to another host is not followed there",
    why: "whoever answers for the server could otherwise have clips and credentials sent anywhere.",
    fix:
      'use context.fetch, which goes to declared hosts only, or set redirect: "manual" and throw',
    run: async (bench) => {
      const http = needsHttp(bench);
      await bench.mustPut(testClip(10));
      let reached = 0;
      const elsewhere = createServer((_, response) => {
        reached++;
        response.writeHead(200).end();
      });
      const port = await new Promise<number>((resolve) =>
        elsewhere.listen(0, "127.0.0.1", () => {
          const address = elsewhere.address();
          resolve(typeof address === "object" && address !== null ? address.port : 0);
        })
      );
      try {
        for (const status of [302, 307]) {
          http.decide = () => ({
            kind: "answer",
            status,
            headers: { location: `http://127.0.0.1:${port}/elsewhere` },
          });
          const { result, error } = await bench.put(testClip(1000));
          bench.heal();
          // In a process of its own it cannot get there; what the SDK's fetch says is another thing.
          if (reached > 0 || refusedHost(error) !== undefined) {
            fail(`a redirect (${status}) to a host that net() does not name was followed`);
          }
          if (result !== undefined) {
            fail(`put said "${result.state}" of an answer ${status}; expected it to fail`);
          }
        }
      } finally {
        bench.heal();
        elsewhere.closeAllConnections();
        await new Promise<void>((done) => elsewhere.close(() => done()));
      }
    },
  },
  {
    id: "damaged-on-the-way",
    title: "a byte that is damaged on the way does not go unnoticed",
    why: "TCP's own checksum lets one damage in some billions of packets pass, and proxies and " +
      "routers make their own.",
    fix: "send a checksum that the store verifies, or read back what it computed",
    run: async (bench) => {
      if (bench.server.store?.hasChecksums === false) {
        notApplicable("the store has no checksums: see no-checksums");
      }
      await bench.mustPut(testClip(10)); // so that whatever is made once is there
      const before = await bench.names();
      const clip = testClip(100_000);
      const { result, error } = await putDamaged(bench, clip);
      if (result !== undefined) return await bench.expectOnly(before, clip);
      if (sinkErrorKind(error) !== "retry") {
        fail(
          `damage on the way failed with the kind "${sinkErrorKind(error)}" (${brief(error)}); ` +
            'expected "retry", for the local clip is good',
        );
      }
      await bench.mustPutAgain(clip);
      await bench.expectOnly(before, clip);
    },
  },
  {
    id: "no-checksums",
    title: "where the store cannot tell damage, the sink takes no unguarded way to it",
    why:
      "without a checksum only encryption notices a damaged byte: what came unencrypted may be " +
      "another clip, and nobody knows.",
    fix:
      "let the schema refuse unencrypted addresses outside the user's own network (isPublicHost " +
      "of the SDK), or take hasChecksums: false out of the test if the store does notice",
    run: async (bench) => {
      if (bench.server.store?.hasChecksums !== false) notApplicable("the store has checksums");
      await bench.mustPut(testClip(10)); // so that whatever is made once is there
      const before = await bench.names();
      const clip = testClip(100_000);
      const { error } = await putDamaged(bench, clip);
      const added = await bench.added(before);
      if (error !== undefined || added?.some((object) => bench.isOf(object, clip))) {
        fail("the damage was noticed: this test need not say hasChecksums: false");
      }
      const url = new URL(bench.url);
      url.host = "clips.example.com";
      if (bench.http) url.protocol = "http:";
      if ((await bench.host.validate(bench.config(url.href))).length === 0) {
        fail(
          `the address ${url.href} was taken; expected it to be refused, for it is not encrypted`,
        );
      }
    },
  },
];

async function expectRetry(bench: Bench, url: string, what: string): Promise<unknown> {
  let sink;
  try {
    sink = (await bench.open(url)).sink;
  } catch (error) {
    bench.said.push(Deno.inspect(error, { depth: 12 }));
    if (sinkErrorKind(error) === "retry") return error;
    fail(
      `open failed for ${what} with the kind "${sinkErrorKind(error)}" (${brief(error)}); ` +
        'expected "retry"',
    );
  }
  return await bench.mustFail(testClip(1000), "retry", { on: sink });
}

/** A port that nothing listens on, a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    })
  );
  await new Promise<void>((done) => server.close(() => done()));
  return port;
}
