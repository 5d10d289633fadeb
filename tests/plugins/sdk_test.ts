/** What an author of a plugin has: the types and validators that come from one declaration. */
import assert from "node:assert/strict";
import * as v from "valibot";
import { encodeKey, httpSinkError, httpUrl, type Secret, secret, sendClip } from "../../mod.ts";
import { defineSink } from "../../mod.ts";

/** WebDAV in 15 lines. */
const webdav = defineSink({
  name: "dav",
  config: v.strictObject({ url: httpUrl(), user: v.string(), password: secret() }),
  net: ({ url }) => [new URL(url).host],
  open: ({ config: { url, user, password } }) => ({
    async put(clip, options) {
      const to = `${url}/${encodeKey(clip.key.replaceAll("/", "_"))}`;
      const authorization = `Basic ${btoa(`${user}:${await password.reveal()}`)}`;
      const answer = await sendClip(to, { clip, options, headers: { authorization } });
      if (!answer.ok) throw httpSinkError(answer, `PUT ${to}`);
      return { state: "stored", url: to };
    },
  }),
});

/** The same options as plain JSON Schema. */
const plain = defineSink({
  name: "plain",
  config: {
    type: "object",
    required: ["url", "password"],
    additionalProperties: false,
    properties: {
      url: { type: "string", format: "uri", description: "Where." },
      password: { type: "string", format: "secret" },
      parts: { type: "integer", minimum: 1, maximum: 9, default: 3 },
      wait: { type: "string", format: "duration" },
      mode: { enum: ["a", "b"] },
    },
  },
  net: ({ url, parts, password, wait, mode }) => {
    const typed: [string, number, Secret, number | undefined, "a" | "b" | undefined] = [
      url,
      parts,
      password,
      wait,
      mode,
    ];
    return [new URL(typed[0]).host, String(typed[1] + (typed[3] ?? 0))];
  },
  open: () => ({ put: () => Promise.resolve({ state: "stored" }) }),
});

Deno.test("types and validation of a sink come from its one declaration", async () => {
  const result = v.parse(webdav.config as never, {
    url: "https://nas/dav",
    user: "me",
    password: "env:X",
  });
  assert.deepEqual(webdav.net(result as never), ["nas"]);
  const valid = await plain.config["~standard"].validate({
    url: "https://nas",
    password: "env:P",
    wait: "2s",
  }) as { value: Record<string, unknown> };
  assert.equal(valid.value.parts, 3);
  assert.equal(valid.value.wait, 2000);
  assert.equal((valid.value.password as Secret).reference, "env:P");
  assert.deepEqual(plain.net(valid.value as never), ["nas", "2003"]);
});

Deno.test("a plain JSON Schema names the path of what is wrong", async () => {
  const { issues = [] } = await plain.config["~standard"].validate({
    url: "ftp://nas",
    parts: 10,
    mode: "c",
    more: 1,
  }) as { issues?: { message: string; path: { key: string }[] }[] };
  assert.deepEqual(
    issues.map(({ path }) => path.map(({ key }) => key).join(".")).sort(),
    ["mode", "more", "parts", "password", "url"],
  );
  assert.match(issues.find(({ path }) => path[0]?.key === "parts")?.message ?? "", /1 to 9/);
});

Deno.test("a keyword of JSON Schema that is not understood is refused by name", () => {
  assert.throws(
    () =>
      defineSink({
        name: "x",
        config: { type: "object", properties: { a: { type: "string", not: {} } } },
        net: () => [],
        open: () => ({ put: () => Promise.resolve({ state: "stored" }) }),
      }),
    /config\.properties\.a: the JSON Schema keyword "not" is not understood/,
  );
});
