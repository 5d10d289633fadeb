/**
 * A certificate authority and a server certificate for 127.0.0.1 and localhost, made on the spot, so
 * that tests can serve HTTPS on loopback and a client can be shown to trust the CA file that its
 * configuration names.
 *
 * X.509 version 3 (RFC 5280) in DER (X.690), signed with ECDSA P-256 and SHA-256 (RFC 5758 §3.2).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import type { ServerTls } from "./http_server.ts";

/** A server's certificate and key with the authority that vouches for it, all PEM. */
export interface LoopbackCertificate extends ServerTls {
  /** What a client must trust. */
  readonly caPem: string;
}

const DAY_MS = 86_400_000;

/** DER tags. */
const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Object identifiers, as the bytes of their DER. */
const OID = {
  ecdsaWithSha256: [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
  commonName: [0x55, 0x04, 0x03],
  basicConstraints: [0x55, 0x1d, 0x13],
  keyUsage: [0x55, 0x1d, 0x0f],
  subjectAltName: [0x55, 0x1d, 0x11],
} as const;

type Der = Uint8Array;

function der(tag: number, ...parts: readonly (Der | readonly number[])[]): Der {
  const body = Buffer.concat(parts.map((part) => Uint8Array.from(part)));
  const length = body.length < 0x80
    ? [body.length]
    : body.length < 0x100
    ? [0x81, body.length]
    : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Uint8Array.of(tag, ...length), body]);
}

const text = (value: string) => Buffer.from(value, "utf8");

function name(commonName: string): Der {
  const attribute = der(
    TAG.sequence,
    der(TAG.oid, OID.commonName),
    der(TAG.utf8, text(commonName)),
  );
  return der(TAG.sequence, der(TAG.set, attribute));
}

function time(atMs: number): Der {
  const digits = new Date(atMs).toISOString().replace(/[-:T]|\.\d+/g, "");
  return der(TAG.generalizedTime, text(digits));
}

function extension(oid: readonly number[], value: Der): Der {
  const critical = der(TAG.boolean, [0xff]);
  return der(TAG.sequence, der(TAG.oid, oid), critical, der(TAG.octetString, value));
}

function certificate(
  options: {
    readonly issuer: string;
    readonly subject: string;
    readonly publicKey: KeyObject;
    readonly signingKey: KeyObject;
    readonly nowMs: number;
    readonly extensions: readonly Der[];
  },
): string {
  const algorithm = der(TAG.sequence, der(TAG.oid, OID.ecdsaWithSha256));
  // 16 bytes without a sign bit and without a leading zero.
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  const signed = der(
    TAG.sequence,
    der(0xa0, der(TAG.integer, [2])),
    der(TAG.integer, serial),
    algorithm,
    name(options.issuer),
    der(TAG.sequence, time(options.nowMs - DAY_MS), time(options.nowMs + 365 * DAY_MS)),
    name(options.subject),
    options.publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, der(TAG.sequence, ...options.extensions)),
  );
  const signature = sign("sha256", signed, options.signingKey);
  const whole = der(TAG.sequence, signed, algorithm, der(TAG.bitString, [0], signature));
  const lines = Buffer.from(whole).toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n");
}

/** Makes an authority and a certificate of it that is good for a year around `nowMs`. */
export function createLoopbackCertificate(
  options: { readonly nowMs?: number } = {},
): LoopbackCertificate {
  const nowMs = options.nowMs ?? Date.now();
  const authority = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const server = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const issuer = "Camsink simulated authority";
  const signing = { issuer, signingKey: authority.privateKey, nowMs };
  return {
    caPem: certificate({
      ...signing,
      subject: issuer,
      publicKey: authority.publicKey,
      extensions: [
        extension(OID.basicConstraints, der(TAG.sequence, der(TAG.boolean, [0xff]))),
        // keyCertSign alone: bit 5.
        extension(OID.keyUsage, der(TAG.bitString, [2, 0x04])),
      ],
    }),
    certPem: certificate({
      ...signing,
      subject: "localhost",
      publicKey: server.publicKey,
      extensions: [
        // digitalSignature alone: bit 0.
        extension(OID.keyUsage, der(TAG.bitString, [7, 0x80])),
        extension(
          OID.subjectAltName,
          der(TAG.sequence, der(0x82, text("localhost")), der(0x87, [127, 0, 0, 1])),
        ),
      ],
    }),
    keyPem: String(server.privateKey.export({ type: "pkcs8", format: "pem" })),
  };
}
