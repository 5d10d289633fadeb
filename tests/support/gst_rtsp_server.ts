/**
 * GStreamer's RTSP server as a camera that is not ours: started with pipelines for its paths, on a
 * free port, and ended with the test.
 *
 * @module
 */
import { fileURLToPath } from "node:url";

/** What is served and how. */
export interface GstServerOptions {
  /** A launch line for each path, with payloaders `pay0` and `pay1`. */
  readonly streams: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly password?: string;
  readonly digest?: "md5";
  /** PEM file with certificate and key: RTSPS. */
  readonly cert?: string;
  readonly protocols?: "tcp" | "udp";
  /** False: every viewer gets a pipeline of its own. */
  readonly shared?: boolean;
}

/** A running server. */
export interface GstServer extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
}

/** Debian's own: the bindings are not in others. */
export const GST_PYTHON = "/usr/bin/python3";

/** Why tests with it are left out, or that they are not. */
export const gst: { readonly ignore: boolean; readonly reason: string } = (() => {
  try {
    const { success } = new Deno.Command(GST_PYTHON, {
      args: ["-c", 'import gi; gi.require_version("GstRtspServer", "1.0")'],
      stdout: "null",
      stderr: "null",
    }).outputSync();
    if (success) return { ignore: false, reason: "" };
  } catch {
    // No Python.
  }
  return { ignore: true, reason: " (skipped: gir1.2-gst-rtsp-server-1.0 not installed)" };
})();

/** Starts it. @throws with what it said if it does not come up */
export async function startGstServer(options: GstServerOptions): Promise<GstServer> {
  const script = fileURLToPath(new URL("./gst_rtsp_server.py", import.meta.url));
  const child = new Deno.Command(GST_PYTHON, {
    args: ["-W", "ignore", script, JSON.stringify(options)],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let value = "";
  while (!value.includes("\n")) {
    const read = await reader.read();
    if (read.done) break;
    value += read.value;
  }
  const port = Number(/^PORT (\d+)/.exec(value)?.[1]);
  const close = async () => {
    await child.stdin.close().catch(() => {});
    await reader.cancel().catch(() => {});
    await child.status;
  };
  if (!(port > 0)) {
    await close();
    throw new Error(`GStreamer's RTSP server did not start: ${value}`);
  }
  return { port, pid: child.pid, [Symbol.asyncDispose]: close };
}
