/**
 * `camsink check`: everything that a recording needs is tried once, all at the same time, and what
 * fails is said together with its remedy. It leaves no trace: no clip, no file, no blob.
 *
 * @module
 */
import { ConfigError, type LoadedConfig } from "../core/config/load.ts";
import { EXIT, type ExitCode, exitCodeOf } from "../core/exit_codes.ts";
import type { CheckArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { probeEncoder } from "./probe_encoder.ts";
import {
  failureText,
  type Finding,
  probeAccount,
  probeCamera,
  probeDisk,
  type ProbeOptions,
  probeSink,
} from "./probes.ts";
import { lighterOptions, loadUserConfig, openAccount, openCamera, openSink } from "./rooms.ts";
import { whereOf } from "./where.ts";
import { styles, type Terminal } from "./terminal.ts";
import { plainText, textWidth } from "./text_layout.ts";

/** Below this a recording would soon stand still. */
const NEEDED_BYTES = 2e9;

/** Runs `camsink check`. */
export async function check(args: CheckArguments, context: CommandContext): Promise<ExitCode> {
  const { terminal } = context;
  const show = args.json ? () => {} : (finding: Finding) => showFinding(finding, terminal);
  const findings = await findAll(args.config, { context, show });
  const failed = findings.filter(({ ok }) => !ok);
  const exitCode = failed[0]?.exitCode ?? (failed.length > 0 ? EXIT.failure : EXIT.ok);
  if (args.json) {
    terminal.out(JSON.stringify({ event: "check", ok: failed.length === 0, exitCode, findings }));
  } else {
    const style = styles(terminal.dataColor);
    terminal.out(
      failed.length === 0
        ? style.green(`All ${findings.length} hold. Record with: camsink capture`)
        : style.red(`${failed.length} of ${findings.length} failed.`),
    );
  }
  return exitCode;
}

/** Tries everything; each finding is shown as soon as it is there. */
async function findAll(
  explicit: string | undefined,
  { context, show }: {
    readonly context: CommandContext;
    readonly show: (finding: Finding) => void;
  },
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const report = (finding: Finding) => {
    findings.push(finding);
    show(finding);
    return finding;
  };
  let loaded: LoadedConfig;
  try {
    loaded = await loadUserConfig(explicit);
  } catch (error) {
    if (exitCodeOf(error) !== EXIT.config) throw error;
    const details = error instanceof ConfigError
      ? error.problems.map(({ text }) => text)
      : [failureText(error)];
    for (const detail of details) {
      report({
        what: "config",
        name: explicit ?? "camsink.jsonc",
        ok: false,
        detail,
        exitCode: EXIT.config,
      });
    }
    return findings;
  }
  const { config, path } = loaded;
  const options: ProbeOptions = { signal: context.stop, clock: context.clock };
  report({ what: "config", name: path, ok: true, detail: "read and understood" });

  const accounts = Object.entries(config.accounts).filter(([, { enabled }]) => enabled);
  const cameras = Object.values(config.cameras).filter(({ enabled }) => enabled);
  const sinks = Object.entries(config.sinks).filter(([, { enabled }]) => enabled);
  if (accounts.length + cameras.length === 0) {
    report({
      what: "config",
      name: path,
      ok: false,
      detail: "no account and no camera is switched on",
      fix: "add one, or run: camsink init",
      exitCode: EXIT.config,
    });
  }

  await Promise.all([
    ...accounts.map(async ([name, account]) => {
      await using opened = openAccount(name, { config: account, context });
      const { finding, cameras } = await probeAccount(name, { account: opened, ...options });
      report(finding);
      if (!finding.ok) return;
      const wanted = account.cameras;
      for (const missing of missingCameras(wanted, cameras)) {
        report({
          what: "camera",
          name: `${name}/${missing}`,
          ok: false,
          detail: "the account has no camera of this name or id",
          fix: "camsink cameras lists those that it has",
          exitCode: EXIT.config,
        });
      }
      await Promise.all(
        cameras
          .filter(({ id, name }) =>
            wanted === "all" || wanted.includes(id) || wanted.includes(name)
          )
          .map(async (camera) =>
            report(
              await probeCamera(`${name}/${camera.name}`, { camera, ...options }),
            )
          ),
      );
    }),
    ...cameras.map(async (camera) => {
      try {
        const source = openCamera({ config: camera, context });
        report(await probeCamera(camera.name, { camera: { source }, ...options }));
      } catch (error) {
        report({ what: "camera", name: camera.name, ok: false, detail: failureText(error) });
      }
    }),
    ...sinks.map(async ([name, sink]) =>
      report(
        await probeSink(name, {
          open: () => openSink(name, { config: sink, context }),
          where: await whereOf(sink),
          ...options,
        }),
      )
    ),
  ]);
  // After the others: it takes all of the processor.
  const loads = findings.flatMap(({ what, name, picture }) => {
    if (what !== "camera" || picture?.codec !== "jpeg") return [];
    const [accountName] = accounts.find(([account]) => name.startsWith(`${account}/`)) ?? [];
    const options = accountName === undefined
      ? cameras.find((camera) => camera.name === name)?.options
      : config.accounts[accountName]?.options;
    return [{ ...picture, fps: fpsOf(options), lighterOptions: lighterOptions(config, name) }];
  });
  if (loads.length > 0) report(await probeEncoder(config.encoder, { context, loads }));
  report(await probeDisk(config.spool.path, { neededBytes: NEEDED_BYTES }));
  return findings;
}

function fpsOf(options: unknown): number {
  const fps: unknown = Object.getOwnPropertyDescriptor(options ?? {}, "fps")?.value;
  return typeof fps === "number" ? fps : 1;
}

function missingCameras(
  wanted: "all" | readonly string[],
  found: readonly { readonly id: string; readonly name: string }[],
): readonly string[] {
  if (wanted === "all") return [];
  return wanted.filter((name) =>
    !found.some((camera) => camera.id === name || camera.name === name)
  );
}

/** `✓ camera   home/Front Door  1280x720 jpeg, 84 kB in 0.2 s`, and the remedy below a ✗. */
function showFinding(finding: Finding, terminal: Terminal): void {
  const style = styles(terminal.dataColor);
  const name = plainText(finding.name);
  const padding = " ".repeat(Math.max(0, 24 - textWidth(name)));
  const sign = finding.ok ? style.green("✓") : style.red("✗");
  terminal.out(
    `${sign} ${finding.what.padEnd(7)}  ${name}${padding}  ${plainText(finding.detail)}`,
  );
  if (finding.fix !== undefined) terminal.out(`    ${style.yellow("fix:")} ${finding.fix}`);
}
