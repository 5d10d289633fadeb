/**
 * Turns the `config.json` of foggycam 1.x into a configuration of ours, as text with comments, and
 * notes for the user on what changed its meaning. Knows every key of foggycam 1.0–1.3, and those of
 * the later C# version as far as they mean anything here. No secret of the old file is carried over
 * or shown: each becomes a reference, with a note on what to put there.
 *
 * @module
 */

/** What came of an import. */
export interface FoggycamImport {
  /** The text of a `camsink.jsonc`. */
  readonly config: string;
  /** What the user should know or do, a sentence or two each. */
  readonly notes: readonly string[];
}

/** The keys of foggycam 1.x and of its C# successor; any other one is told as unknown. */
const KNOWN_KEYS: ReadonlySet<string> = new Set([
  "username",
  "password",
  "path",
  "frame_rate",
  "width",
  "threshold",
  "clear_images",
  "produce_video",
  "upload_to_azure",
  "az_account_name",
  "az_sas_token",
  "ffmpeg_path",
  "issue_token",
  "cookie",
  "api_key",
  "user_agent",
  "nest_api_hostname",
  "camera_api_hostname",
  "camera_auth_cookie",
]);

/** What foggycam's own sample file said. */
const SAMPLE = { frameRate: 12, threshold: 200, widthPx: 1280 } as const;

/** Clip lengths that cut at the same moments of every hour, seconds. */
const EVEN_LENGTHS_S = [5, 6, 10, 12, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1800, 3600];

/** About as fast as foggycam 1.0 fetched pictures: one after the other, without a pause. */
const FPS = 2;

/** Reads the keys of the old file, and notes each that is not as expected. */
class OldFile {
  readonly #file: Readonly<Record<string, unknown>>;
  readonly #notes: string[];

  constructor(file: Readonly<Record<string, unknown>>, notes: string[]) {
    this.#file = file;
    this.#notes = notes;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#file, key) && this.#file[key] !== null && this.#file[key] !== "";
  }

  text(key: string): string {
    const value = this.#file[key];
    return typeof value === "string" ? value.trim() : "";
  }

  number(key: string, { standard, min, max }: { standard: number; min: number; max: number }) {
    if (!this.has(key)) return standard;
    const value = this.#file[key];
    const number = typeof value === "number" || typeof value === "string" ? Number(value) : NaN;
    if (number >= min && number <= max) return number;
    this.#notes.push(
      `${key}: expected a number from ${min} to ${max}; ${standard} is taken instead.`,
    );
    return standard;
  }

  /**
   * A switch. foggycam took any text that was not empty for true, also "false"; what was written is
   * what is meant here.
   */
  flag(key: string, standard: boolean): boolean {
    if (!this.has(key)) return standard;
    const value = this.#file[key];
    if (typeof value === "boolean") return value;
    if (value === 0 || value === 1) return value === 1;
    const word = typeof value === "string" ? value.trim().toLowerCase() : "";
    if (["false", "no", "off", "0"].includes(word)) {
      this.#notes.push(
        `${key}: the text "${word}" is taken for false, as it was surely meant; foggycam took ` +
          "every text for true.",
      );
      return false;
    }
    if (["true", "yes", "on", "1"].includes(word)) return true;
    this.#notes.push(`${key}: expected true or false; ${standard} is taken instead.`);
    return standard;
  }
}

/**
 * Imports the parsed content of a foggycam `config.json`. Missing keys get foggycam's own values.
 *
 * @throws {TypeError} if `json` is not an object
 */
export function importFoggycam(
  json: unknown,
  options: { readonly account?: string } = {},
): FoggycamImport {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new TypeError(
      `this is no foggycam configuration: expected an object with keys such as "username", got ${
        Array.isArray(json) ? "a list" : json === null ? "null" : `a ${typeof json}`
      }`,
    );
  }
  const notes: string[] = [];
  const file: Readonly<Record<string, unknown>> = Object.fromEntries(Object.entries(json));
  const old = new OldFile(file, notes);
  const quote = (value: unknown) => JSON.stringify(value);

  const credentials = loginOf(old, notes);
  const widthPx = Math.round(
    old.number("width", { standard: SAMPLE.widthPx, min: 64, max: 4096 }),
  );
  const lengthS = clipLengthS(old, notes);
  if (!old.flag("produce_video", true)) {
    notes.push(
      "produce_video was false: Camsink always makes video and keeps no single pictures.",
    );
  } else if (!old.flag("clear_images", true)) {
    notes.push(
      "clear_images was false: Camsink writes no single pictures to the disk, so there are none " +
        "to keep. The pictures in the clips are the same.",
    );
  }
  const folder = old.text("path");
  if (folder !== "") {
    notes.push(
      `path: clips go to ${quote(folder)} as CAMERA/YEAR/MONTH/DAY/TIME.mp4, times in UTC; ` +
        "foggycam's own files in its capture folder stay as they are.",
    );
  }
  const azure = azureOf(old, notes);
  for (const key of ["api_key", "user_agent", "nest_api_hostname", "camera_api_hostname"]) {
    if (old.has(key)) notes.push(`${key}: not needed any more, left out.`);
  }
  const unknown = Object.keys(file).filter((key) => !KNOWN_KEYS.has(key));
  if (unknown.length > 0) {
    // Their values are not shown: nobody knows what they are.
    notes.push(`Keys that foggycam did not have were left out: ${unknown.map(quote).join(", ")}.`);
  }

  const encoder = old.has("ffmpeg_path")
    ? [`  "encoder": { "path": ${quote(old.text("ffmpeg_path"))} },`]
    : [];
  const lines = [
    "// Made from foggycam's config.json. Try it with: camsink check",
    "{",
    '  "accounts": {',
    `    ${quote(options.account ?? "home")}: {`,
    '      "type": "nest",',
    ...credentials,
    '      "cameras": "all",',
    `      "width": ${widthPx},`,
    "      // Pictures a second. (foggycam's frame_rate was the speed of playing, not of capturing.)",
    `      "fps": ${FPS}`,
    "    }",
    "  },",
    "  // Clips play in real time and are cut at multiples of this.",
    `  "clip": { "length": "${lengthS}s" },`,
    ...encoder,
    '  "sinks": {',
    `    "local": { "type": "local-folder", "path": ${quote(folder || "./clips")} }${
      azure.isActive ? "," : ""
    }`,
    ...azure.lines,
    "  }",
    "}",
    "",
  ];
  return { config: lines.join("\n"), notes };
}

/** The account's credentials: always by reference. */
function loginOf(old: OldFile, notes: string[]): string[] {
  const isGoogle = old.has("issue_token") || old.has("cookie");
  if (old.has("username") || old.has("password")) {
    notes.push(
      "username and password: Nest's password login is dead (it has been refused for accounts of " +
        "every kind since 2019), so both were left out. Take them out of the old file too.",
    );
  }
  notes.push(
    isGoogle
      ? "issue_token and cookie: they were not copied. Put the one into NEST_ISSUE_TOKEN, the " +
        "other into NEST_COOKIE; those in the old file have most likely run out, so take new ones."
      : "A Nest account that was never moved to Google: log in at https://home.nest.com, open " +
        "https://home.nest.com/session, and put the first access_token there into the " +
        "environment variable NEST_TOKEN. It lasts about 30 days.",
    "A Google account (also a Nest account that was moved to Google): log in at " +
      "https://home.nest.com in Firefox or in a private window of Safari with the developer tools " +
      "open (cookies from Chrome die within hours); the request with issueToken in its address " +
      "gives NEST_ISSUE_TOKEN (its address) and NEST_COOKIE (its Cookie header, which must hold " +
      'SIDCC). Use "issueToken" and "cookie" in place of "accessToken". Close the window without ' +
      "logging out.",
  );
  const byToken = '"accessToken": "env:NEST_TOKEN",';
  const byCookie = ['"issueToken": "env:NEST_ISSUE_TOKEN",', '"cookie": "env:NEST_COOKIE",'];
  return isGoogle
    ? [
      "      // A Google account. Each may also be a file: file:/path (chmod 600).",
      ...byCookie.map((line) => `      ${line}`),
    ]
    : [
      "      // A Nest account that was never moved to Google. May also be file:/path (chmod 600).",
      `      ${byToken}`,
      "      // A Google account has these two in place of it:",
      ...byCookie.map((line) => `      // ${line}`),
    ];
}

/**
 * foggycam made a video of every `threshold` pictures and played them at `frame_rate`, so the length
 * of its videos was the one by the other; ours have that length and show it as it was.
 */
function clipLengthS(old: OldFile, notes: string[]): number {
  const frames = old.number("threshold", { standard: SAMPLE.threshold, min: 1, max: 1e6 });
  const rate = old.number("frame_rate", { standard: SAMPLE.frameRate, min: 0.1, max: 1000 });
  const playedS = frames / rate;
  const lengthS = EVEN_LENGTHS_S.reduce((best, one) =>
    Math.abs(Math.log(one / playedS)) < Math.abs(Math.log(best / playedS)) ? one : best
  );
  const round = (seconds: number) =>
    seconds < 10 ? seconds.toFixed(1) : String(Math.round(seconds));
  notes.push(
    `threshold ${frames} and frame_rate ${rate}: foggycam made a video of every ${frames} ` +
      `pictures, which played for ${round(playedS)} s whatever time they had taken. Camsink's ` +
      `clips play in real time, so the clip length is set to ${lengthS} s, the nearest that cuts ` +
      `at the same moments of every hour. For ${frames} pictures in each clip at ${FPS} a second ` +
      `set clip.length to "${Math.min(86_400, Math.max(1, Math.round(frames / FPS)))}s".`,
  );
  return lengthS;
}

/** `mystorage` out of `mystorage` or of the account's whole address. */
function accountNameOf(text: string): string | undefined {
  const name = /^(?:https?:\/\/)?([a-z0-9]{3,24})(?:\.blob\.[\w.-]+)?\/?$/i.exec(text)?.[1];
  return name?.toLowerCase();
}

/** When a SAS token ends; that part of it is no secret. */
function endOf(sasToken: string): Date | undefined {
  const end = new Date(new URLSearchParams(sasToken.replace(/^\?/, "")).get("se") ?? "");
  return Number.isNaN(end.getTime()) ? undefined : end;
}

function azureOf(old: OldFile, notes: string[]): { lines: string[]; isActive: boolean } {
  const enabled = old.flag("upload_to_azure", false);
  const account = accountNameOf(old.text("az_account_name"));
  if (old.has("az_sas_token")) {
    const end = endOf(old.text("az_sas_token"));
    const ended = end === undefined
      ? ""
      : ` The old one ends on ${end.toISOString().slice(0, 10)}.`;
    notes.push(
      "az_sas_token: it was not copied. Put it, or better a new one with the permissions read, " +
        `write, list and create, into the environment variable AZURE_SAS.${ended}`,
    );
  } else if (enabled) {
    notes.push(
      "az_sas_token is missing: make one with the permissions read, write, list and create, and " +
        "put it into the environment variable AZURE_SAS.",
    );
  }
  if (old.has("az_account_name") && account === undefined) {
    notes.push(
      "az_account_name: expected the name of a storage account (3 to 24 letters and digits); the " +
        'Azure sink was left as a comment. Fill in "account" and take the comment marks away.',
    );
  } else if (enabled && account === undefined) {
    notes.push(
      "upload_to_azure was true but az_account_name is missing; the Azure sink was left as a " +
        'comment. Fill in "account" and take the comment marks away.',
    );
  }
  const lines = [
    '"azure": {',
    '  "type": "azure-blob",',
    // Foggycam's upload_to_azure.
    `  "enabled": ${account === undefined ? true : enabled},`,
    `  "account": ${JSON.stringify(account ?? "mystorage")},`,
    '  "sasToken": "env:AZURE_SAS",',
    '  // foggycam\'s container. "{camera}" gives each camera a container of its own.',
    '  "container": "foggycam"',
    "}",
  ];
  return account === undefined
    ? { lines: lines.map((line) => `    // ${line}`), isActive: false }
    : { lines: lines.map((line) => `    ${line}`), isActive: true };
}
