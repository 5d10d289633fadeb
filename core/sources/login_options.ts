/**
 * The options of a login that a camera asks for, whichever protocol it speaks.
 *
 * @module
 */
import * as v from "valibot";
import { secret } from "../config/values.ts";

/** User name and password. */
export const loginKeys = {
  username: v.optional(
    v.pipe(
      v.string("expected a user name"),
      v.nonEmpty("expected a user name"),
      v.description("User name for basic or digest login; the camera says which."),
    ),
  ),
  password: v.optional(
    v.pipe(
      secret(),
      v.description("Password for the login, by reference: env:NAME or file:PATH."),
    ),
  ),
};
