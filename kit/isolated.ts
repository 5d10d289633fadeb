/**
 * Opens a plugin's sink for the kit as it runs for its users: in a process of its own, with the
 * rights that it asks for and no others. It is looked through once, and asked once for each set of
 * options.
 *
 * @module
 */
import { tmpdir } from "node:os";
import { systemClock } from "../core/clock.ts";
import { plainSchema, understoodSchema } from "../core/config/plain_schema.ts";
import {
  openDescriber,
  openPluginSink,
  type PluginAbout,
  type PluginDescriber,
  PluginError,
  type PluginLimits,
  readPluginGraph,
  secretTexts,
} from "../core/plugins/mod.ts";
import type { Log } from "../core/types.ts";
import { type ConfigIssue, issuesOf, type SinkHost } from "./open_sink.ts";

const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * Looks a plugin through and gives a way to open its sinks.
 *
 * @param from a file, a folder with `deno.json`, or `npm:NAME`; relative to `folder`
 * @throws {PluginError} if it cannot be loaded, exports no sink or is for another api
 */
export async function isolated(
  from: string,
  { folder, signal, limits }: {
    readonly folder: string;
    readonly signal?: AbortSignal;
    /** How long it is waited for; as for its users by default. */
    readonly limits?: PluginLimits;
  },
): Promise<SinkHost> {
  const graph = await readPluginGraph(from, { folder, ...(signal ? { signal } : {}) });
  const patience = limits === undefined ? {} : { limits };
  const opened = () => openDescriber({ graph, log: silent, clock: systemClock, ...patience });
  let describer: PluginDescriber | undefined = await opened();
  const { about } = describer;
  const schema = plainSchema(understoodSchema(about.schema))["~standard"];
  const known = new Set(Object.keys(Object(about.schema.properties)));
  const answers = new Map<string, Promise<PluginAbout>>();
  const ask = async (options: unknown): Promise<PluginAbout> => {
    describer ??= await opened();
    try {
      return await describer.ask(options);
    } catch (error) {
      await describer[Symbol.asyncDispose](); // it may be the reason
      describer = undefined;
      throw error;
    }
  };
  const aboutFor = (options: unknown): Promise<PluginAbout> => {
    const id = JSON.stringify(options);
    const answer = answers.get(id) ?? ask(options);
    answers.set(id, answer);
    return answer;
  };
  return {
    type: about.name,
    how: "isolated",
    validate: async (options): Promise<readonly ConfigIssue[]> => {
      // As for its users: first the schema that is kept beside the configuration, then its own.
      const issues = issuesOf(await schema.validate(options));
      // An unknown option is refused by Camsink alone, so here the plugin is to say what it does.
      const isKnown = ({ path: [key] }: ConfigIssue) => known.has(String(key));
      return issues.some(isKnown) ? issues : (await aboutFor(options)).issues;
    },
    open: async ({ config, log }) => {
      const asked = await aboutFor(config);
      const [issue] = asked.issues;
      if (issue !== undefined) {
        throw new PluginError(`${issue.path.join(".") || "the options"}: ${issue.message}`);
      }
      const valid = await schema.validate(config);
      const values = "value" in valid ? valid.value : undefined;
      const undeclared: string[] = [];
      const endings: string[] = [];
      const { run = [], read = [], write = [], scratch = false } = asked.needs ?? {};
      const sink = openPluginSink({
        name: "kit",
        type: about.name,
        approval: {
          ...{ from: graph.from, sha256: graph.sha256, schema: { ...about.schema }, scratch },
          // Its author grants what it asks for; whether it asks for too much is for its users.
          ...{ hosts: [...asked.hosts ?? []], run: [...run], read: [...read], write: [...write] },
        },
        folder,
        options: config,
        secrets: [...secretTexts(config, values)],
        log,
        clock: systemClock,
        random: Math.random,
        onRefused: (host) => undeclared.push(host),
        onEnded: (why) => endings.push(why),
        unapproved: { graph, about: asked },
        handover: tmpdir(),
        ...patience,
      });
      try {
        await sink.ready();
      } catch (error) {
        await sink.kill();
        throw error;
      }
      return { sink, hosts: sink.hosts, undeclared, endings, dispose: () => sink.kill() };
    },
    [Symbol.asyncDispose]: async () => await describer?.[Symbol.asyncDispose](),
  };
}
