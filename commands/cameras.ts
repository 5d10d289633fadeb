/**
 * `camsink cameras`: the cameras of every account and the single ones of the configuration, with
 * the names and ids by which `"cameras": [...]` chooses among them.
 *
 * @module
 */
import { EXIT, type ExitCode, exitCodeOf } from "../core/exit_codes.ts";
import { discoverOnvif } from "../core/sources/onvif/discovery.ts";
import type { AnyCamera } from "../core/types.ts";
import type { CamerasArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { failureText, probeCamera } from "./probes.ts";
import { loadUserConfig, openAccount } from "./rooms.ts";
import { styles } from "./terminal.ts";
import { layOutTable, plainText } from "./text_layout.ts";

/** The size that its account does not tell is that of a picture, where the camera gives one. */
async function pictureSize(
  camera: AnyCamera,
  { clock, stop }: CommandContext,
): Promise<{ widthPx?: number; heightPx?: number }> {
  const { widthPx, heightPx } = camera;
  if (widthPx !== undefined) return { widthPx, ...(heightPx === undefined ? {} : { heightPx }) };
  if (camera.state !== "online") return {};
  const { picture } = await probeCamera(camera.name, { camera, signal: stop, clock });
  return picture === undefined ? {} : { widthPx: picture.widthPx, heightPx: picture.heightPx };
}

interface ListedCamera {
  /** The account's name in the configuration; none for a single camera. */
  readonly account?: string;
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly model?: string;
  readonly widthPx?: number;
  readonly heightPx?: number;
  /** Whether the configuration has it recorded. */
  readonly recorded: boolean;
}

/** Runs `camsink cameras --discover`: who answers ONVIF's call on the local network. */
async function discover(
  { json }: CamerasArguments,
  { terminal, clock, stop }: CommandContext,
): Promise<ExitCode> {
  const found = await discoverOnvif({ clock, signal: stop });
  if (json) terminal.out(JSON.stringify(found));
  else if (found.length === 0) {
    terminal.err(
      "no camera answered: ONVIF may be switched off in its settings, or the network keeps such " +
        "questions to itself; a camera can be given by its address all the same",
    );
  } else {
    for (const { url, name, model } of found) {
      terminal.out(`${url}  ${plainText([name, model].filter(Boolean).join(", "))}`);
    }
    terminal.err('record one with {"type": "onvif", "url": …, "username": …, "password": …}');
  }
  return found.length > 0 ? EXIT.ok : EXIT.unavailable;
}

/** Runs `camsink cameras`. */
export async function cameras(args: CamerasArguments, context: CommandContext): Promise<ExitCode> {
  if (args.discover) return await discover(args, context);
  const { terminal } = context;
  const { config } = await loadUserConfig(args.config);
  const failures: unknown[] = [];
  const lists = await Promise.all(
    Object.entries(config.accounts).filter(([, { enabled }]) => enabled).map(
      async ([name, account]): Promise<readonly ListedCamera[]> => {
        try {
          await using opened = openAccount(name, { config: account, context });
          const wanted = account.cameras;
          const found = await opened.cameras({ signal: context.stop });
          return await Promise.all(found.map(async (camera) => ({
            account: name,
            id: camera.id,
            name: camera.name,
            state: camera.state,
            ...(camera.model === undefined ? {} : { model: camera.model }),
            ...(await pictureSize(camera, context)),
            recorded: wanted === "all" || wanted.includes(camera.id) ||
              wanted.includes(camera.name),
          })));
        } catch (error) {
          failures.push(error);
          const style = styles(terminal.color);
          terminal.err(`${style.red("camsink:")} account ${name}: ${failureText(error)}`);
          return [];
        }
      },
    ),
  );
  const listed: readonly ListedCamera[] = [
    ...lists.flat(),
    ...Object.entries(config.cameras).map(([key, camera]) => ({
      id: key,
      name: camera.name,
      state: "not asked",
      recorded: camera.enabled,
    })),
  ];

  if (args.json) {
    terminal.out(JSON.stringify(listed));
  } else if (listed.length > 0) {
    const style = styles(terminal.dataColor);
    const lines = layOutTable(
      [
        { title: "ACCOUNT", dropOrder: 3 },
        { title: "ID" },
        { title: "NAME" },
        { title: "PICTURE", dropOrder: 2 },
        { title: "STATE" },
        { title: "RECORDED", dropOrder: 1 },
      ],
      listed.map((camera) => [
        { text: camera.account ?? "-" },
        { text: camera.id },
        { text: plainText(camera.name) },
        { text: camera.widthPx ? `${camera.widthPx}x${camera.heightPx}` : "-" },
        {
          text: camera.state,
          ...(camera.state === "offline" ? { style: style.red } : {}),
        },
        { text: camera.recorded ? "yes" : "no" },
      ]),
      // A pipe has no width: nothing is left out of data.
      { width: terminal.isTerminal ? terminal.size().columns : 1000, titleStyle: style.dim },
    );
    for (const line of lines) terminal.out(line);
  } else if (failures.length === 0) {
    terminal.err("camsink: no cameras; add some with: camsink init");
  }
  const [first] = failures;
  if (first === undefined) return EXIT.ok;
  const exitCode = exitCodeOf(first);
  return exitCode === EXIT.failure ? EXIT.unavailable : exitCode;
}
