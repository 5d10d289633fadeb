/** The `telegram` sink with the simulated Bot API: what the conformance kit does not ask for. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import telegram from "../../plugins/telegram/mod.ts";
import { type Clip, type Sink, sinkErrorKind } from "../../mod.ts";
import { startTelegramBotApi, type TelegramBotApi } from "../../simulators/mod.ts";
import { PATIENCE_MS } from "../support/until.ts";

const TOKEN = "7700112233:AAtestTelegramTokenThatIsNone_-012345";

function clip(sizeBytes: number, more: Partial<Clip> = {}): Clip {
  const bytes = new Uint8Array(sizeBytes).fill(7);
  return {
    key: "yard/2026/08/21/20260821T140500Z.mp4",
    camera: "Yard",
    start: new Date("2026-08-21T14:05:00Z"),
    end: new Date("2026-08-21T14:10:00Z"),
    bytes: sizeBytes,
    sha256: createHash("sha256").update(bytes).digest("hex"),
    contentType: "video/mp4",
    open: () => new Blob([bytes]).stream() as ReadableStream<Uint8Array<ArrayBuffer>>,
    ...more,
  };
}

const options = () => ({
  signal: AbortSignal.timeout(PATIENCE_MS),
  attempt: 1,
  progress: () => {},
});

async function world(
  run: (world: {
    readonly api: TelegramBotApi;
    readonly open: (config?: Record<string, unknown>) => Promise<Sink>;
  }) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "camsink-telegram-"));
  try {
    await writeFile(join(folder, "token"), `${TOKEN}\n`);
    await using api = await startTelegramBotApi({
      token: TOKEN,
      chats: [
        { id: 42, type: "private" },
        { id: -1001234567890, type: "supergroup", title: "Clips", threads: [7] },
        { id: -1002, type: "channel", username: "my_clips" },
        { id: -3, type: "group", refuses: "kicked" },
        { id: -4, type: "group", refuses: "no-rights" },
        { id: -5, type: "group", refuses: { movedTo: -1005 } },
      ],
    });
    const log = () => {};
    await run({
      api,
      open: async (config = {}) => {
        const result = await telegram.config["~standard"].validate({
          token: `file:${join(folder, "token")}`,
          chatId: "42",
          apiUrl: api.url,
          ...config,
        }) as { value?: never; issues?: unknown };
        assert.equal(result.issues, undefined, JSON.stringify(result.issues));
        return await telegram.open({
          name: "phone",
          config: result.value as never,
          log: { debug: log, info: log, warn: log, error: log },
          fetch,
        });
      },
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function failure(put: Promise<unknown> | undefined): Promise<Error> {
  const error = await (put ?? Promise.resolve()).then(
    () => assert.fail("expected it to fail"),
    (error) => error,
  );
  assert.ok(!Deno.inspect(error, { showHidden: true, depth: 9 }).includes(TOKEN.slice(11)));
  return error;
}

Deno.test("a clip comes as a video that plays at once, with a caption", () =>
  world(async ({ api, open }) => {
    const sink = await open({ chatId: "-1001234567890", threadId: 7, silent: true });
    const { url } = await sink.put(clip(3_000_000), options());
    assert.equal(url, "https://t.me/c/1234567890/1");
    const [message] = api.messages;
    assert.equal(
      message?.text,
      "Yard\n2026-08-21 14:05:00 UTC · 5m · 3.0 MB\nyard/2026/08/21/20260821T140500Z.mp4",
    );
    assert.equal(message?.threadId, 7);
    assert.equal(message?.silent, true);
    const { parts: _, ...video } = message?.video ?? {};
    assert.deepEqual(video, {
      fileName: "20260821T140500Z.mp4",
      contentType: "video/mp4",
      bytes: 3_000_000,
      durationS: 300,
      supportsStreaming: true,
    });
    const channel = await open({ chatId: "@my_clips" });
    assert.equal((await channel.put(clip(10), options())).url, "https://t.me/my_clips/2");
  }));

Deno.test("a camera's name of any length stays within a caption", () =>
  world(async ({ api, open }) => {
    const sink = await open();
    await sink.put(
      clip(10, { camera: "😀".repeat(2000), key: `${"k".repeat(2000)}/a.mp4` }),
      options(),
    );
    assert.ok((api.messages[0]?.text.length ?? 0) <= 1024);
  }));

Deno.test("a clip over the limit is told of, passed over, or put aside, as configured", () =>
  world(async ({ api, open }) => {
    const large = clip(50_000_001, { open: () => assert.fail("its bytes are not wanted") });
    const told = await open({ clipsUrl: "https://nas.local/clips/" });
    assert.equal((await told.put(large, options())).state, "stored");
    assert.match(
      api.messages[0]?.text ?? "",
      /Too large to send: 50\.0 MB; a bot may send 50\.0 MB\.\nhttps:\/\/nas\.local\/clips\/yard\//,
    );
    const skips = await open({ tooLarge: "skip" });
    assert.equal((await skips.put(large, options())).state, "stored");
    assert.equal(api.messages.length, 1);
    const refuses = await open({ tooLarge: "refuse" });
    assert.equal(sinkErrorKind(await failure(refuses.put(large, options()))), "permanent");
    // A server that takes less than was configured.
    const wrong = await open({ maxSize: "60MB" });
    const error = await failure(wrong.put(clip(50_000_001), options()));
    assert.equal(sinkErrorKind(error), "permanent");
    assert.match(error.message, /too large for this server: lower "maxSize"/);
  }));

Deno.test("429 waits as long as Telegram says", () =>
  world(async ({ api, open }) => {
    const sink = await open();
    api.flood(33);
    const error = await failure(sink.put(clip(10), options()));
    assert.equal(sinkErrorKind(error), "retry");
    assert.equal("retryAfterMs" in error && error.retryAfterMs, 33_000);
    api.flood(undefined);
    assert.equal((await sink.put(clip(10), options())).state, "stored");
  }));

Deno.test("what the owner must mend parks the sink and names the option", () =>
  world(async ({ open }) => {
    const cases = [
      [{ chatId: "99" }, /finds no such chat: correct "chatId"/],
      [{ chatId: "-3" }, /may not write to the chat.*kicked from the group/],
      [{ chatId: "-4" }, /lacks the right to send videos/],
      [{ chatId: "-5" }, /set "chatId" to "-1005"/],
      [{ chatId: "-1001234567890", threadId: 8 }, /no such topic: correct "threadId"/],
    ] as const;
    for (const [config, message] of cases) {
      const error = await failure((await open(config)).put(clip(10), options()));
      assert.equal(sinkErrorKind(error), "auth", error.message);
      assert.match(error.message, message);
    }
    const error = await failure((await open({ chatId: "99" })).check?.(options()));
    assert.match(error.message, /finds no such chat/);
    await (await open()).check?.(options());
  }));

Deno.test("a token that is none is refused before any request is made", () =>
  world(async ({ api, open }) => {
    const folder = await mkdtemp(join(tmpdir(), "camsink-token-"));
    try {
      await writeFile(join(folder, "token"), "../../x?y");
      const sink = await open({ token: `file:${join(folder, "token")}` });
      const error = await failure(sink.put(clip(10), options()));
      assert.equal(sinkErrorKind(error), "auth");
      assert.deepEqual(api.calls, []);
      await writeFile(join(folder, "token"), "7700112233:another");
      assert.match(
        (await failure(sink.put(clip(10), options()))).message,
        /does not know this "token"/,
      );
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }));

Deno.test("the token is not said, whatever server answers and whatever it repeats", () =>
  world(async ({ open }) => {
    // Repeats the URL with the token in every way a server can.
    const echo = createServer((request, response) => {
      request.resume();
      const url = request.url ?? "";
      const status = Number(statuses.shift() ?? 500);
      response.writeHead(status, { location: `http://127.0.0.1:1${url}` });
      response.end(JSON.stringify({ ok: false, error_code: status, description: `no ${url}` }));
    });
    const statuses = [400, 400, 401, 403, 404, 409, 429, 500, 200, 302];
    await new Promise<void>((done) => echo.listen(0, "127.0.0.1", done));
    const address = echo.address();
    const port = typeof address === "object" && address ? address.port : 0;
    try {
      const sink = await open({ apiUrl: `http://127.0.0.1:${port}/prefix/` });
      for (let turns = statuses.length; turns > 0; turns--) {
        await failure(sink.put(clip(10), options())); // looks for the token
      }
    } finally {
      echo.closeAllConnections();
      await new Promise((done) => echo.close(done));
    }
    await failure((await open({ apiUrl: `http://127.0.0.1:${port}` })).put(clip(10), options()));
  }));

Deno.test("the simulator reads what another client writes: a form of fetch, JSON, a query", () =>
  world(async ({ api }) => {
    const bot = `${api.url}/bot${TOKEN}`;
    const form = new FormData();
    const bytes = crypto.getRandomValues(new Uint8Array(60_000));
    form.set("video", new Blob([bytes], { type: "video/mp4" }), "a.mp4");
    form.set("chat_id", "42"); // behind the file
    const sent = await (await fetch(`${bot}/sendVideo`, { method: "POST", body: form })).json();
    assert.equal(sent.result.video.file_size, bytes.length);
    assert.deepEqual(
      new Uint8Array(await new Blob([...api.messages[0]?.video?.parts ?? []]).arrayBuffer()),
      bytes,
    );
    const text = await fetch(`${bot}/sendMessage`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ chat_id: 42, text: "hello" }),
    });
    assert.equal((await text.json()).result.text, "hello");
    assert.equal((await (await fetch(`${bot}/getMe`)).json()).result.is_bot, true);
    assert.equal((await (await fetch(`${bot}/getChat?chat_id=42`)).json()).result.type, "private");
    const wrong = await fetch(`${api.url}/bot1:wrong/getMe`);
    assert.deepEqual([wrong.status, (await wrong.json()).description], [401, "Unauthorized"]);
  }));
