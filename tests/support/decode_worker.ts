/**
 * ffmpeg.wasm in a worker of its own, for one run: `in.mp4` in, `out.raw` out.
 *
 * @module
 */
import createCore from "@ffmpeg/core";

interface Core {
  FS: {
    writeFile(path: string, bytes: Uint8Array): void;
    readFile(path: string): Uint8Array;
  };
  setLogger(logger: (line: { type: string; message: string }) => void): void;
  exec(...args: string[]): number;
}

declare const self: {
  onmessage: (event: MessageEvent<{ bytes: Uint8Array; args: string[] }>) => void;
  postMessage(message: unknown): void;
};

self.onmessage = async ({ data: { bytes, args } }) => {
  try {
    const core = await (createCore as unknown as (options: object) => Promise<Core>)({});
    const said: string[] = [];
    core.setLogger(({ type, message }) => {
      if (type === "stderr" && message !== "Aborted()") said.push(message);
    });
    core.FS.writeFile("in.mp4", bytes);
    const code = core.exec(...args);
    if (code !== 0) throw new Error(`ffmpeg.wasm cannot decode the clip: ${said.join("\n")}`);
    self.postMessage({ output: core.FS.readFile("out.raw") });
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
};
