/**
 * Opens a sink for the kit: in this process, with the `fetch` that a sink is promised, which goes to
 * declared hosts only. So run the built-in sinks, and a plugin that is to be debugged; plugins run as
 * {@link ./isolated.ts} has it.
 *
 * @module
 */
import type { Log, Sink, SinkPlugin } from "../core/types.ts";

/** A sink that was opened for the kit, and what became known on the way. */
export interface OpenedSink {
  /** The sink. */
  readonly sink: Sink;
  /** The hosts that it says it talks to. */
  readonly hosts: readonly string[];
  /** Hosts that it tried to reach without having declared them. */
  readonly undeclared: readonly string[];
  /** Why its process was ended each time that nobody closed it; none where it has no process. */
  readonly endings: readonly string[];
  /** Ends it whatever it does; the sink's own `close` was called, or is to be left out. */
  dispose(): Promise<void>;
}

/** A problem with the options: where, and what is expected. */
export interface ConfigIssue {
  /** From the top of the sink's options. */
  readonly path: readonly (string | number)[];
  /** For the user. */
  readonly message: string;
}

/** A way to open sinks of one kind; disposed when no more are opened. */
export interface SinkHost extends AsyncDisposable {
  /** The `type` that it has in a configuration. */
  readonly type: string;
  /** How it runs, for the report: `in this process`, `isolated`. */
  readonly how: string;
  /** What is wrong with these options; empty if nothing. */
  validate(options: unknown): Promise<readonly ConfigIssue[]>;
  /**
   * Opens a sink with options as they stand in a configuration.
   *
   * @throws if they are not valid, or what the plugin's `open` throws
   */
  open(options: { readonly config: unknown; readonly log: Log }): Promise<OpenedSink>;
}

/** Opens sinks of a plugin in this process. */
export function inProcess(plugin: SinkPlugin): SinkHost {
  const validate = async (options: unknown): Promise<unknown> =>
    await plugin.config["~standard"].validate(options);
  return {
    type: plugin.name,
    how: "in this process",
    validate: async (options) => issuesOf(await validate(options)),
    open: async ({ config, log }) => {
      const result = await validate(config);
      const [issue] = issuesOf(result);
      if (issue !== undefined) {
        throw new Error(`${issue.path.join(".") || "the options"}: ${issue.message}`);
      }
      const valid = typeof result === "object" && result !== null && "value" in result
        ? result.value
        : undefined;
      const hosts = plugin.net(valid);
      const undeclared: string[] = [];
      const sink = await plugin.open({
        name: "kit",
        config: valid,
        log,
        fetch: guardedFetch(hosts, undeclared),
      });
      return { sink, hosts, undeclared, endings: [], dispose: () => Promise.resolve() };
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** The issues of a Standard Schema result, whatever shape their path segments have. */
export function issuesOf(result: unknown): ConfigIssue[] {
  if (typeof result !== "object" || result === null || !("issues" in result)) return [];
  const { issues } = result;
  if (!Array.isArray(issues)) return [];
  return issues.map((issue: unknown) => {
    const known = typeof issue === "object" && issue !== null ? issue : {};
    const path = "path" in known && Array.isArray(known.path) ? known.path : [];
    return {
      message: "message" in known && typeof known.message === "string" ? known.message : "",
      path: path.flatMap((segment: unknown) => {
        const key = typeof segment === "object" && segment !== null && "key" in segment
          ? segment.key
          : segment;
        return typeof key === "string" || typeof key === "number" ? [key] : [];
      }),
    };
  });
}

const MAX_REDIRECTS = 5;

/** `fetch` that goes to declared hosts only, also when it is redirected. */
function guardedFetch(hosts: readonly string[], undeclared: string[]): typeof fetch {
  const allowed = ({ host, hostname }: URL) =>
    hosts.includes("*") || hosts.includes(host) || hosts.includes(hostname);
  return async (input, init) => {
    const request = new Request(input, init);
    let url = new URL(request.url);
    for (let redirects = 0;; redirects++) {
      if (!allowed(url)) {
        undeclared.push(url.host);
        throw new TypeError(
          `the sink may not reach ${url.host}: its net() names ${hosts.join(", ") || "no host"}`,
        );
      }
      const response = await fetch(
        redirects === 0 ? request : url,
        redirects === 0 ? { redirect: "manual" } : {
          method: request.method,
          headers: request.headers,
          signal: request.signal,
          redirect: "manual",
        },
      );
      const location = response.headers.get("location");
      const isBodiless = request.method === "GET" || request.method === "HEAD";
      if (
        ![301, 302, 303, 307, 308].includes(response.status) || location === null ||
        request.redirect === "manual" || !isBodiless || redirects >= MAX_REDIRECTS
      ) return response;
      await response.body?.cancel();
      url = new URL(location, url);
    }
  };
}
