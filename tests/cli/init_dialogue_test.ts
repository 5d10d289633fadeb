/** The dialogue of `camsink init`, with somebody who answers by a script. */
import assert from "node:assert/strict";
import type { InitArguments } from "../../commands/arguments.ts";
import { init } from "../../commands/init.ts";
import type { Prompter, Question } from "../../commands/prompter.ts";
import { createTerminal } from "../../commands/terminal.ts";
import type { FoundCamera } from "../../core/sources/onvif/discovery.ts";
import { systemClock } from "../../core/clock.ts";
import { startOnvifDevice } from "../../simulators/onvif_device.ts";
import { startRtspCamera } from "../../simulators/rtsp_camera.ts";
import { startNestSimulator } from "../../simulators/nest/simulator.ts";
import { inTempFolder } from "../support/run_cli.ts";

const NO_FLAGS: InitArguments = {
  command: "init",
  endpoints: [],
  sinks: [],
  yes: false,
  force: false,
  skipTests: false,
  debug: false,
  noColor: false,
};

/** Answers by the words that a question contains; an answer is used once, then the usual one. */
function scripted(answers: readonly (readonly [question: string, answer: string])[]) {
  const left = [...answers];
  const asked: string[] = [];
  const answer = ({ message }: Question): string | undefined => {
    asked.push(message);
    const at = left.findIndex(([words]) => message.includes(words));
    return at < 0 ? undefined : left.splice(at, 1)[0]?.[1];
  };
  const needed = <T>(value: T | undefined, { message }: Question): Promise<T> => {
    assert.notEqual(value, undefined, `no answer to "${message}"`);
    return Promise.resolve(value as T);
  };
  const prompter: Prompter = {
    interactive: true,
    text: (question) => needed(answer(question) ?? question.usual, question),
    password: (question) => needed(answer(question), question),
    choose: (question) => {
      const text = answer(question) ?? question.usual;
      return needed(question.choices.find(({ value }) => value === text)?.value, question);
    },
    chooseSome: (question) => {
      answer(question);
      return Promise.resolve(question.usual);
    },
    note: () => {},
    busy: (_message, task) => task(),
    done: (text) => asked.push(text),
  };
  return { prompter, asked, left };
}

Deno.test("a wrong token is found out at once, asked for again, and a pasted one kept in a private file", () =>
  inTempFolder(async (cwd) => {
    await using cloud = await startNestSimulator({
      cameras: [{ name: "Hall", widthPx: 320, heightPx: 180 }],
    });
    const token = cloud.credentials.accessToken;
    const { prompter, asked, left } = scripted([
      ["your cameras", "nest"],
      ["log in", "nest"],
      ["where is it kept", "paste"],
      ["The access token", "b.7654321.this-is-not-the-token"],
      ["What now", "again"],
      ["your cameras", "nest"],
      ["log in", "nest"],
      ["where is it kept", "paste"],
      ["The access token", token],
      ["Which folder", "./kept"],
    ]);
    const written: string[] = [];
    const terminal = createTerminal({
      env: () => undefined,
      stdoutIsTerminal: false,
      stderrIsTerminal: false,
      size: () => ({ columns: 80, rows: 24 }),
      writeOut: (text) => written.push(text),
      writeErr: (text) => written.push(text),
    });
    const never = new AbortController().signal;
    const code = await init(
      {
        ...NO_FLAGS,
        out: `${cwd}/camsink.jsonc`,
        endpoints: Object.entries(cloud.endpoints).map(([name, url]) => `${name}=${url}`),
      },
      {
        terminal,
        clock: systemClock,
        random: Math.random,
        stop: never,
        hardStop: never,
        debug: false,
        prompter,
      },
    );
    const text = written.join("");
    assert.equal(code, 0, text);
    assert.deepEqual(left, [], "every answer was asked for");
    assert.ok(text.indexOf("✗ account home") < text.indexOf("✓ account home"), text);
    assert.match(asked.at(-1) ?? "", /Wrote .*camsink\.jsonc/);
    const config = await Deno.readTextFile(`${cwd}/camsink.jsonc`);
    assert.match(config, /"accessToken": "file:\.\/camsink\.secrets\/nest-token"/);
    assert.equal(
      (await Deno.readTextFile(`${cwd}/camsink.secrets/nest-token`)).trim(),
      token,
    );
    if (Deno.build.os !== "windows") {
      const { mode } = await Deno.stat(`${cwd}/camsink.secrets/nest-token`);
      assert.equal((mode ?? 0) & 0o777, 0o600);
    }
    assert.ok(!`${text}${config}${asked.join()}`.includes(token), "the token itself is nowhere");
  }));

const LOGIN = { username: "owner", password: "p@ss:w/%ord" };

/** Runs the dialogue with these answers; gives what was said and the file. */
async function converse(
  cwd: string,
  answers: Parameters<typeof scripted>[0],
  found: readonly FoundCamera[] = [],
) {
  const { prompter, asked, left } = scripted(answers);
  const written: string[] = [];
  const never = new AbortController().signal;
  const code = await init({ ...NO_FLAGS, out: `${cwd}/camsink.jsonc` }, {
    terminal: createTerminal({
      env: () => undefined,
      stdoutIsTerminal: false,
      stderrIsTerminal: false,
      size: () => ({ columns: 80, rows: 24 }),
      writeOut: (text) => written.push(text),
      writeErr: (text) => written.push(text),
    }),
    ...{ clock: systemClock, random: Math.random, stop: never, hardStop: never, debug: false },
    ...{ prompter, discover: () => Promise.resolve(found) },
  });
  assert.equal(code, 0, written.join(""));
  assert.deepEqual(left, [], "every answer was asked for");
  const config = await Deno.readTextFile(`${cwd}/camsink.jsonc`);
  const said = `${written.join("")}${asked.join()}`;
  assert.ok(!`${said}${config}`.includes(LOGIN.password), "the password is nowhere");
  return { config, said };
}

Deno.test("cameras by their streams: one found on the network, one by an address with its login in it", async () => {
  await using camera = await startRtspCamera({
    ...{ name: "Yard", widthPx: 320, heightPx: 192, fps: 15, gopPictures: 5, gops: 2 },
    auth: { type: "digest", ...LOGIN },
  });
  await using device = await startOnvifDevice({
    ...{ ...LOGIN, name: "Front yard", streamUri: camera.url, snapshotUri: "http://h/" },
  });
  await inTempFolder(async (cwd) => {
    const url = `${device.url}/onvif/device_service`;
    const { config, said } = await converse(cwd, [
      ["your cameras", "onvif"],
      ["Which camera", url],
      ["be called", "Front yard"],
      ["User name", "owner"],
      ["where is it kept", "paste"],
      ["Password", "not-this-one"],
      ["What now", "again"],
      ["your cameras", "onvif"],
      ["Which camera", ""],
      ["camera's address", url],
      ["be called", "gate"],
      ["User name", "owner"],
      ["where is it kept", "paste"],
      ["Password", LOGIN.password],
    ], [{ url, name: "Front yard", model: "SIM-1" }]);
    assert.match(
      said,
      /✗ camera Front yard: .*refused the ONVIF login[^]*✓ camera gate: 320x192/,
    );
    assert.match(config, /"gate": \{\s+"type": "onvif",/);
  });
  await inTempFolder(async (cwd) => {
    const { config } = await converse(cwd, [
      ["your cameras", "rtsp"],
      ["stream's address", camera.url.replace("//", `//owner:${LOGIN.password}@`)],
      ["be called", "yard"],
    ]);
    assert.ok(config.includes(`"url": "${camera.url}"`), config);
    assert.match(config, /"username": "owner",\s+"password": "file:.*camera-password"/);
    const kept = await Deno.readTextFile(`${cwd}/camsink.secrets/camera-password`);
    assert.equal(kept.trim(), LOGIN.password);
  });
});
