/**
 * Telegram's Bot API on loopback, as far as a bot that sends videos needs it: `getMe`, `getChat`,
 * `sendMessage`, `sendVideo`, with the answers and limits of https://core.telegram.org/bots/api.
 * Parameters come in the query, as a form, as JSON or as multipart, as there.
 *
 * Files of any size pass in small pieces and are kept in memory.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

/** A chat, and what the bot may do in it. */
export interface TelegramChat {
  /** Negative for groups and channels. */
  readonly id: number;
  readonly type: "private" | "group" | "supergroup" | "channel";
  readonly title?: string;
  /** Without `@`. */
  readonly username?: string;
  /** Why the bot may not post: it was thrown out, lacks the right, or the group has moved. */
  readonly refuses?: "kicked" | "no-rights" | { readonly movedTo: number };
  /** Topics of a forum, by `message_thread_id`. */
  readonly threads?: readonly number[];
}

/** A message that the bot sent. */
export interface TelegramMessage {
  readonly messageId: number;
  readonly chatId: number;
  /** Of a message, or a video's caption. */
  readonly text: string;
  readonly silent: boolean;
  readonly threadId?: number;
  readonly video?: {
    readonly fileName: string;
    readonly bytes: number;
    readonly contentType: string;
    readonly durationS?: number;
    readonly supportsStreaming: boolean;
    /** Its bytes, in order. */
    readonly parts: readonly Uint8Array<ArrayBuffer>[];
  };
}

/** A running server. */
export interface TelegramBotApi extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`, for `/bot<token>/METHOD`. */
  readonly url: string;
  /** What was sent, in order. */
  readonly messages: readonly TelegramMessage[];
  /** Methods called, in order, also those that were refused. */
  readonly calls: readonly string[];
  /** Until `undefined`, whatever is sent is answered 429 with so many seconds to wait. */
  flood(retryAfterS: number | undefined): void;
}

/** How it is set up. */
export interface TelegramBotApiOptions {
  /** As BotFather gives it: `123456:ABC…`. */
  readonly token: string;
  readonly chats: readonly TelegramChat[];
  /** 50 MB by default, as at api.telegram.org; a Bot API server of one's own takes 2000 MB. */
  readonly maxUploadBytes?: number;
}

const CAPTION_LETTERS = 1024;
const MESSAGE_LETTERS = 4096;
const MOST_FIELD_BYTES = 64 * 1024;

interface Upload {
  readonly fileName: string;
  readonly contentType: string;
  readonly parts: Uint8Array<ArrayBuffer>[];
  bytes: number;
}

interface Parameters {
  readonly fields: Map<string, string>;
  readonly files: Map<string, Upload>;
}

/** An answer of the API that is no success. */
class Refusal extends Error {
  readonly code: number;
  readonly parameters: Readonly<Record<string, number>> | undefined;

  constructor(code: number, description: string, parameters?: Readonly<Record<string, number>>) {
    super(description);
    this.code = code;
    this.parameters = parameters;
  }
}

/** Starts one. */
export async function startTelegramBotApi(options: TelegramBotApiOptions): Promise<TelegramBotApi> {
  const { token, chats, maxUploadBytes = 50_000_000 } = options;
  const messages: TelegramMessage[] = [];
  const calls: string[] = [];
  let floodS: number | undefined;

  const chatOf = ({ fields }: Parameters): TelegramChat => {
    const id = fields.get("chat_id") ?? "";
    if (id === "") throw new Refusal(400, "Bad Request: chat_id is empty");
    const chat = chats.find((one) =>
      String(one.id) === id ||
      one.username !== undefined && `@${one.username}`.toLowerCase() === id.toLowerCase()
    );
    if (chat === undefined) throw new Refusal(400, "Bad Request: chat not found");
    return chat;
  };

  const placeOf = (asked: Parameters, what: string) => {
    if (floodS !== undefined) {
      throw new Refusal(429, `Too Many Requests: retry after ${floodS}`, { retry_after: floodS });
    }
    const chat = chatOf(asked);
    const { refuses } = chat;
    if (refuses === "kicked") {
      throw new Refusal(403, `Forbidden: bot was kicked from the ${chat.type} chat`);
    }
    if (refuses === "no-rights") {
      throw new Refusal(400, `Bad Request: not enough rights to send ${what} to the chat`);
    }
    if (refuses !== undefined) {
      throw new Refusal(400, "Bad Request: group chat was upgraded to a supergroup chat", {
        migrate_to_chat_id: refuses.movedTo,
      });
    }
    const thread = asked.fields.get("message_thread_id");
    if (thread !== undefined && !chat.threads?.includes(Number(thread))) {
      throw new Refusal(400, "Bad Request: message thread not found");
    }
    return {
      chat,
      message: {
        messageId: messages.length + 1,
        chatId: chat.id,
        silent: asked.fields.get("disable_notification") === "true",
        ...(thread === undefined ? {} : { threadId: Number(thread) }),
      },
    };
  };

  const shown = ({ id, type, title, username }: TelegramChat) => ({
    id,
    type,
    ...(title === undefined ? {} : { title }),
    ...(username === undefined ? {} : { username }),
  });

  const methods: Readonly<Record<string, (asked: Parameters) => unknown>> = {
    getme: () => ({ id: Number(token.split(":")[0]), is_bot: true, first_name: "Clips" }),
    getchat: (asked) => shown(chatOf(asked)),
    sendmessage: (asked) => {
      const { chat, message } = placeOf(asked, "text messages");
      const text = asked.fields.get("text") ?? "";
      if (text.trim() === "") throw new Refusal(400, "Bad Request: message text is empty");
      if (text.length > MESSAGE_LETTERS) throw new Refusal(400, "Bad Request: message is too long");
      messages.push({ ...message, text });
      return { message_id: message.messageId, date: 0, chat: shown(chat), text };
    },
    sendvideo: (asked) => {
      const { chat, message } = placeOf(asked, "videos");
      const video = asked.files.get("video");
      if (video === undefined) {
        throw new Refusal(400, "Bad Request: there is no video in the request");
      }
      if (video.bytes === 0) throw new Refusal(400, "Bad Request: file must be non-empty");
      const caption = asked.fields.get("caption") ?? "";
      if (caption.length > CAPTION_LETTERS) {
        throw new Refusal(400, "Bad Request: message caption is too long");
      }
      const duration = asked.fields.get("duration");
      messages.push({
        ...message,
        text: caption,
        video: {
          ...video,
          supportsStreaming: asked.fields.get("supports_streaming") === "true",
          ...(duration === undefined ? {} : { durationS: Number(duration) }),
        },
      });
      return {
        message_id: message.messageId,
        date: 0,
        chat: shown(chat),
        caption,
        video: { file_id: `video-${message.messageId}`, file_size: video.bytes },
      };
    },
  };

  const handle = async (request: IncomingMessage): Promise<unknown> => {
    const url = new URL(request.url ?? "/", "http://loopback");
    const [, given = "", method = ""] = /^\/bot([^/]*)\/([A-Za-z]+)$/.exec(url.pathname) ?? [];
    if (!/^\d+:[A-Za-z0-9_-]+$/.test(decodeURIComponent(given))) {
      throw new Refusal(404, "Not Found");
    }
    // As there, a large body is read before it is judged.
    const asked = await readParameters(request, url.searchParams, maxUploadBytes);
    calls.push(method);
    if (decodeURIComponent(given) !== token) throw new Refusal(401, "Unauthorized");
    const run = methods[method.toLowerCase()];
    if (run === undefined) throw new Refusal(404, "Not Found");
    return run(asked);
  };

  const server = createServer((request, response) => {
    handle(request).then(
      (result) => answer(response, 200, { ok: true, result }),
      (error) => {
        if (!(error instanceof Refusal)) return void response.destroy(); // cut off
        answer(response, error.code, {
          ok: false,
          error_code: error.code,
          description: error.message,
          ...(error.parameters ? { parameters: error.parameters } : {}),
        });
      },
    );
  });
  server.requestTimeout = 0;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    messages,
    calls,
    flood: (seconds) => void (floodS = seconds),
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise<void>((done) => server.close(() => done()));
      server.closeAllConnections();
      await closed;
    },
  };
}

function answer(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

async function readParameters(
  request: IncomingMessage,
  query: URLSearchParams,
  maxBytes: number,
): Promise<Parameters> {
  const asked: Parameters = { fields: new Map(query), files: new Map() };
  const type = request.headers["content-type"] ?? "";
  const [, boundary] = /^multipart\/form-data;.*boundary="?([^";]+)"?/i.exec(type) ?? [];
  let bytes = 0;
  const limited = async function* () {
    for await (const chunk of request as AsyncIterable<Uint8Array>) {
      bytes += chunk.length;
      // The rest is read and forgotten, so that the answer is heard.
      if (bytes <= maxBytes + MOST_FIELD_BYTES) yield chunk;
    }
  };
  if (boundary !== undefined) await readMultipart(limited(), boundary, asked);
  else {
    const chunks: Uint8Array[] = [];
    for await (const chunk of limited()) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString("utf8");
    if (type.startsWith("application/json")) readJson(text, asked);
    else for (const [name, value] of new URLSearchParams(text)) asked.fields.set(name, value);
  }
  const largest = Math.max(0, ...[...asked.files.values()].map((file) => file.bytes));
  if (bytes > maxBytes + MOST_FIELD_BYTES || largest > maxBytes) {
    throw new Refusal(413, "Request Entity Too Large");
  }
  return asked;
}

function readJson(text: string, { fields }: Parameters): void {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refusal(400, "Bad Request: can't parse JSON object");
  }
  for (const [name, one] of Object.entries(typeof value === "object" && value ? value : {})) {
    fields.set(name, typeof one === "string" ? one : JSON.stringify(one));
  }
}

/** RFC 7578, in pieces: no more than the length of a delimiter is held back. */
async function readMultipart(
  chunks: AsyncIterable<Uint8Array>,
  boundary: string,
  { fields, files }: Parameters,
): Promise<void> {
  const delimiter = Buffer.from(`\r\n--${boundary}`);
  // The first delimiter has no line before it.
  let held = Buffer.from("\r\n");
  let part: { readonly name: string; readonly file: Upload } | undefined;
  let isFile = false;
  let isBody = true; // what stands before the first delimiter belongs to nobody
  const keep = (data: Uint8Array): void => {
    if (part === undefined || data.length === 0) return;
    part.file.bytes += data.length;
    if (!isFile && part.file.bytes > MOST_FIELD_BYTES) {
      throw new Refusal(400, `Bad Request: the field ${part.name} is too long`);
    }
    part.file.parts.push(Uint8Array.from(data));
  };
  const finish = (): void => {
    if (part === undefined) return;
    if (isFile) files.set(part.name, part.file);
    else fields.set(part.name, Buffer.concat(part.file.parts).toString("utf8"));
    part = undefined;
  };
  for await (const chunk of chunks) {
    held = Buffer.concat([held, chunk]);
    for (;;) {
      if (isBody) {
        const at = held.indexOf(delimiter);
        if (at < 0) {
          const safe = Math.max(0, held.length - delimiter.length);
          keep(held.subarray(0, safe));
          held = held.subarray(safe);
          break;
        }
        keep(held.subarray(0, at));
        finish();
        held = held.subarray(at + delimiter.length);
        isBody = false;
      }
      if (held.subarray(0, 2).toString("latin1") === "--") return;
      const end = held.indexOf("\r\n\r\n");
      if (end < 0) {
        if (held.length > MOST_FIELD_BYTES) {
          throw new Refusal(400, "Bad Request: a header is too long");
        }
        break;
      }
      const head = held.subarray(0, end).toString("utf8");
      held = held.subarray(end + 4);
      const [, name = ""] = /\bname="([^"]*)"/i.exec(head) ?? [];
      const fileName = /\bfilename="([^"]*)"/i.exec(head)?.[1];
      const contentType = /^content-type:\s*(\S+)/im.exec(head)?.[1] ?? "text/plain";
      isFile = fileName !== undefined;
      part = { name, file: { fileName: fileName ?? "", contentType, parts: [], bytes: 0 } };
      isBody = true;
    }
  }
  throw new Refusal(400, "Bad Request: the multipart body ends early");
}
