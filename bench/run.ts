/**
 * `deno task bench [NAME…] [--json] [--rounds N]`: runs the named benches (default: all) and prints
 * their rows as a table, or as JSON lines. What a bench lacks (a program not installed) it says on
 * stderr, and leaves its rows out.
 *
 * @module
 */
import { describeMachine, formatTable, type Row } from "./measure.ts";

/** What a bench is told. */
export interface BenchOptions {
  /** How often each competitor runs. */
  readonly rounds: number;
  /** Words for the person who waits; goes to stderr. */
  say(message: string): void;
}

/** Measures, and says what it found. */
export type Bench = (options: BenchOptions) => Promise<readonly Row[]>;

/** All benches by name. Each is loaded only when it runs. */
const BENCHES: Readonly<Record<string, () => Promise<Bench>>> = {
  encode: async () => (await import("./encode.ts")).benchEncode,
  jitter: async () => (await import("./jitter.ts")).benchJitter,
  memory: async () => (await import("./passthrough.ts")).benchMemory,
  motion: async () => (await import("./motion.ts")).benchMotion,
  mux: async () => (await import("./mux.ts")).benchMux,
  passthrough: async () => (await import("./passthrough.ts")).benchPassthrough,
  plugin: async () => (await import("./plugin.ts")).benchPlugin,
  spool: async () => (await import("./spool.ts")).benchSpool,
  webrtc: async () => (await import("./webrtc.ts")).benchWebRtc,
};

async function main(args: readonly string[]): Promise<number> {
  const json = args.includes("--json");
  const roundsAt = args.indexOf("--rounds");
  const rounds = roundsAt < 0 ? 3 : Number(args[roundsAt + 1]);
  const names = args.filter((arg, i) =>
    !arg.startsWith("--") && (roundsAt < 0 || i !== roundsAt + 1)
  );
  const unknown = names.find((name) => !(name in BENCHES));
  if (unknown !== undefined || !Number.isInteger(rounds) || rounds < 1) {
    console.error(
      `expected: deno task bench [${Object.keys(BENCHES).join(" | ")}] [--json] [--rounds N]${
        unknown === undefined ? "" : `; there is no bench "${unknown}"`
      }`,
    );
    return 2;
  }
  console.error(describeMachine());
  for (const name of names.length > 0 ? names : Object.keys(BENCHES)) {
    const bench = await BENCHES[name]?.();
    const rows = await bench?.({ rounds, say: (message) => console.error(message) }) ?? [];
    if (json) { for (const line of rows) console.log(JSON.stringify({ bench: name, ...line })); }
    else console.log(`${name}\n${formatTable(rows)}`);
  }
  return 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
