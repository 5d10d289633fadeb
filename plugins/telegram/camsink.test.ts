/**
 * The conformance kit against the simulated Bot API: `camsink plugin test .`
 *
 * @module
 */
import type { SinkTest } from "camsink";
import { startTelegramBotApi } from "../../simulators/telegram_bot_api.ts";

const TOKEN = "7700112233:AAkitTelegramTokenThatIsNone_-0123456";

const test: SinkTest = {
  start: async () => {
    const api = await startTelegramBotApi({
      token: TOKEN,
      chats: [{ id: -1001234567890, type: "supergroup", title: "Clips" }],
      maxUploadBytes: 2_000_000_000,
    });
    return {
      url: api.url,
      config: (url) => ({ apiUrl: url, chatId: "-1001234567890", maxSize: "2GB" }),
      secrets: { token: TOKEN },
      answers: {
        busy: {
          status: 429,
          body: JSON.stringify({
            ok: false,
            error_code: 429,
            description: "Too Many Requests: retry after 7",
            parameters: { retry_after: 7 },
          }),
        },
      },
      store: { canBeAsked: false, takesEmpty: false, hasChecksums: false },
      objects: () =>
        Promise.resolve(api.messages.flatMap(({ messageId, video }) =>
          video === undefined ? [] : [{
            name: String(messageId),
            read: () => ReadableStream.from(video.parts) as ReadableStream<Uint8Array>,
          }]
        )),
      [Symbol.asyncDispose]: () => api[Symbol.asyncDispose](),
    };
  },
};
export default test;
