/**
 * Takes secrets out of text that a person or another program will see. Two nets, because either
 * alone has holes: every value that was revealed in this process is looked for in the forms in which
 * it may have been written on the way (URL-encoded, base64 at any alignment, hex, JSON- or
 * HTML-escaped, and one of these inside another), and whatever stands where a secret usually stands
 * (`sig=…`, `Authorization: …`, `://user:password@`) is taken out unseen.
 *
 * @module
 */
import { revealedSecrets } from "./config/values.ts";

/** What stands in a secret's place. */
export const MASK = "***";

const utf8 = new TextEncoder();

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function binaryOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

/**
 * The base64 of a text wherever it stands within a longer one, such as the password in the base64
 * of `user:password`: for each of the three alignments, the characters that depend on it alone.
 */
function base64Cores(text: string): string[] {
  const bytes = utf8.encode(text);
  return [0, 1, 2].flatMap((before) => {
    const padded = new Uint8Array(before + bytes.length);
    padded.set(bytes, before);
    const coded = btoa(binaryOf(padded)).replaceAll("=", "");
    // A character holds 6 bits: the ones that share bits with a neighbour's byte are left out.
    const first = Math.ceil(before * 8 / 6);
    const last = Math.floor(padded.length * 8 / 6);
    const core = coded.slice(first, last);
    return [core, core.replaceAll("+", "-").replaceAll("/", "_")];
  });
}

/** Lower-case percent codes, as some clients write them. */
function lowerPercent(text: string): string {
  return text.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase());
}

function percentEncoded(text: string): string {
  try {
    return encodeURIComponent(text);
  } catch {
    return text; // a lone surrogate has no URL form
  }
}

function unicodeEscaped(text: string): string {
  let result = "";
  for (let i = 0; i < text.length; i++) {
    result += `\\u${text.charCodeAt(i).toString(16).padStart(4, "0")}`;
  }
  return result;
}

/** Each way in which a program may write a text into another. */
const ENCODINGS: readonly ((text: string) => readonly string[])[] = [
  (text) => [percentEncoded(text), lowerPercent(percentEncoded(text))],
  // RFC 3986 also lets these be encoded, and form encoding writes a space as "+".
  (text) => {
    const strict = percentEncoded(text).replace(
      /[!'()*]/g,
      (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
    );
    return [strict, lowerPercent(strict), strict.replaceAll("%20", "+")];
  },
  (text) => {
    const every = hexOf(utf8.encode(text)).replace(/../g, "%$&");
    return [every, every.toUpperCase()];
  },
  base64Cores,
  (text) => {
    const hex = hexOf(utf8.encode(text));
    return [hex, hex.toUpperCase(), hex.match(/../g)?.join(" ") ?? hex];
  },
  (text) => [JSON.stringify(text).slice(1, -1)],
  (text) => [text.replaceAll("/", "\\/")],
  (text) => [unicodeEscaped(text), unicodeEscaped(text).toUpperCase().replaceAll("\\U", "\\u")],
  (text) => {
    const html = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;");
    return [html, html.replaceAll("'", "&#39;"), html.replaceAll("'", "&apos;")];
  },
];

/** The parts of a compound secret that open something alone: `sig` of a SAS, `AccountKey`, cookies. */
function partsOf(secret: string): string[] {
  return secret.split(/[?&;\s]+/).flatMap((part) => {
    const at = part.indexOf("=");
    const value = part.slice(at + 1);
    if (at <= 0 || value.length < 16) return [];
    // What is public in a connection string or a SAS: names, hosts, dates.
    if (/^(AccountName|.*Endpoint.*|https?:|se|st|sv|ske|skt)$/i.test(part.slice(0, at))) return [];
    if (/^https?:/.test(value)) return [];
    return [value];
  });
}

const formsBySecret = new Map<string, readonly string[]>();

/** Every form of a secret that is looked for, longest first. */
function formsOf(secret: string): readonly string[] {
  const known = formsBySecret.get(secret);
  if (known !== undefined) return known;
  const forms = new Set<string>();
  for (const text of [secret, ...partsOf(secret)]) {
    forms.add(text);
    const once = ENCODINGS.flatMap((encode) => encode(text));
    for (const form of once) {
      forms.add(form);
      for (const twice of ENCODINGS.flatMap((encode) => encode(form))) forms.add(twice);
    }
  }
  // Short cores would blank out ordinary words.
  const long = [...forms].filter((form) => form.length >= 6).sort((a, b) => b.length - a.length);
  formsBySecret.set(secret, long);
  return long;
}

const TOKEN = String.raw`[^\s"'&;,<>\\)}\]]`;

/** Where secrets usually stand. Each keeps what names the place and takes out what stands there. */
const PLACES: readonly (readonly [RegExp, string])[] = [
  // The look-behind leaves paths of the configuration alone: `accounts.home.cookie: missing, …`.
  [
    /(?<![.\w])((?:proxy-)?authorization)(["']?\s*[:=]\s*["']?)(?:(?:basic|bearer)\s+[^\s"',]+|digest\s[^\r\n]+|[^\s"',]{8,})/gi,
    `$1$2${MASK}`,
  ],
  [/(?<![.\w])((?:set-)?cookie)(["']?\s*:\s*["']?)[^\r\n"'=]*=[^\r\n"']*/gi, `$1$2${MASK}`],
  [/\b(bearer|basic)(\s+)(?=\S*[0-9=])[A-Za-z0-9+/_.~-]{12,}=*/gi, `$1$2${MASK}`],
  [
    new RegExp(
      String.raw`\b(sig|auth|access_?token|refresh_?token|id_token|session_?token|user_token` +
        String.raw`|issue_?token|website_2|website_ft|cztoken|api_?key|client_?secret|sas_?token` +
        String.raw`|password|passwd|pwd|AccountKey|SharedAccessKey|SharedAccessSignature)` +
        String.raw`(["']?=["']?|%3[dD]|["']\s*:\s*["'])${TOKEN}+`,
      "gi",
    ),
    `$1$2${MASK}`,
  ],
  [/(:\/\/)[^\s/?#@"']+@/g, `$1${MASK}@`],
  // JWT, Google and Nest tokens look like nothing else.
  [/\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g, MASK],
  [/\bya29\.[\w.-]{16,}/g, MASK],
  [/\b[bg]\.(?:0\.)?[\w-]*\d[\w.-]{18,}/g, MASK],
];

/** The text without secrets. */
export function redact(text: string): string {
  let result = text;
  for (const secret of revealedSecrets) {
    for (const form of formsOf(secret)) {
      if (result.includes(form)) result = result.replaceAll(form, MASK);
    }
  }
  for (const [place, kept] of PLACES) result = result.replace(place, kept);
  return result;
}

/** Names of properties whose values are never shown. */
export function namesSecret(name: string): boolean {
  return /(?:password|passwd|secret|token|cookie|authorization|credential|api_?key|account_?key|connection_?string|sas_?url)s?$/i
    .test(name);
}
