/**
 * The grammar of `camsink simulate`. See `arguments.ts`.
 *
 * @module
 */
import {
  choice,
  command,
  constant,
  integer,
  merge,
  message,
  object,
  option,
  optional,
  or,
  string,
  withDefault,
} from "@optique/core";
import { common, type CommonArguments, examples, fpsValue } from "./grammar.ts";

/** `camsink simulate …`. */
export type SimulateArguments =
  & CommonArguments
  & (
    | {
      readonly command: "simulate nest";
      readonly cameras: number;
      readonly port: number;
      readonly width?: number;
      readonly fps?: number;
    }
    | {
      readonly command: "simulate sdm";
      readonly cameras: number;
      readonly port: number;
      readonly width?: number;
    }
    | {
      readonly command: "simulate camera";
      readonly name: string;
      readonly port: number;
      readonly width?: number;
      readonly fps?: number;
      readonly auth: "none" | "basic" | "digest";
      readonly protocol: "snapshot" | "mjpeg" | "rtsp";
    }
  );

const cameras = withDefault(
  option("--cameras", integer({ min: 1, max: 64, metavar: "NUMBER" }), {
    description: message`How many; default 3.`,
  }),
  3,
);
const port = withDefault(
  option("--port", integer({ min: 0, max: 65535, metavar: "PORT" }), {
    description: message`Where to listen on this machine; 0: any free one.`,
  }),
  0,
);
const width = optional(
  option("--width", integer({ min: 320, max: 3840, metavar: "PIXELS" }), {
    description: message`The widest picture.`,
  }),
);
const fps = optional(
  option("--fps", fpsValue(), { description: message`How often the picture changes, a second.` }),
);

const simulateNest = command(
  "nest",
  merge(
    object({
      command: constant("simulate nest"),
      cameras,
      port,
      width,
      fps,
    }),
    common,
  ),
  {
    brief: message`Serve a Nest cloud with made-up cameras, and print a configuration for it.`,
    footer: examples(
      ["camsink simulate nest > camsink.jsonc", "and in another window: camsink capture"],
    ),
  },
);

const simulateCamera = command(
  "camera",
  merge(
    object({
      command: constant("simulate camera"),
      name: withDefault(
        option("--name", string({ metavar: "NAME" }), {
          description: message`Shown in the picture.`,
        }),
        "Yard",
      ),
      auth: withDefault(
        option("--auth", choice(["none", "basic", "digest"], { metavar: "KIND" }), {
          description: message`none, basic or digest.`,
        }),
        "none" as const,
      ),
      protocol: withDefault(
        option("--protocol", choice(["snapshot", "mjpeg", "rtsp"], { metavar: "KIND" }), {
          description:
            message`snapshot: a picture URL. mjpeg: a stream of JPEGs. rtsp: live H.264 with sound.`,
        }),
        "snapshot" as const,
      ),
      port,
      width,
      fps,
    }),
    common,
  ),
  { brief: message`Serve one camera, and print a configuration for it.` },
);

const simulateSdm = command(
  "sdm",
  merge(
    object({
      command: constant("simulate sdm"),
      cameras,
      port,
      width,
    }),
    common,
  ),
  {
    brief:
      message`Serve Google's Device Access with made-up RTSP and WebRTC cameras, and print a configuration for it.`,
  },
);

/** `camsink simulate …`. */
export const simulate = command("simulate", or(simulateNest, simulateSdm, simulateCamera), {
  brief: message`Serve made-up cameras on this machine, to try things out.`,
});
