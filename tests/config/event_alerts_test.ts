/** The key `alerts.events`: what is asked for by default, and what is said of mistakes. */
import { deepEqual, match } from "node:assert/strict";
import * as v from "valibot";
import { configSchema } from "../../core/config/schema.ts";

const schema = configSchema({
  accountTypes: {},
  cameraTypes: { none: { options: v.strictObject({}) } },
  sinkTypes: {},
});
const read = (alerts: unknown) =>
  v.safeParse(schema, { cameras: { yard: { type: "none" } }, alerts });
const webhook = "https://hooks.example/x";
const problems = (alerts: unknown) =>
  (read(alerts).issues ?? []).map((issue) => `${v.getDotPath(issue)}: ${issue.message}`).join("\n");

Deno.test("events are told of only where that is asked for, and then persons and the bell", () => {
  const without = read({ webhook });
  deepEqual(without.success && without.output.alerts.events, undefined);
  const plain = read({ webhook, events: {} });
  deepEqual(plain.success && plain.output.alerts.events, {
    ...{ kinds: ["person", "doorbell"], cameras: "all", everyMs: 120_000, perHour: 60 },
  });
});

Deno.test("kinds may differ from camera to camera, and Google's chime is our doorbell", () => {
  const cameras = { "Front door": ["chime"], Yard: "all" };
  const found = read({ webhook, events: { cameras, every: "10s", perHour: 5 } });
  deepEqual(found.success && found.output.alerts.events, {
    kinds: ["person", "doorbell"],
    cameras: { "Front door": ["doorbell"], Yard: "all" },
    ...{ everyMs: 10_000, perHour: 5 },
  });
});

Deno.test("mistakes are told with their place and what was expected", () => {
  match(problems({ events: {} }), /alerts\.events: expected "webhook" beside it/);
  match(problems({ webhook, events: { kinds: "person" } }), /kinds: expected "all" or a list/);
  match(
    problems({ webhook, events: { kinds: ["Person"] } }),
    /kinds: .*in small letters, such as "person"/,
  );
  match(problems({ webhook, events: { perHour: 0 } }), /perHour: expected a whole number from 1/);
  match(problems({ webhook, events: { cameras: 3 } }), /cameras: expected "all", a list/);
});
