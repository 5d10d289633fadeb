/**
 * Measuring whole processes. What counts is what a user's machine pays: CPU-seconds of a process and
 * all its children, start-up included, and the largest share of memory they held together (PSS: pages
 * shared with others count in part). Competitors run in turn, several rounds, and the median counts,
 * so that a busy moment of the machine hits all of them alike.
 *
 * @module
 */

/** One line of a bench. */
export interface Row {
  readonly measure: string;
  readonly ours: number;
  readonly peer: number;
  readonly peerName: string;
  readonly unit: string;
  /** `ours` through `peer`. */
  readonly ratio: number;
  /** The ratio to reach, where there is one. */
  readonly goal?: number;
}

/** A row of its two figures. */
export function row(
  figures: Omit<Row, "ratio">,
): Row {
  return { ...figures, ratio: figures.ours / figures.peer };
}

/** What one run of a program cost. */
export interface Cost {
  /** User and system time, children included. */
  readonly cpuS: number;
  readonly wallS: number;
  /** Largest PSS of the process and its children together; sampled, so short peaks may be missed. */
  readonly peakBytes: number;
  /** What the program printed. */
  readonly stdout: string;
}

/** A program with its arguments. */
export interface Program {
  readonly command: readonly string[];
  readonly cwd?: string;
  /** Called before each run. */
  readonly prepare?: () => Promise<void> | void;
  /** It is known to hang now and then: so long it gets, and then it is run again. */
  readonly hangsAfterS?: number;
}

/** A program that hangs three times in a row hangs always. */
const ATTEMPTS = 3;

/**
 * Runs a program to its end. Needs bash, whose `time` counts the children that were waited for.
 *
 * @throws if the program fails, with what it said
 */
export async function measureProcess(program: Program): Promise<Cost> {
  const { hangsAfterS } = program;
  if (hangsAfterS === undefined) return await measureOnce(program);
  const command = ["timeout", "-s", "KILL", String(hangsAfterS), ...program.command];
  for (let attempt = 1;; attempt++) {
    try {
      return await measureOnce({ ...program, command });
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      console.error(`run again, since it failed or hung: ${program.command[0]}`);
    }
  }
}

async function measureOnce(program: Program): Promise<Cost> {
  await program.prepare?.();
  const child = new Deno.Command("bash", {
    args: ["-c", `TIMEFORMAT=$'\\n%3U %3S %3R'; time "$@"`, "measure", ...program.command],
    cwd: program.cwd,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let peakBytes = 0;
  const sample = () => {
    peakBytes = Math.max(peakBytes, treePssBytes(child.pid));
  };
  const timer = setInterval(sample, 100);
  try {
    const { code, stdout, stderr } = await child.output();
    const said = new TextDecoder().decode(stderr);
    if (code !== 0) {
      throw new Error(`${program.command.join(" ")} failed with code ${code}:\n${said}`);
    }
    const [user = NaN, system = NaN, wallS = NaN] =
      said.trimEnd().split("\n").at(-1)?.split(" ").map(Number) ?? [];
    return { cpuS: user + system, wallS, peakBytes, stdout: new TextDecoder().decode(stdout) };
  } finally {
    clearInterval(timer);
  }
}

/** Runs all programs in turn, `rounds` times, and gives each one's median by its name.
 * One run before them is not counted. */
export async function measureInTurn<Name extends string>(
  programs: Readonly<Record<Name, Program>>,
  options: { readonly rounds: number; readonly onRun?: (name: Name, cost: Cost) => void },
): Promise<Record<Name, Cost>> {
  const names = Object.keys(programs) as Name[];
  // The first run pays for what all later ones find ready: compiled code, memory of the machine.
  const [first] = names;
  if (first !== undefined) await measureProcess(programs[first]);
  const costs = new Map<Name, Cost[]>(names.map((name) => [name, []]));
  for (let round = 0; round < options.rounds; round++) {
    // Every second round backwards, so that none always runs in the wake of the same other.
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const cost = await measureProcess(programs[name]);
      costs.get(name)?.push(cost);
      options.onRun?.(name, cost);
    }
  }
  return Object.fromEntries(
    names.map((name) => [name, medianCost(costs.get(name) ?? [])]),
  ) as Record<Name, Cost>;
}

function medianCost(costs: readonly Cost[]): Cost {
  return {
    cpuS: median(costs.map((cost) => cost.cpuS)),
    wallS: median(costs.map((cost) => cost.wallS)),
    peakBytes: median(costs.map((cost) => cost.peakBytes)),
    stdout: costs.at(-1)?.stdout ?? "",
  };
}

/** The middle one; the mean of the two middle ones of an even number. NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const low = sorted[Math.floor(middle)] ?? NaN;
  const high = sorted[Math.ceil(middle)] ?? NaN;
  return (low + high) / 2;
}

/** PSS of a process and its descendants; 0 where /proc does not tell (other systems, ended). */
export function treePssBytes(pid: number): number {
  let sum = 0;
  for (const member of [pid, ...descendants(pid)]) {
    try {
      const rollup = Deno.readTextFileSync(`/proc/${member}/smaps_rollup`);
      sum += Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
    } catch {
      // It has ended meanwhile.
    }
  }
  return sum;
}

function descendants(pid: number): number[] {
  try {
    const found: number[] = [];
    for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
      const children = Deno.readTextFileSync(`/proc/${pid}/task/${name}/children`);
      for (const child of children.split(" ").filter((text) => text.trim() !== "")) {
        found.push(Number(child), ...descendants(Number(child)));
      }
    }
    return found;
  } catch {
    return [];
  }
}

/** The processor and how many of it, for the heading of a report. */
export function describeMachine(): string {
  let model: string = Deno.build.arch;
  try {
    const cpu = Deno.readTextFileSync("/proc/cpuinfo");
    model = /^model name\s*:\s*(.+)$/m.exec(cpu)?.[1] ?? model;
  } catch {
    // Not Linux.
  }
  return `${navigator.hardwareConcurrency} x ${model}, ${Deno.build.os}, Deno ${Deno.version.deno}`;
}

/** Rows as a table for a person. */
export function formatTable(rows: readonly Row[]): string {
  const cells = rows.map((line) => [
    line.measure,
    `${figure(line.ours)} ${line.unit}`,
    `${figure(line.peer)} ${line.unit}`,
    line.peerName,
    `${figure(line.ratio)}x`,
    line.goal === undefined ? "" : `${line.ratio <= line.goal ? "✓" : "✗"} ≤ ${line.goal}x`,
  ]);
  const table = [["measure", "ours", "peer", "", "ratio", "goal"], ...cells];
  const widths = table[0]?.map((_, column) =>
    Math.max(...table.map((line) => line[column]?.length ?? 0))
  );
  return table.map((line) =>
    line.map((cell, i) => cell.padEnd(widths?.[i] ?? 0)).join("  ").trimEnd()
  )
    .join("\n");
}

function figure(value: number): string {
  if (!Number.isFinite(value)) return "–";
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
