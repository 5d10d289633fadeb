/**
 * ffmpeg.wasm for one run, away from the thread that serves the cameras.
 *
 * @module
 */
import createCore from "@ffmpeg/core";
import { encodingArguments, type SceneEncoding, type WorkerAnswer } from "./scene_encoder.ts";

/** The part of Emscripten's module that is used here. */
interface Core {
  readonly FS: {
    writeFile(path: string, bytes: Uint8Array): void;
    readFile(path: string): Uint8Array;
  };
  setLogger(logger: (line: { readonly message: string }) => void): void;
  exec(...args: readonly string[]): number;
}

const scope = self as unknown as {
  onmessage: (event: MessageEvent<SceneEncoding>) => void;
  postMessage(answer: WorkerAnswer): void;
};

scope.onmessage = async ({ data: encoding }) => {
  const said: string[] = [];
  let code = -1;
  try {
    const core = await (createCore as unknown as (options: object) => Promise<Core>)({});
    core.setLogger(({ message }) => said.push(message));
    core.FS.writeFile("in", encoding.input);
    code = core.exec(...encodingArguments(encoding, { input: "in", output: "out" }));
    if (code !== 0) throw new Error("it failed");
    scope.postMessage({ bytes: core.FS.readFile("out"), code, said: "" });
  } catch (error) {
    scope.postMessage({ code, said: [...said, String(error)].join("\n") });
  }
};
