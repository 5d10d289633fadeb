/**
 * A sink that does everything right, and the same with one thing wrong: what the conformance kit has
 * to find. Each defect is one that authors do make.
 *
 * @module
 */
import * as v from "valibot";
import {
  type Clip,
  defineSink,
  encodeKey,
  type HttpAnswer,
  httpSend,
  httpSinkError,
  provenBytes,
  type PutOptions,
  secret,
  sendClip,
  type Sink,
  SinkError,
  type SinkPlugin,
} from "camsink";

/** What is wrong. */
export type Defect =
  | "drops-the-last-block"
  | "does-not-wait-for-the-answer"
  | "ignores-abort"
  | "hangs-on-silence"
  | "tries-again"
  | "leaks-the-secret"
  | "leaks-the-server's-answer"
  | "stores-twice"
  | "overwrites"
  | "remembers-in-memory"
  | "500-is-permanent"
  | "401-is-retry"
  | "unknown-host-is-permanent"
  | "swallows-retry-after"
  | "collects-the-clip"
  | "does-not-hash"
  | "tells-no-progress"
  | "does-not-encode-keys"
  | "camera-in-a-header"
  | "mixes-puts"
  | "check-writes"
  | "check-tests-nothing"
  | "stat-lies"
  | "stat-hides-trouble"
  | "remove-does-nothing"
  | "close-never-ends"
  | "undeclared-host"
  | "follows-redirects"
  | "keeps-the-first-secret"
  | "takes-any-option"
  | "token-in-the-url"
  | "leaves-a-half";

interface Options {
  readonly url: string;
  readonly token: { reveal(): Promise<string> };
  /** Chooses the defect, where one file is to have them all. */
  readonly defect?: string | undefined;
}

/** The sink, with at most one thing wrong. */
export function plantedSink(defect?: Defect): SinkPlugin<Options> {
  const entries = {
    url: v.string("expected a URL"),
    token: secret(),
    defect: v.optional(v.string("expected a defect")),
  };
  return defineSink<Options>({
    name: "planted",
    config: defect === "takes-any-option" ? v.object(entries) : v.strictObject(entries),
    net: ({ url }) => [new URL(url).host],
    open: ({ config, fetch, log }): Sink => {
      const has = (name: Defect) => (defect ?? config.defect) === name;
      let firstToken: string | undefined;
      let shared: Uint8Array | undefined;
      let another: PromiseWithResolvers<void> | undefined;
      const stored = new Set<string>();
      const never = new AbortController().signal;
      const place = (key: string) =>
        has("does-not-encode-keys")
          ? new URL(key.replaceAll("..", "%2E%2E"), config.url).href
          : config.url + encodeKey(key);
      const headers = async () => {
        const token = await config.token.reveal();
        firstToken ??= token;
        return { authorization: `Bearer ${has("keeps-the-first-secret") ? firstToken : token}` };
      };
      const ask = async (method: string, url: string, signal: AbortSignal) =>
        await httpSend({ method, url, headers: await headers(), signal });
      const same = (found: HttpAnswer, clip: Clip) =>
        found.ok && found.header("x-sha256") === clip.sha256;

      const send = async (clip: Clip, options: PutOptions): Promise<HttpAnswer> => {
        const url = place(clip.key);
        const extra: Record<string, string> = {
          ...await headers(),
          "x-sha256": clip.sha256,
          ...(has("overwrites") ? {} : { "if-none-match": "*" }),
          ...(has("camera-in-a-header") ? { "x-camera": clip.camera } : {}),
        };
        if (has("drops-the-last-block") || has("collects-the-clip") || has("does-not-hash")) {
          const parts = [];
          let bytes = 0;
          for await (const part of clip.open()) {
            options.signal.throwIfAborted();
            parts.push(part);
            options.progress(bytes += part.length);
          }
          if (has("drops-the-last-block")) parts.length = Math.floor(bytes / 2 ** 20) * 16;
          const body = new Blob(parts);
          delete extra["x-sha256"];
          const response = await fetch(url, {
            method: "PUT",
            headers: extra,
            body,
            signal: options.signal,
          });
          return {
            status: response.status,
            ok: response.ok,
            header: (name) => response.headers.get(name) ?? undefined,
            text: "",
          };
        }
        if (has("mixes-puts")) {
          const parts = [];
          for await (const part of provenBytes(clip, options)) parts.push(part);
          shared = new Uint8Array(await new Blob(parts).arrayBuffer());
          // The first waits until another has put its bytes in the place of these.
          if (another === undefined) await (another = Promise.withResolvers()).promise;
          else another.resolve();
          delete extra["x-sha256"];
          return await httpSend({
            method: "PUT",
            url,
            headers: extra,
            body: { bytes: shared.length, data: [shared] },
            signal: options.signal,
          });
        }
        if (has("follows-redirects")) {
          const response = await globalThis.fetch(url, {
            method: "PUT",
            headers: extra,
            body: await new Response(clip.open()).blob(),
            signal: options.signal,
          });
          return {
            status: response.status,
            ok: response.ok,
            header: (name) => response.headers.get(name) ?? undefined,
            text: "",
          };
        }
        return await sendClip(url, { clip, options, headers: extra });
      };

      const kindOf = (answer: HttpAnswer, what: string): SinkError => {
        const error = httpSinkError(answer, what);
        if (has("500-is-permanent") && answer.status >= 500) {
          return new SinkError("permanent", what);
        }
        if (has("401-is-retry") && answer.status === 401) return new SinkError("retry", what);
        if (has("swallows-retry-after")) return new SinkError(error.sinkErrorKind, what);
        if (has("leaks-the-server's-answer")) {
          return new SinkError(error.sinkErrorKind, `${what}: ${answer.text}`);
        }
        return error;
      };

      const put = async (clip: Clip, asked: PutOptions) => {
        let options = asked;
        if (has("ignores-abort") || has("hangs-on-silence")) {
          if (has("hangs-on-silence")) asked.signal.throwIfAborted();
          options = { ...asked, signal: never };
        }
        if (has("tells-no-progress")) options = { ...options, progress: () => {} };
        options.signal.throwIfAborted();
        if (has("undeclared-host")) {
          await fetch("http://127.0.0.1:4321/count").catch(() => {});
        }
        if (has("remembers-in-memory") && stored.has(clip.key)) {
          return { state: "already-there" as const };
        }
        if (has("leaves-a-half")) {
          const half = `${place(clip.key)}.${options.attempt}.part`;
          await httpSend({ method: "PUT", url: half, headers: await headers(), signal: never });
        }
        if (has("does-not-wait-for-the-answer")) {
          send(clip, options).catch(() => {});
          return { state: "stored" as const };
        }
        let answer = await send(clip, options);
        if (has("tries-again") && answer.status >= 500) answer = await send(clip, options);
        if (has("leaks-the-secret") && !answer.ok) {
          log.warn(`refused: ${JSON.stringify(await headers())}`);
        }
        if (answer.status === 412 && !has("remembers-in-memory")) {
          if (has("stores-twice")) {
            await sendClip(`${place(clip.key)}-2`, { clip, options, headers: await headers() });
            return { state: "stored" as const };
          }
          const found = await ask("HEAD", place(clip.key), options.signal);
          if (same(found, clip)) return { state: "already-there" as const, url: place(clip.key) };
          throw new SinkError("conflict", `${clip.key} is taken by something else`);
        }
        if (!answer.ok) throw kindOf(answer, `cannot store ${clip.key}`);
        stored.add(clip.key);
        const token = await config.token.reveal();
        const query = has("token-in-the-url") ? `?token=${token}` : "";
        return { state: "stored" as const, url: place(clip.key) + query };
      };

      return {
        put: async (clip, options) => {
          try {
            return await put(clip, options);
          } catch (error) {
            if (has("unknown-host-is-permanent") && /host is unknown/.test(String(error))) {
              throw new SinkError("permanent", String(error));
            }
            throw error;
          }
        },
        stat: async (key, { signal }) => {
          const answer = await ask("HEAD", place(key), signal);
          if (answer.status === 404) return undefined;
          if (!answer.ok) {
            if (has("stat-hides-trouble")) return undefined;
            throw kindOf(answer, `cannot look up ${key}`);
          }
          const bytes = Number(answer.header("x-bytes"));
          return { bytes: has("stat-lies") ? bytes + 1 : bytes, sha256: answer.header("x-sha256") };
        },
        remove: async (key, { signal }) => {
          if (has("remove-does-nothing")) return;
          const answer = await ask("DELETE", place(key), signal);
          if (!answer.ok && answer.status !== 404) throw kindOf(answer, `cannot remove ${key}`);
        },
        check: async ({ signal }) => {
          if (has("check-tests-nothing")) return;
          const url = `${config.url}camsink-check-${crypto.randomUUID()}`;
          const answer = await ask("PUT", url, signal);
          if (!answer.ok) throw kindOf(answer, "the test object could not be stored");
          if (!has("check-writes")) await ask("DELETE", url, signal);
        },
        close: () => has("close-never-ends") ? new Promise(() => {}) : Promise.resolve(),
      };
    },
  });
}
