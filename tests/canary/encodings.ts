/**
 * The forms in which a secret may slip out: 40 of them, so that a leak is found however it was coded.
 *
 * @module
 */
import { Buffer } from "node:buffer";

const url = (text: string) => encodeURIComponent(text);
const lower = (text: string) => text.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase());
const json = (text: string) => JSON.stringify(text).slice(1, -1);
const html = (text: string) =>
  text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;").replace(/'/g, "&#39;");
const base64 = (text: string, coding: BufferEncoding = "utf8") =>
  Buffer.from(text, coding).toString("base64");
const safe = (text: string) => text.replaceAll("+", "-").replaceAll("/", "_");
const hex = (text: string, coding: BufferEncoding = "utf8") =>
  Buffer.from(text, coding).toString("hex");
/** The base64 of a text that stands after `before` other bytes, without what depends on them. */
const within = (text: string, before: number) => {
  const bytes = before + Buffer.byteLength(text);
  return base64("\0".repeat(before) + text)
    .slice(Math.ceil(before * 8 / 6), Math.floor(bytes * 8 / 6));
};
const each = (text: string, code: (byte: number) => string, between = "") =>
  [...Buffer.from(text)].map(code).join(between);

/** By name. */
export const ENCODINGS: Readonly<Record<string, (text: string) => string>> = {
  raw: (text) => text,
  url,
  "url, lower case": (text) => lower(url(text)),
  "url twice": (text) => url(url(text)),
  "url, lower case, twice": (text) => lower(url(lower(url(text)))),
  form: (text) => new URLSearchParams([["", text]]).toString().slice(1),
  "every byte as %XX": (text) =>
    each(text, (byte) => "%" + hex(String.fromCharCode(byte), "latin1")),
  json,
  "json twice": (text) => json(json(text)),
  "json thrice": (text) => json(json(json(text))),
  "json with \\/": (text) => json(text).replaceAll("/", "\\/"),
  "json, every character as \\u": (text) =>
    each(text, (byte) => "\\u" + byte.toString(16).padStart(4, "0")),
  "\\x escapes": (text) => each(text, (byte) => "\\x" + byte.toString(16).padStart(2, "0")),
  html,
  "html of url": (text) => html(url(text)),
  "json of url": (text) => json(url(text)),
  "url of json": (text) => url(json(text)),
  base64: (text) => base64(text).replace(/=+$/, ""),
  "base64, 1 byte in": (text) => within(text, 1),
  "base64, 2 bytes in": (text) => within(text, 2),
  base64url: (text) => safe(base64(text)).replace(/=+$/, ""),
  "base64url, 1 byte in": (text) => safe(within(text, 1)),
  "base64url, 2 bytes in": (text) => safe(within(text, 2)),
  "base64 of url": (text) => base64(url(text)).replace(/=+$/, ""),
  "base64 of json": (text) => base64(json(text)).replace(/=+$/, ""),
  "base64 twice": (text) => base64(base64(text).replace(/=+$/, "")).replace(/=+$/, ""),
  "base64 of UTF-16": (text) => base64(text, "utf16le").replace(/=+$/, ""),
  "url of base64": (text) => url(base64(text).replace(/=+$/, "")),
  "UTF-16": (text) => Buffer.from(text, "utf16le").toString("latin1"),
  hex: (text) => hex(text),
  "hex, upper case": (text) => hex(text).toUpperCase(),
  "hex of UTF-16": (text) => hex(text, "utf16le"),
  "hex with blanks": (text) => each(text, (byte) => byte.toString(16).padStart(2, "0"), " "),
  "hex with colons": (text) => each(text, (byte) => byte.toString(16).padStart(2, "0"), ":"),
  "hex with commas": (text) =>
    each(text, (byte) => "0x" + byte.toString(16).padStart(2, "0"), ", "),
  decimal: (text) => each(text, String, ","),
  "decimal with blanks": (text) => each(text, String, ", "),
  "decimal in lines": (text) => each(text, String, "\n"),
  "upper case": (text) => text.toUpperCase(),
  "lower case": (text) => text.toLowerCase(),
};

/** Names of the encodings in which any of the secrets is in the text. */
export function leaksIn(text: string, secrets: Readonly<Record<string, string>>): string[] {
  return Object.entries(secrets).flatMap(([place, secret]) =>
    Object.entries(ENCODINGS).filter(([, code]) => text.includes(code(secret)))
      .map(([name]) => `${place} as ${name}`)
  );
}
