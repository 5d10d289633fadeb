/**
 * `camsink update --check`: is there a newer release? It asks only when it is run, sends nothing but
 * the request, and never changes the program.
 *
 * @module
 */
import { EXIT, type ExitCode, withExitCode } from "../core/exit_codes.ts";
import { release } from "../core/program.ts";
import type { UpdateArguments } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { plainText } from "./text_layout.ts";
import { VERSION } from "./version.ts";

/** An answer longer than this is no announcement. */
const MAX_BYTES = 1_000_000;
const TIMEOUT_MS = 10_000;

/** What a release says of itself to those who have another. */
export interface Announcement {
  readonly version: string;
  /** Where people read about it and download it. */
  readonly url?: string;
}

/** Runs `camsink update --check`: exit code 0 if this is the newest, 1 if there is a newer one. */
export async function update(args: UpdateArguments, context: CommandContext): Promise<ExitCode> {
  const { terminal, stop } = context;
  const address = args.from ?? (Deno.env.get("CAMSINK_UPDATE_URL") || release?.releases);
  if (address === undefined) {
    throw withExitCode(
      new Error(
        "whoever made this program did not say where newer ones are announced; " +
          "give the address by --from URL or CAMSINK_UPDATE_URL",
      ),
      EXIT.usage,
    );
  }
  const latest = await fetchAnnouncement(address, { signal: stop, fetch });
  const newer = compareVersions(latest.version, VERSION) > 0;
  if (args.json) {
    terminal.out(JSON.stringify({ installed: VERSION, latest: latest.version, newer, ...latest }));
  } else if (newer) {
    terminal.out(
      plainText(
        `Camsink ${latest.version} is out; this is ${VERSION}.` +
          (latest.url === undefined ? "" : ` Get it from ${latest.url}`),
      ),
    );
  } else {
    terminal.out(plainText(`This is Camsink ${VERSION}, and the newest is ${latest.version}.`));
  }
  return newer ? EXIT.failure : EXIT.ok;
}

/**
 * Asks for the newest release.
 *
 * @throws with exit code 69 if it is not told
 */
export async function fetchAnnouncement(
  address: string,
  options: { readonly signal: AbortSignal; readonly fetch: typeof fetch },
): Promise<Announcement> {
  const failed = (what: string, cause?: unknown) =>
    withExitCode(
      new Error(
        `${hostOf(address)} does not tell the newest release: ${what}; ` +
          "another address is given by --from URL or CAMSINK_UPDATE_URL",
        { cause },
      ),
      EXIT.unavailable,
    );
  let text = "";
  try {
    const response = await options.fetch(address, {
      headers: { accept: "application/json", "user-agent": `Camsink/${VERSION}` },
      signal: AbortSignal.any([options.signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    const decoder = new TextDecoder();
    for await (const bytes of response.body ?? []) {
      text += decoder.decode(bytes, { stream: true });
      if (text.length > MAX_BYTES) throw new Error("its answer has no end");
    }
  } catch (error) {
    options.signal.throwIfAborted();
    throw failed(error instanceof Error ? error.message : String(error), error);
  }
  const found = parseAnnouncement(text);
  if (found === undefined) {
    throw failed('expected JSON with "version" or "tag_name" such as "2.1.0"');
  }
  return found;
}

/** Reads an announcement; nothing where it is none. */
export function parseAnnouncement(text: string): Announcement | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { version, tag_name, url, html_url } = value as Record<string, unknown>;
  const name = String(version ?? tag_name ?? "").replace(/^v/, "");
  if (!/^\d{1,9}\.\d{1,9}\.\d{1,9}(-[0-9A-Za-z.-]{1,60})?$/.test(name)) return undefined;
  const page = [html_url, url].find((one) => typeof one === "string" && /^https?:\/\//.test(one));
  return { version: name, ...(page === undefined ? {} : { url: String(page).slice(0, 500) }) };
}

/** Semantic versions in their order: below 0 if `a` is the older. Of pre-releases only that they are. */
export function compareVersions(a: string, b: string): number {
  const [coreA = "", preA] = a.split(/-(.*)/);
  const [coreB = "", preB] = b.split(/-(.*)/);
  const numbersB = coreB.split(".").map(Number);
  for (const [index, number] of coreA.split(".").map(Number).entries()) {
    const difference = number - (numbersB[index] ?? 0);
    if (difference !== 0) return difference;
  }
  if (preA === preB) return 0;
  if (preA === undefined) return 1;
  if (preB === undefined) return -1;
  return preA < preB ? -1 : 1;
}

/** The host alone: an address may hold a token. */
function hostOf(address: string): string {
  try {
    return new URL(address).host;
  } catch {
    return "the given address";
  }
}
