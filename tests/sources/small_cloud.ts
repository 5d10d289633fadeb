/**
 * A Nest cloud of a few lines, in memory and under its production names, for tests that look at
 * single answers. Each route can be replaced; what it checks is only what the tests are about. The
 * strict one is in `simulators/nest`.
 *
 * @module
 */
import * as v from "valibot";
import { accountTypes } from "../../core/sources/mod.ts";
import { createFakeClock } from "../support/fake_clock.ts";
import { type Answerer, createNetwork, picture, type Seen, testContext } from "./world.ts";

/** The address that a user copies, with what people copy along. */
export const ISSUE_TOKEN = "https://accounts.google.com/o/oauth2/iframerpc?action=issueToken" +
  "&response_type=token%20id_token&client_id=1.apps.googleusercontent.com&origin=https%3A%2F%2Fhome.nest.com" +
  "&ss_domain=https%3A%2F%2Fhome.nest.com";
/** A cookie header as Google makes it. */
export const COOKIE = "SIDCC=canary-cookie; __Secure-3PSID=abc";
/** Credentials of a Google account. */
export const GOOGLE = { issueToken: ISSUE_TOKEN, cookie: COOKIE };
/** Credentials of a Nest account. */
export const NEST = { accessToken: "b.canary-access-token" };

/** A `quartz` bucket. */
export function camera(id: string, value: Record<string, unknown> = {}) {
  return {
    object_key: `quartz.${id}`,
    object_revision: 1,
    object_timestamp: 1,
    value: {
      description: `Camera ${id.slice(0, 1)}`,
      nexus_api_http_server_url: "https://nexusapi-eu1.dropcam.com",
      streaming_state: "streaming-enabled",
      model: "Nest Cam Indoor",
      ...value,
    },
  };
}

/** 32 hex digits. */
export const idOf = (letter: string): string => letter.repeat(32);

/** A cloud, the account that lives in it, and what may be changed about it. */
export function createSmallCloud(options: Record<string, unknown> = GOOGLE) {
  const clock = createFakeClock();
  let logins = 0;
  let pictures = 0;
  const state = {
    /** Camera requests must show the token of this login or a later one. */
    validFrom: 1,
    buckets: [camera(idOf("a"))] as unknown[],
    /** Seconds that a Google token lives. */
    googleLifeS: 3600 as unknown,
    sessionExpires: undefined as unknown,
    /** Replaces a route by `host/path`, as far as it is named. */
    routes: new Map<string, Answerer>(),
  };
  const generationOf = ({ headers }: Seen) =>
    Number(
      /(?:g\.0\.token-|session-)(\d+)$/.exec(
        headers.get("authorization") ?? headers.get("cookie") ?? "",
      )?.[1] ?? 0,
    );

  const standard: Record<string, Answerer> = {
    "accounts.google.com/o/oauth2/iframerpc": () => {
      logins++;
      return Response.json({
        token_type: "Bearer",
        access_token: `ya29.canary-${logins}`,
        expires_in: state.googleLifeS,
      });
    },
    "nestauthproxyservice-pa.googleapis.com/v1/issue_jwt": () =>
      Response.json({ jwt: `canary-jwt-${logins}`, claims: {} }),
    "webapi.camera.home.nest.com/api/v1/login.login_nest": () => {
      logins++;
      return Response.json({ status: 0, items: [{ session_token: `session-${logins}` }] });
    },
    "home.nest.com/session": () =>
      Response.json({
        userid: "4711",
        access_token: `g.0.token-${logins}`,
        expires_in: state.sessionExpires,
      }),
    "home.nest.com/api/0.1/user/4711/app_launch": () =>
      Response.json({ updated_buckets: state.buckets }),
    "/get_image": (seen) =>
      generationOf(seen) < state.validFrom
        ? new Response("", { status: 403 })
        : picture(++pictures),
  };
  const network = createNetwork((seen) => {
    const { host, pathname } = seen.url;
    for (const routes of [state.routes, new Map(Object.entries(standard))]) {
      const route = routes.get(host + pathname) ?? routes.get(pathname);
      if (route) return route(seen);
    }
    return new Response(`no route ${host}${pathname}`, { status: 418 });
  });
  const context = testContext(clock, network);
  return {
    clock,
    network,
    state,
    context,
    get logins() {
      return logins;
    },
    /** The requests to a path. */
    asked: (path: string) => network.seen.filter(({ url }) => url.pathname === path),
    open: () => accountTypes.nest.open(v.parse(accountTypes.nest.options, options), context),
  };
}
