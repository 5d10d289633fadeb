/**
 * The sink that sends each clip as a video to a Telegram chat, by a bot.
 *
 * The Bot API has its token in the URL of every request (https://core.telegram.org/bots/api). So no
 * URL is ever said, and the server's words are told only after the token was taken out. A chat cannot
 * be asked what it holds: a clip whose answer got lost is sent again.
 *
 * @module
 */
import * as v from "valibot";
import {
  type Clip,
  defineSink,
  encodeKey,
  formatBytes,
  formatDuration,
  type HttpAnswer,
  httpSend,
  httpSinkError,
  httpUrl,
  isPublicHost,
  keyParts,
  provenBytes,
  type PutOptions,
  type PutResult,
  type Secret,
  secret,
  type Sink,
  SinkError,
  type SinkPlugin,
  size,
} from "camsink";

/** Options of the `telegram` sink. */
export interface TelegramOptions {
  /** The bot's token, from BotFather. */
  readonly token: Secret;
  /** The chat's number, or `@name` of a public one. */
  readonly chatId: string;
  /** A topic of a group with topics. */
  readonly threadId?: number;
  /** Without a sound on the phone. */
  readonly silent: boolean;
  /** What happens with clips that are larger than `maxSize`. */
  readonly tooLarge: "message" | "skip" | "refuse";
  /** What the Bot API takes, bytes. */
  readonly maxSize: number;
  /** Where the clips can be found: put in front of the key, in messages about large clips. */
  readonly clipsUrl?: string;
  /** The Bot API server. */
  readonly apiUrl: string;
}

const CHAT = 'expected the chat\'s number, such as "-1001234567890", or "@name" of a public one';

const schema = v.pipe(
  v.strictObject({
    token: v.pipe(secret(), v.description("The bot's token, from BotFather.")),
    chatId: v.pipe(
      v.string(CHAT),
      v.regex(/^(-?\d{1,19}|@[A-Za-z]\w{3,31})$/, CHAT),
      v.description("The chat's number, such as `-1001234567890`, or `@name` of a public one."),
    ),
    threadId: v.optional(v.pipe(
      v.number("expected a topic's number"),
      v.integer("expected a topic's number"),
      v.minValue(1, "expected a topic's number"),
      v.description("In a group with topics, the topic's number."),
    )),
    silent: v.optional(
      v.pipe(v.boolean("expected true or false"), v.description("Makes no sound on the phone.")),
      false,
    ),
    tooLarge: v.optional(
      v.pipe(
        v.picklist(["message", "skip", "refuse"], 'expected "message", "skip" or "refuse"'),
        v.description(
          "Clips over `maxSize`: `message` tells of them in words, `skip` passes over them, " +
            "`refuse` puts them aside on this machine.",
        ),
      ),
      "message",
    ),
    maxSize: v.optional(
      v.pipe(
        size(),
        v.check((bytes) => bytes >= 1 && bytes <= 2_000_000_000, 'expected at most "2GB"'),
        v.description("What the Bot API takes: 50 MB, or 2 GB on a server of your own."),
      ),
      "50MB",
    ),
    clipsUrl: v.optional(v.pipe(
      httpUrl(),
      v.description("Where another sink's clips are to be found: stands in front of the key."),
    )),
    apiUrl: v.optional(
      v.pipe(
        httpUrl(),
        // The token stands in the URL, and the Bot API has no checksums.
        v.check(
          (url) => !url.startsWith("http:") || !isPublicHost(new URL(url)),
          "expected https:// for a server outside your own network: the token stands in the URL",
        ),
        v.description("The Bot API server; one of your own takes 2 GB."),
      ),
      "https://api.telegram.org",
    ),
  }),
  v.description("A Telegram chat that is sent each clip as a video."),
);

/** The `telegram` sink. */
const telegram: SinkPlugin<TelegramOptions> = defineSink<TelegramOptions>({
  name: "telegram",
  config: schema,
  net: ({ apiUrl }) => [new URL(apiUrl).host],
  open: ({ config }): Sink => ({
    put: (clip, options) => put(config, clip, options),
    check: ({ signal }) => check(config, signal),
  }),
});
export default telegram;

/** Letters that the Bot API allows in a caption, UTF-16. */
const CAPTION_LETTERS = 1024;

async function put(
  config: TelegramOptions,
  clip: Clip,
  options: PutOptions,
): Promise<PutResult> {
  const { signal } = options;
  signal.throwIfAborted();
  const name = keyParts(clip.key).at(-1) ?? "";
  const what = `cannot send ${clip.key}`;
  if (clip.bytes <= config.maxSize) {
    const sent = await call(config, "sendVideo", {
      what,
      signal,
      fields: {
        ...place(config),
        caption: caption(clip),
        duration: String(
          Math.max(1, Math.round((clip.end.getTime() - clip.start.getTime()) / 1000)),
        ),
        supports_streaming: "true",
      },
      video: { clip, name, options },
    });
    return { state: "stored", ...linkOf(sent) };
  }
  const size = `${formatBytes(clip.bytes)}; a bot may send ${formatBytes(config.maxSize)}`;
  if (config.tooLarge === "refuse") {
    throw new SinkError("permanent", `${what}: it has ${size}`);
  }
  let link = {};
  if (config.tooLarge === "message") {
    const url = config.clipsUrl &&
      `\n${config.clipsUrl.replace(/\/+$/, "")}/${encodeKey(clip.key)}`;
    link = linkOf(
      await call(config, "sendMessage", {
        what,
        signal,
        fields: {
          ...place(config),
          text: `${caption(clip)}\nToo large to send: ${size}.${url ?? ""}`,
        },
      }),
    );
  }
  options.progress(clip.bytes);
  return { state: "stored", ...link };
}

/** Whether the token is a bot's, and whether the bot sees the chat. */
async function check(config: TelegramOptions, signal: AbortSignal): Promise<void> {
  const what = `cannot send to the chat ${config.chatId}`;
  await call(config, "getMe", { what, signal, fields: {} });
  await call(config, "getChat", { what, signal, fields: { chat_id: config.chatId } });
}

function place({ chatId, threadId, silent }: TelegramOptions): Record<string, string> {
  return {
    chat_id: chatId,
    ...(threadId === undefined ? {} : { message_thread_id: String(threadId) }),
    ...(silent ? { disable_notification: "true" } : {}),
  };
}

function caption(clip: Clip): string {
  const [day, from] = clip.start.toISOString().slice(0, 19).split("T");
  const lengthMs = clip.end.getTime() - clip.start.getTime();
  const camera = clip.camera.toWellFormed().slice(0, 200);
  const key = clip.key.toWellFormed();
  return [
    camera,
    `${day} ${from} UTC · ${formatDuration(lengthMs) || "0s"} · ${formatBytes(clip.bytes)}`,
    key,
  ].filter((line) => line.trim() !== "").join("\n").slice(0, CAPTION_LETTERS);
}

/** What the API answered to a call: the result, an object of unknown fields. */
type Result = Readonly<Record<string, unknown>>;

async function call(
  config: TelegramOptions,
  method: string,
  asked: {
    /** In front of every error. */
    readonly what: string;
    readonly signal: AbortSignal;
    readonly fields: Readonly<Record<string, string>>;
    readonly video?: { readonly clip: Clip; readonly name: string; readonly options: PutOptions };
  },
): Promise<Result> {
  const { what, fields, video, signal } = asked;
  const token = await reveal(config.token);
  const boundary = `camsink-${crypto.randomUUID()}`;
  const encoder = new TextEncoder();
  const head = encoder.encode(
    Object.entries(fields).map(([name, value]) =>
      `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`
    ).join("") + (video === undefined ? "" : `--${boundary}\r\nContent-Disposition: form-data; ` +
      `name="video"; filename="${video.name.replaceAll(/[^A-Za-z0-9._-]/g, "_")}"\r\n` +
      `Content-Type: ${video.clip.contentType}\r\n\r\n`),
  );
  const tail = encoder.encode(`${video === undefined ? "" : "\r\n"}--${boundary}--\r\n`);
  const answer = await httpSend({
    method: "POST",
    url: `${config.apiUrl.replace(/\/+$/, "")}/bot${token}/${method}`,
    headers: { "content-type": `multipart/form-data; boundary=${boundary}` },
    body: {
      bytes: head.length + (video?.clip.bytes ?? 0) + tail.length,
      data: async function* () {
        yield head;
        if (video !== undefined) yield* provenBytes(video.clip, video.options);
        yield tail;
      }(),
    },
    signal,
  });
  const { ok, result, description, parameters } = parse(answer);
  if (answer.ok && ok === true) return record(result);
  throw failure(answer, {
    what,
    parameters,
    says: typeof description === "string"
      ? description.replaceAll(token, "[token]").replaceAll(/\s+/g, " ").slice(0, 200)
      : "",
  });
}

function failure(
  answer: HttpAnswer,
  { what, says, parameters }: {
    readonly what: string;
    readonly says: string;
    readonly parameters: Result;
  },
): SinkError {
  const { status } = answer;
  const { retry_after: waitS, migrate_to_chat_id: movedTo } = parameters;
  if (status === 401 || status === 404) {
    return new SinkError(
      "auth",
      `${what}: the server does not know this "token": ask BotFather for it, and look at "apiUrl"`,
    );
  }
  if (status === 403) {
    return new SinkError(
      "auth",
      `${what}: the bot may not write to the chat: add it there, or write to it first (${says})`,
    );
  }
  if (typeof movedTo === "number") {
    return new SinkError(
      "auth",
      `${what}: the group has a new number: set "chatId" to "${movedTo}"`,
    );
  }
  if (status === 400 && /chat not found|chat_id is empty/i.test(says)) {
    return new SinkError(
      "auth",
      `${what}: Telegram finds no such chat: correct "chatId", and add the bot to the chat`,
    );
  }
  if (status === 400 && /thread not found|TOPIC_/i.test(says)) {
    return new SinkError("auth", `${what}: the chat has no such topic: correct "threadId"`);
  }
  if (status === 400 && /not enough rights|have no rights|CHAT_(ADMIN|WRITE|SEND)/i.test(says)) {
    return new SinkError("auth", `${what}: the bot lacks the right to send videos to the chat`);
  }
  if (status === 413) {
    return new SinkError("permanent", `${what}: too large for this server: lower "maxSize"`);
  }
  if (answer.ok) {
    return new SinkError("retry", `${what}: what answered is no Bot API: look at "apiUrl"`);
  }
  const error = httpSinkError(answer, what);
  const retryAfterMs = typeof waitS === "number" && waitS >= 0 ? waitS * 1000 : error.retryAfterMs;
  return new SinkError(error.sinkErrorKind, `${error.message}${says === "" ? "" : ` (${says})`}`, {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

interface BotAnswer {
  readonly ok?: unknown;
  readonly result?: unknown;
  readonly description?: unknown;
  readonly parameters: Result;
}

function parse({ text }: HttpAnswer): BotAnswer {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // not the Bot API's, such as a proxy's
  }
  const fields = record(value);
  return { ...fields, parameters: record(fields.parameters) };
}

function record(value: unknown): Result {
  return typeof value === "object" && value !== null ? value as Result : {};
}

/** A message's address, where chats have one. */
function linkOf({ message_id: message, chat }: Result): { readonly url?: string } {
  const { id, username } = record(chat);
  if (typeof message !== "number") return {};
  if (typeof username === "string" && /^\w+$/.test(username)) {
    return { url: `https://t.me/${username}/${message}` };
  }
  const [, inner] = /^-100(\d+)$/.exec(String(id)) ?? [];
  return inner === undefined ? {} : { url: `https://t.me/c/${inner}/${message}` };
}

async function reveal(secret: Secret): Promise<string> {
  let token: string;
  try {
    token = (await secret.reveal()).trim();
  } catch (error) {
    throw new SinkError("auth", error instanceof Error ? error.message : String(error));
  }
  // It becomes a part of a URL.
  if (/^\d+:[A-Za-z0-9_-]+$/.test(token)) return token;
  throw new SinkError("auth", 'the "token" is none: expected one like 123456:ABC…, from BotFather');
}
