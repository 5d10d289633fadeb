/**
 * `camsink verify`: is every clip where it should be? With `--repair`, what is still here is
 * delivered again, what the spool can put in order is, and the rest is said to be beyond repair.
 *
 * Looking needs nobody's leave. Repairing needs the spool; where a recording has it, that one is
 * asked to deliver, and the repair is done when it has.
 *
 * @module
 */
import { type Mismatch, reconcile, type Reconciliation } from "../core/delivery/mod.ts";
import type { Config } from "../core/config/load.ts";
import { EXIT, type ExitCode } from "../core/exit_codes.ts";
import { getLog } from "../core/log.ts";
import {
  openSpool,
  openSpoolView,
  type Spool,
  spoolErrorKind,
  type SpoolView,
} from "../core/spool/mod.ts";
import type { Sink } from "../core/types.ts";
import { momentMs } from "./clips.ts";
import type { VerifyArguments } from "./clips_arguments.ts";
import type { CommandContext } from "./context.ts";
import { deliveryTo, drain, newSinkStatus, recoverTornClip } from "./recording.ts";
import { loadUserConfig, openSink } from "./rooms.ts";
import { styles, type Terminal } from "./terminal.ts";
import { plainText } from "./text_layout.ts";

/** A repair may take as long as sending everything again does, ms. */
const REPAIR_MS = 24 * 3_600_000;

type Sinks = ReadonlyMap<string, Sink>;

/** What became of a mismatch. */
interface Finding extends Mismatch {
  readonly repaired: boolean;
}

/** Runs `camsink verify`. */
export async function verify(args: VerifyArguments, context: CommandContext): Promise<ExitCode> {
  const { config: read } = await loadUserConfig(args.config);
  const config = args.spool === undefined
    ? read
    : { ...read, spool: { ...read.spool, path: args.spool } };
  await using cleanup = new AsyncDisposableStack();
  const sinks = new Map<string, Sink>();
  for (const [name, sinkConfig] of Object.entries(config.sinks)) {
    if (!sinkConfig.enabled) continue;
    const sink = await openSink(name, { config: sinkConfig, context });
    cleanup.defer(() => sink.close?.());
    sinks.set(name, sink);
  }
  const view = cleanup.use(await openSpoolView(config.spool.path, context.clock));
  const { clock, random, stop: signal, terminal } = context;
  const compare = { view, sinks, clock, random, signal, quick: args.quick };
  const found = await reconcile({
    ...compare,
    ...(args.since === undefined ? {} : { sinceMs: momentMs(args.since, clock) }),
  });
  let findings = found.mismatches.map((mismatch): Finding => ({ ...mismatch, repaired: false }));
  let recordingPid: number | undefined;
  if (args.repair && found.mismatches.some(({ remedy }) => remedy !== "none")) {
    ({ recordingPid } = await repair(found.mismatches, { config, sinks, view, context }));
    const keys = new Set(found.mismatches.flatMap(({ key }) => key ?? []));
    const after = await reconcile({ ...compare, keys });
    findings = settle(found, { after, view });
  }
  const isWell = findings.every(({ repaired }) => repaired);
  if (args.json) {
    const { mismatches: _, ...counts } = found;
    terminal.out(JSON.stringify({
      event: "verify",
      ok: isWell,
      ...counts,
      findings,
      ...(recordingPid === undefined ? {} : { recordingPid }),
    }));
  } else show(found, { findings, repair: args.repair, recordingPid, terminal });
  return isWell ? EXIT.ok : EXIT.failure;
}

/** Has everything delivered again that can be, and the spool put in order. */
async function repair(
  mismatches: readonly Mismatch[],
  { config, sinks, view, context }: {
    readonly config: Config;
    readonly sinks: Sinks;
    readonly view: SpoolView;
    readonly context: CommandContext;
  },
): Promise<{ recordingPid?: number }> {
  await using cleanup = new AsyncDisposableStack();
  let spool: Spool | undefined;
  let recordingPid: number | undefined;
  try {
    spool = cleanup.use(
      await openSpool({
        ...config.spool,
        clock: context.clock,
        log: getLog("spool"),
        sinks: [...sinks.keys()],
        recover: recoverTornClip,
      }),
    );
  } catch (error) {
    if (spoolErrorKind(error) !== "locked") throw error;
    recordingPid = error instanceof Error && "pid" in error ? Number(error.pid) : 0;
  }
  for (const { key, sink, remedy } of mismatches) {
    if (remedy !== "redeliver" || key === undefined || sink === undefined) continue;
    if (view.get(key)?.state === "here") view.redeliver(sink, key);
  }
  if (spool) await deliver(spool, { config, sinks, context });
  return recordingPid === undefined ? {} : { recordingPid };
}

/** Delivers what the sinks lack, as far as they take it now. */
async function deliver(
  spool: Spool,
  { config, sinks, context: { clock, random, stop } }: {
    readonly config: Config;
    readonly sinks: Sinks;
    readonly context: CommandContext;
  },
): Promise<void> {
  const end = new AbortController();
  const stopped = new Promise<void>((resolve) =>
    stop.addEventListener("abort", () => resolve(), { signal: end.signal })
  );
  const running: Promise<void>[] = [];
  try {
    await Promise.all([...sinks].map(async ([name, sink]) => {
      const sinkConfig = config.sinks[name];
      if (!sinkConfig) return;
      const status = await newSinkStatus(name, sinkConfig);
      const delivery = deliveryTo(name, { sink, sinkConfig, spool, status, clock, random });
      running.push(delivery.run(AbortSignal.any([end.signal, stop])));
      await Promise.race([drain(delivery, status, { clock, drainMs: REPAIR_MS }), stopped]);
    }));
  } finally {
    end.abort();
    await Promise.allSettled(running);
  }
}

/** What a second look says of each mismatch. What is still on its way is not repaired yet. */
function settle(
  before: Reconciliation,
  { after, view }: { readonly after: Reconciliation; readonly view: SpoolView },
): Finding[] {
  const name = ({ kind, key, sink }: Mismatch) => `${kind} ${sink ?? ""} ${key ?? ""}`;
  const still = new Map(after.mismatches.map((mismatch) => [name(mismatch), mismatch]));
  const findings = before.mismatches.map((mismatch): Finding => {
    const now = still.get(name(mismatch));
    still.delete(name(mismatch));
    if (now) return { ...now, repaired: false };
    const { key = "", sink } = mismatch;
    const isWaiting = view.deliveries(key)
      .some((delivery) => delivery.sink === sink && delivery.state === "waiting");
    return { ...mismatch, repaired: !isWaiting };
  });
  // What the repair itself brought to light.
  return [...findings, ...[...still.values()].map((now) => ({ ...now, repaired: false }))];
}

function show(
  { clips, files, asked, waiting, silentSinks }: Reconciliation,
  { findings, repair, recordingPid, terminal }: {
    readonly findings: readonly Finding[];
    readonly repair: boolean;
    readonly recordingPid: number | undefined;
    readonly terminal: Terminal;
  },
): void {
  const style = styles(terminal.dataColor);
  for (const { kind, key, sink, detail, repaired, remedy } of findings) {
    const mark = repaired ? style.green("✓ repaired") : style.red(`✗ ${kind}`);
    const what = [sink, key].filter((part) => part !== undefined).join("  ");
    terminal.out(`${mark}  ${what}`);
    const outlook = repaired
      ? kind
      : remedy === "none"
      ? kind === "unreachable" ? "try again when it can be reached" : "cannot be repaired"
      : !repair
      ? "camsink verify --repair mends it"
      : recordingPid === undefined
      ? "not repaired yet: it is tried again by camsink capture"
      : remedy === "redeliver"
      ? `left to the running recording${recordingPid ? ` (process ${recordingPid})` : ""}`
      : "put in order when the running recording is started again";
    terminal.out(`    ${plainText(detail)}; ${outlook}`);
  }
  for (const sink of silentSinks) {
    terminal.err(`The sink ${sink} cannot say what it holds; its receipts were believed.`);
  }
  const left = findings.filter(({ repaired }) => !repaired).length;
  const done = findings.length - left;
  terminal.out(
    `${clips} clips and ${files} files compared, the sinks asked ${asked} times; ` +
      `${waiting} deliveries are still to be made.`,
  );
  if (done > 0) terminal.out(style.green(`${done} repaired.`));
  terminal.out(left === 0 ? style.green("All is well.") : style.red(`${left} not well.`));
}
