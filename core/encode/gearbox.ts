/**
 * Which engine and preset a camera's next GOP is encoded with. The gears stand in a row from best
 * compression to least work, wasm before system; a camera goes to the next one when its encoding was
 * late for several GOPs in a row, or failed several times, and stays there: going back and forth
 * would cost more than it gains, and a machine that was too slow once will be again. Each change is
 * said once, with the figures behind it.
 *
 * @module
 */
import type { Log } from "../types.ts";
import type { GopReport } from "./camera_encoder.ts";
import type { Gear } from "./x264.ts";

/** How a camera is encoded just now. */
export interface EncoderDescription {
  /** For a person: `wasm ultrafast`. */
  readonly name: string;
  /** Multiple of real time; 0 until it has been measured. */
  readonly speed: number;
}

/** An option of a camera by which fewer or smaller pictures are encoded. */
export type LighterOption = "fps" | "width";

/** What a gearbox works with. */
export interface GearboxOptions {
  readonly log: Log;
  /** Which of them a camera has. Default: `fps`. */
  lighterOptions?(camera: string): readonly LighterOption[];
}

/** Pictures that are no wider than this are not advised to be smaller. */
const SMALL_PX = 640;

/** Late GOPs in a row, after which the next gear is taken. */
const LATE_GOPS = 4;
/** Failed GOPs without enough good ones between, after which the next engine is taken. */
const FAILED_GOPS = 3;
/** Good GOPs after which an earlier failure no longer counts. */
const FORGIVEN_AFTER_GOPS = 300;

interface CameraState {
  gear: number;
  speed: number;
  lateInRow: number;
  failures: number;
  goodSinceFailure: number;
  toldFailure: boolean;
  toldBehind: boolean;
}

/** Chooses gears, camera by camera. */
export interface Gearbox {
  gear(camera: string): Gear;
  report(camera: string, report: GopReport): void;
  describe(camera: string): EncoderDescription | undefined;
}

/** Makes a gearbox over `gears`, of which there is at least one. */
export function createGearbox(
  gears: readonly [Gear, ...Gear[]],
  { log, lighterOptions = () => ["fps"] }: GearboxOptions,
): Gearbox {
  const cameras = new Map<string, CameraState>();
  const stateOf = (camera: string): CameraState => {
    let state = cameras.get(camera);
    if (!state) {
      state = {
        gear: 0,
        speed: 0,
        lateInRow: 0,
        failures: 0,
        goodSinceFailure: 0,
        toldFailure: false,
        toldBehind: false,
      };
      cameras.set(camera, state);
    }
    return state;
  };
  const gearOf = (state: CameraState): Gear => gears[state.gear] ?? gears[0];

  const change = (camera: string, state: CameraState, to: number, why: string) => {
    const from = gearOf(state);
    state.gear = to;
    state.lateInRow = 0;
    state.failures = 0;
    state.toldFailure = false;
    state.speed = 0;
    log.warn(`${camera}: ${why}; going from ${nameOf(from)} to ${nameOf(gearOf(state))}`, {
      camera,
      from: nameOf(from),
      to: nameOf(gearOf(state)),
    });
  };

  const encoded = (
    camera: string,
    state: CameraState,
    report: Extract<GopReport, { kind: "encoded" }>,
  ) => {
    const speed = report.spanMs / Math.max(1, report.busyMs);
    state.speed = state.speed === 0 ? speed : 0.8 * state.speed + 0.2 * speed;
    if (++state.goodSinceFailure >= FORGIVEN_AFTER_GOPS) state.failures = 0;
    state.lateInRow = report.late ? state.lateInRow + 1 : 0;
    if (state.lateInRow < LATE_GOPS) return;
    const fps = (report.pictures * 1000 / report.spanMs).toFixed(1);
    const figures =
      `${nameOf(report.gear)} cannot keep up: ${state.speed.toFixed(2)}x real time for ` +
      `${report.widthPx}x${report.heightPx} at ${fps} pictures/s`;
    const lower = state.gear + 1;
    if (lower < gears.length) return change(camera, state, lower, figures);
    state.lateInRow = 0;
    if (state.toldBehind) return;
    state.toldBehind = true;
    const helps = remedies(report, {
      hasSystem: gears.some((gear) => gear.engine === "system"),
      options: lighterOptions(camera),
    });
    log.warn(
      `${camera}: ${figures}; pictures are dropped evenly and counted. What helps: ${helps}`,
      { camera, speed: state.speed },
    );
  };

  const failed = (camera: string, state: CameraState, report: { gear: Gear; error: Error }) => {
    state.failures++;
    state.goodSinceFailure = 0;
    const otherEngine = gears.findIndex((gear, position) =>
      position > state.gear && gear.engine !== report.gear.engine
    );
    if (state.failures >= FAILED_GOPS && otherEngine >= 0) {
      const why = `${nameOf(report.gear)} failed ${state.failures} times (${report.error.message})`;
      return change(camera, state, otherEngine, why);
    }
    const properties = { camera, error: report.error };
    if (state.toldFailure) return log.debug(`${camera}: the encoder failed again`, properties);
    state.toldFailure = true;
    log.warn(`${camera}: the encoder failed, one GOP is lost: ${report.error.message}`, properties);
  };

  return {
    gear: (camera) => gearOf(stateOf(camera)),
    report(camera, report) {
      const state = stateOf(camera);
      // What an engine does that the camera has left already says nothing about the new one.
      if (report.gear !== gearOf(state)) return;
      if (report.kind === "encoded") encoded(camera, state, report);
      else failed(camera, state, report);
    },
    describe(camera) {
      const state = cameras.get(camera);
      return state && { name: nameOf(gearOf(state)), speed: state.speed };
    },
  };
}

/** What would help a camera that the last gear is too slow for: nothing that it cannot do. */
function remedies(
  { widthPx, pictures, spanMs }: Extract<GopReport, { kind: "encoded" }>,
  { hasSystem, options }: {
    readonly hasSystem: boolean;
    readonly options: readonly LighterOption[];
  },
): string {
  const found = [
    ...(hasSystem ? [] : ["a system ffmpeg"]),
    ...(options.includes("fps") && pictures * 1000 > spanMs ? ['a lower "fps"'] : []),
    ...(widthPx <= SMALL_PX ? [] : [
      options.includes("width")
        ? `a lower "width" than ${widthPx}`
        : "smaller pictures, by the camera's own settings or its address",
    ]),
    "the camera's live stream instead of snapshots",
  ];
  return found.length === 1 ? found.join() : `${found.slice(0, -1).join(", ")}, or ${found.at(-1)}`;
}

/** `wasm ultrafast` */
function nameOf(gear: Gear): string {
  return `${gear.engine} ${gear.label}`;
}
