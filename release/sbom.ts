/**
 * The bill of materials of a release, in CycloneDX 1.6 (ECMA-424) as JSON: every package that is in
 * it, the runtime of each platform, and their hashes. It says nothing of when it was made, so that
 * two builds of one commit have the same.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { UsedPackage } from "./licenses.ts";
import { DENO_VERSION, type Platform } from "./platforms.ts";

/** What the bill is about. */
export interface SbomOptions {
  readonly version: string;
  readonly commit?: string;
  readonly packages: readonly UsedPackage[];
  readonly platforms: readonly Platform[];
}

/** The text of the bill. */
export function sbom({ version, commit, packages, platforms }: SbomOptions): string {
  const self = `pkg:generic/camsink@${version}`;
  const components = [
    ...packages.map(({ name, version, license, sha512 }) => ({
      type: "library",
      "bom-ref": purl(name, version),
      name,
      version,
      purl: purl(name, version),
      licenses: licenseOf(license),
      ...(sha512 === undefined ? {} : {
        hashes: [{ alg: "SHA-512", content: Buffer.from(sha512, "base64").toString("hex") }],
      }),
    })),
    ...platforms.map(({ denoPackage, denoSha256, name }) => ({
      type: "platform",
      "bom-ref": purl(denoPackage, DENO_VERSION),
      name: denoPackage,
      version: DENO_VERSION,
      description: `the runtime of the release for ${name}`,
      purl: purl(denoPackage, DENO_VERSION),
      licenses: licenseOf("MIT"),
      hashes: [{ alg: "SHA-256", content: denoSha256 }],
    })),
  ];
  const bill = {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: {
        type: "application",
        "bom-ref": self,
        name: "camsink",
        version,
        purl: self,
        licenses: licenseOf("MIT"),
        ...(commit === undefined ? {} : {
          properties: [{ name: "camsink:commit", value: commit }],
        }),
      },
    },
    components,
    dependencies: [{ ref: self, dependsOn: components.map((one) => one["bom-ref"]) }],
  };
  return `${JSON.stringify(bill, null, 2)}\n`;
}

function purl(name: string, version: string): string {
  return `pkg:npm/${name.replace("@", "%40")}@${version}`;
}

function licenseOf(expression: string): readonly unknown[] {
  return /^[A-Za-z0-9.+-]+$/.test(expression)
    ? [{ license: { id: expression } }]
    : [{ expression }];
}
