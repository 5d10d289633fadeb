/**
 * Takes secrets out of text that a person or another program will see. Two nets, because either
 * alone has holes: every value that was revealed in this process is looked for in the forms in which
 * it may have been written on the way, and whatever stands where a secret usually stands (`sig=…`,
 * `Authorization: …`, `://user:password@`) is taken out unseen.
 *
 * The forms: escapes (percent codes, JSON, HTML) are undone layer by layer while remembering where
 * each character came from, and the secret is looked for below each layer. Base64 and hex cannot be
 * undone where their beginning is not known, so there the secret's coded form is looked for.
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

function percentEncoded(text: string): string {
  try {
    return encodeURIComponent(text);
  } catch {
    return text; // a lone surrogate has no URL form
  }
}

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

const textsBySecret = new Map<string, readonly string[]>();

/** What is looked for on account of a secret, longest first: itself and its coded forms. */
export function secretForms(secret: string): readonly string[] {
  const known = textsBySecret.get(secret);
  if (known !== undefined) return known;
  const texts = new Set<string>();
  for (const text of [secret, ...partsOf(secret)]) {
    texts.add(text);
    texts.add(text.replaceAll(" ", "+")); // form encoding
    // What a program may have done to a secret before it coded the result.
    const before = [text, percentEncoded(text), JSON.stringify(text).slice(1, -1)];
    for (const core of base64Cores(text)) {
      texts.add(core);
      before.push(core);
    }
    for (const inner of before) {
      for (const core of base64Cores(inner)) texts.add(core);
      const hex = hexOf(utf8.encode(inner));
      texts.add(hex).add(hex.toUpperCase()).add(hex.match(/../g)?.join(" ") ?? hex);
    }
  }
  // Short cores would blank out ordinary words.
  const found = [...texts].filter((text) => text.length >= 6).sort((a, b) => b.length - a.length);
  textsBySecret.set(secret, found);
  return found;
}

/** A text with some of its escapes undone. */
interface Layer {
  readonly text: string;
  /** Where in the original each character of `text` begins; one more entry than characters. */
  readonly origin: readonly number[];
}

const ENTITIES: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
};
const BACKSLASHED: Readonly<Record<string, string>> = {
  n: "\n",
  r: "\r",
  t: "\t",
  b: "\b",
  f: "\f",
};

function codePoint(code: number, raw: string): string {
  return code <= 0x10ffff ? String.fromCodePoint(code) : raw;
}

/** Each kind of escape: what finds it and what undoes it. */
const ESCAPES: readonly (readonly [pattern: RegExp, undo: (found: RegExpExecArray) => string])[] = [
  [/(?:%[0-9a-f]{2})+/gi, ([codes]) => {
    const bytes = codes.split("%").slice(1).map((code) => parseInt(code, 16));
    return new TextDecoder().decode(new Uint8Array(bytes));
  }],
  [
    /\\(?:u([0-9a-f]{4})|(["\\/nrtbf]))/gi,
    ([, code, letter = ""]) =>
      code === undefined ? BACKSLASHED[letter] ?? letter : String.fromCharCode(parseInt(code, 16)),
  ],
  [
    /&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([0-9a-f]{1,6}));/gi,
    ([raw, name, decimal, hex]) =>
      name !== undefined
        ? ENTITIES[name.toLowerCase()] ?? raw
        : codePoint(parseInt(decimal ?? hex ?? "", decimal === undefined ? 16 : 10), raw),
  ],
];

/** The layer below one kind of escape, or `undefined` if there are none of that kind. */
function peeled(layer: Layer, [pattern, undo]: (typeof ESCAPES)[number]): Layer | undefined {
  let text = "";
  const origin: number[] = [];
  let done = 0;
  const copy = (end: number) => {
    text += layer.text.slice(done, end);
    for (; done < end; done++) origin.push(layer.origin[done] ?? 0);
  };
  for (const found of layer.text.matchAll(pattern)) {
    copy(found.index);
    const plain = undo(found);
    // All characters of a run of codes share its place: masking takes the whole run.
    for (let i = 0; i < plain.length; i++) origin.push(layer.origin[found.index] ?? 0);
    text += plain;
    done = found.index + found[0].length;
  }
  if (done === 0 && origin.length === 0) return undefined;
  copy(layer.text.length);
  origin.push(layer.origin[layer.text.length] ?? 0);
  return { text, origin };
}

/** Three layers are an escape in an escape in an escape; a line has few that differ. */
const MAX_DEPTH = 3;
const MAX_LAYERS = 24;

function layersOf(text: string): readonly Layer[] {
  const layers: Layer[] = [{ text, origin: Array.from({ length: text.length + 1 }, (_, i) => i) }];
  const seen = new Set([text]);
  let from = 0;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const until = layers.length;
    for (; from < until; from++) {
      const layer = layers[from];
      if (layer === undefined) continue;
      for (const escape of ESCAPES) {
        const below = peeled(layer, escape);
        if (below === undefined || seen.has(below.text) || layers.length >= MAX_LAYERS) continue;
        seen.add(below.text);
        layers.push(below);
      }
    }
  }
  return layers;
}

/** Replaces every revealed secret, in whatever form it stands. */
function withoutRevealed(text: string): string {
  if (revealedSecrets.size === 0) return text;
  const ranges: [start: number, end: number][] = [];
  for (const layer of layersOf(text)) {
    for (const secret of revealedSecrets) {
      for (const form of secretForms(secret)) {
        for (
          let at = layer.text.indexOf(form);
          at >= 0;
          at = layer.text.indexOf(form, at + form.length)
        ) {
          const start = layer.origin[at] ?? 0;
          // To where the next character of another place begins.
          let last = at + form.length;
          while (
            last < layer.text.length && layer.origin[last] === layer.origin[at + form.length - 1]
          ) last++;
          ranges.push([start, layer.origin[last] ?? text.length]);
        }
      }
    }
  }
  if (ranges.length === 0) return text;
  ranges.sort(([a], [b]) => a - b);
  let result = "";
  let done = 0;
  for (const [start, end] of ranges) {
    if (start >= done) result += text.slice(done, start) + MASK;
    done = Math.max(done, end);
  }
  return result + text.slice(done);
}

const TOKEN = String.raw`[^\s"'&;,<>\\)}\]]`;

/** Where secrets usually stand. Each keeps what names the place and takes out what stands there. */
const PLACES: readonly (readonly [RegExp, string])[] = [
  // The look-behind leaves paths of the configuration alone: `accounts.home.cookie: missing, …`.
  [
    /(?<![.\w])((?:proxy-)?authorization)(["']?\s*[:=]\s*["']?)(?:(?:basic|bearer)\s+[^\s"',]+|digest\s[^\r\n]+|[^\s"',]{8,})/gi,
    `$1$2${MASK}`,
  ],
  // A cookie's name is short; without that bound a text full of this word would take for ever.
  [/(?<![.\w])((?:set-)?cookie)(["']?\s*:\s*["']?)[^\r\n"'=]{0,256}=[^\r\n"']*/gi, `$1$2${MASK}`],
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
  let result = withoutRevealed(text);
  for (const [place, kept] of PLACES) result = result.replace(place, kept);
  return result;
}

/** Names of properties whose values are never shown. */
export function namesSecret(name: string): boolean {
  return /(?:password|passwd|secret|token|cookie|authorization|credential|api_?key|account_?key|connection_?string|sas_?url)s?$/i
    .test(name);
}
