/**
 * What the options of every account in a cloud have in common: addresses that another server may take
 * the place of, and whose certificates are believed there.
 *
 * @module
 */
import * as v from "valibot";
import { filePath, httpUrl } from "../config/values.ts";

/** A further authority. */
export const authority = v.optional(
  v.pipe(
    filePath(),
    v.description("PEM file of a further authority to trust, for endpoints of your own."),
  ),
);

/** One address of a cloud; `standard` is the one in production. */
export const endpoint = (about: string, standard: string) =>
  v.optional(v.pipe(httpUrl(), v.description(`${about} Without it, ${standard}`)));

/** The addresses to use: the standard ones, with the user's own in their place. */
export function addresses<Name extends string>(
  standard: Readonly<Record<Name, string>>,
  own: { readonly [name in Name]?: string | undefined },
): Record<Name, URL> {
  const names = Object.keys(standard) as Name[];
  return Object.fromEntries(
    names.map((name) => [name, new URL(own[name] ?? standard[name])]),
  ) as Record<Name, URL>;
}
