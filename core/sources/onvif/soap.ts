/**
 * The little of SOAP that ONVIF needs: requests with a WS-Security user name token, and values out of
 * answers by the names of their elements, whatever prefixes the camera gives them. Answers are searched
 * and not parsed: what they may hold is little, their size is bounded, and no entity is ever expanded.
 *
 * `PasswordDigest = base64(SHA-1(nonce + created + password))` (WS-Security UsernameToken Profile §4).
 *
 * @module
 */
import { createHash } from "node:crypto";

/** Who asks, and what time the camera's clock shows. */
export interface SoapLogin {
  readonly username: string;
  readonly password: string;
  readonly cameraNowMs: number;
  /** Fresh random bytes. */
  readonly nonce: Uint8Array;
}

const SECEXT = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
const UTILITY =
  "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
const PROFILE =
  "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0";

/** Where a message goes and what it wants (WS-Addressing 1.0 §3.2). */
export interface SoapHeader {
  readonly action: string;
  readonly to: string;
  readonly messageId: string;
  /** Elements that the receiver gave with its address, as it wrote them. */
  readonly reference: string;
  /** The namespaces that those may use: `xmlns:p="…"`, separated by blanks. */
  readonly namespaces: string;
}

/** Makes a request out of its body. */
export function soapEnvelope(body: string, login?: SoapLogin, header?: SoapHeader): string {
  const headers = (login === undefined ? "" : security(login)) +
    (header === undefined ? "" : addressing(header));
  return '<?xml version="1.0" encoding="UTF-8"?>' +
    `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"${
      header === undefined || header.namespaces === "" ? "" : ` ${header.namespaces}`
    }>` +
    (headers === "" ? "" : `<s:Header>${headers}</s:Header>`) +
    `<s:Body>${body}</s:Body></s:Envelope>`;
}

function addressing({ action, to, messageId, reference }: SoapHeader): string {
  const xmlns = 'xmlns="http://www.w3.org/2005/08/addressing"';
  return `<Action s:mustUnderstand="1" ${xmlns}>${escapeXml(action)}</Action>` +
    `<MessageID ${xmlns}>urn:uuid:${escapeXml(messageId)}</MessageID>` +
    `<ReplyTo ${xmlns}><Address>http://www.w3.org/2005/08/addressing/anonymous</Address></ReplyTo>` +
    `<To s:mustUnderstand="1" ${xmlns}>${escapeXml(to)}</To>${reference}`;
}

function security({ username, password, cameraNowMs, nonce }: SoapLogin): string {
  const created = new Date(cameraNowMs).toISOString();
  const digest = createHash("sha1").update(nonce).update(created).update(password, "utf8")
    .digest("base64");
  return `<Security s:mustUnderstand="1" xmlns="${SECEXT}"><UsernameToken>` +
    `<Username>${escapeXml(username)}</Username>` +
    `<Password Type="${PROFILE}#PasswordDigest">${digest}</Password>` +
    `<Nonce>${nonce.toBase64()}</Nonce><Created xmlns="${UTILITY}">${created}</Created>` +
    "</UsernameToken></Security>";
}

/** Text as it may stand in XML. */
export function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

/** The text of the first element of this name; `undefined` without one. */
export function textOf(xml: string, name: string): string | undefined {
  const found = new RegExp(`<(?:[\\w.-]+:)?${name}(?:\\s[^<>]*)?>([^<]*)<`).exec(xml)?.[1];
  return found === undefined ? undefined : unescapeXml(found.trim());
}

/** What stands in the elements of this name, with their start tags. */
export function elementsOf(
  xml: string,
  name: string,
): { readonly tag: string; readonly inner: string }[] {
  const start = new RegExp(`<(?:[\\w.-]+:)?${name}((?:\\s[^<>]*)?)>`);
  return xml.split(new RegExp(`</(?:[\\w.-]+:)?${name}>`)).slice(0, -1).flatMap((piece) => {
    const found = start.exec(piece);
    return found === null
      ? []
      : [{ tag: found[1] ?? "", inner: piece.slice(found.index + found[0].length) }];
  });
}

/** An attribute of a start tag. */
export function attributeOf(tag: string, name: string): string | undefined {
  const found = new RegExp(`\\b${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`).exec(tag);
  return found === null ? undefined : unescapeXml(found[1] ?? found[2] ?? "");
}

function unescapeXml(text: string): string {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'").replaceAll("&amp;", "&");
}

/** The start tags of this name, also of empty elements, as attributes. */
export function tagsOf(xml: string, name: string): string[] {
  const tags = new RegExp(`<(?:[\\w.-]+:)?${name}(\\s[^<>]*?)?/?>`, "g");
  return [...xml.matchAll(tags)].map(([, attributes = ""]) => attributes);
}

/** The namespaces that an answer declares, to be declared again; our own prefix is left out. */
export function namespacesOf(xml: string): string {
  const declared = new Map(
    [...xml.matchAll(/\bxmlns:([\w.-]+)\s*=\s*"([^"<>]*)"/g)].slice(0, 64)
      .map(([, prefix = "", uri = ""]) => [prefix, uri]),
  );
  declared.delete("s");
  return [...declared].map(([prefix, uri]) => `xmlns:${prefix}="${uri}"`).join(" ");
}
