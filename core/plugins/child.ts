/**
 * The child process around a plugin: starts the worker that the plugin runs in, hands messages on
 * between it and the program, watches its memory, and ends when the program does. It runs none of the
 * plugin's code itself, so it stays awake whatever the plugin does. An entry of its own.
 *
 * @module
 */
import { programFile } from "../program.ts";
import {
  type FromPlugin,
  messageFrame,
  MOST_MESSAGE_BYTES,
  type StartMessage,
} from "./messages.ts";
import { PROGRAM_VARIABLES } from "./rights.ts";

/** Looked at so often, ms. */
const MEMORY_EVERY_MS = 100;

const output = Deno.stdout.writable.getWriter();
/** Messages that the program has not taken yet; a plugin that talks faster is ended. */
let waitingBytes = 0;
const MOST_WAITING_BYTES = 16 * 1024 * 1024;

function send(message: FromPlugin): void {
  const frame = messageFrame(message);
  if (frame.length > MOST_MESSAGE_BYTES) {
    return die(`it answered with ${frame.length} bytes; at most ${MOST_MESSAGE_BYTES} are taken`);
  }
  if (waitingBytes > MOST_WAITING_BYTES) return die("it sends more messages than can be read");
  waitingBytes += frame.length;
  output.write(frame).then(() => waitingBytes -= frame.length, () => Deno.exit(0));
}

let isDying = false;

/** The last word. It does not wait for the worker, which may never come to rest. */
function die(message: string): void {
  if (isDying) return;
  isDying = true;
  const exit = () => Deno.exit(70);
  output.write(messageFrame({ t: "dying", message })).then(exit, exit);
  setTimeout(exit, 500);
}

const mostBytes = Number(Deno.args[0] ?? 0);
setInterval(() => {
  const { rss } = Deno.memoryUsage();
  if (rss > mostBytes) {
    die(
      `it uses ${Math.round(rss / 1e6)} MB of memory; ${Math.round(mostBytes / 1e6)} are allowed`,
    );
  }
}, MEMORY_EVERY_MS);

let worker: Worker | undefined;

/** The proxy is read later on, so it stays. */
const KEPT = /^(https?|no|all)_proxy$/i;

function start(message: StartMessage): void {
  try {
    // The certificates to trust are read now, for the variables that name them go.
    Deno.createHttpClient({}).close();
  } catch {
    // Told when a connection needs them.
  }
  const runs = Array.isArray(message.permissions?.run);
  for (const name of Object.keys(Deno.env.toObject())) {
    // Read when it was started; nothing of it is the plugin's business.
    if (!KEPT.test(name) && !(runs && PROGRAM_VARIABLES.test(name))) Deno.env.delete(name);
  }
  // Only what is imported by name is loaded with this process's rights: the plugin's own were found
  // out beforehand. The shims come first, so that nothing of the plugin runs without them.
  const source = `import { serve, start } from ${
    JSON.stringify(programFile("core/plugins/worker.ts").href)
  };
start();
serve(import(${JSON.stringify(message.plugin)}));`;
  worker = new Worker(`data:text/javascript,${encodeURIComponent(source)}`, {
    type: "module",
    name: "plugin",
    // deno-lint-ignore no-explicit-any -- the option is unstable and has no type
    ...{ deno: { permissions: message.permissions } } as any,
  });
  worker.onmessage = ({ data }) => send(data as FromPlugin);
  worker.onmessageerror = () => die("it sent what cannot be read");
  worker.onerror = (event) => {
    event.preventDefault();
    die(event.message);
  };
  worker.postMessage(message);
}

/** So many bytes, read to where they stay: those of a clip are copied nowhere else. */
async function read(length: number): Promise<Uint8Array<ArrayBuffer>> {
  const into = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const count = await Deno.stdin.read(into.subarray(at));
    if (count === null) throw new Error("the program is gone");
    at += count;
  }
  return into;
}

try {
  // The program is trusted: its frames are as long as they like.
  for (;;) {
    // The head of a clip's bytes; a message, whose JSON is longer than that, has begun by then.
    const head = await read(9);
    const view = new DataView(head.buffer);
    const length = view.getUint32(0);
    if (head[4] === 1) {
      const bytes = await read(length - 5);
      worker?.postMessage({ stream: view.getUint32(5), bytes }, [bytes.buffer]);
      continue;
    }
    const rest = await read(length - 5);
    const text = new Uint8Array(length - 1);
    text.set(head.subarray(5));
    text.set(rest, 4);
    const message = JSON.parse(new TextDecoder().decode(text));
    if (message.t === "start") start(message as StartMessage);
    else worker?.postMessage({ message });
  }
} finally {
  Deno.exit(0); // the program is gone
}
