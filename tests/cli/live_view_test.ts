/** What the live view shows, line by line, and how it keeps itself below the log. */
import assert from "node:assert/strict";
import { renderLiveView, startLiveView } from "../../commands/live_view.ts";
import { createTerminal, type TerminalParts } from "../../commands/terminal.ts";
import { textWidth } from "../../commands/text_layout.ts";
import { createBoard } from "../../core/status/board.ts";
import { camera, exampleBoard, sink, START_MS } from "./boards.ts";

const NOW_MS = START_MS + 83_000;

Deno.test("the live view shows every camera and every sink with its figures", () => {
  assert.deepEqual(
    renderLiveView(exampleBoard(), { columns: 110, rows: 40, nowMs: NOW_MS, color: false }),
    [
      "Recording 2 of 3 cameras · 1m23s · Ctrl-C stops",
      "CAMERA         FPS  FRAMES  DROPPED  PICTURE   CLIP (UTC)       CLIPS  ENCODER    GAPS",
      "● Front Door  10.0   1,234        0  1280x720  14:06:00 2.3 MB      1  wasm 3.2×  none",
      "● Büro 🎥      4.5   1,234       12  1280x720  14:06:00 2.3 MB      1  copy       2, 14s",
      "✗ Yard        waiting for 13s · connection refused by host · 700 frames",
      "",
      "SINK   STATE  WAITING  DELIVERED   LAST    WHERE",
      "local  idle   none     3, 19.2 MB  3s ago  ./clips",
      "azure  retrying · 2, 12.8 MB waiting · 503 ServerBusy",
    ],
  );
});

Deno.test("a narrow terminal loses columns, least important first, and never a line's end", () => {
  assert.deepEqual(
    renderLiveView(exampleBoard(), { columns: 40, rows: 40, nowMs: NOW_MS, color: false }),
    [
      "Recording 2 of 3 cameras · 1m23s · Ctrl…",
      "CAMERA         FPS  FRAMES  DROPPED",
      "● Front Door  10.0   1,234        0",
      "● Büro 🎥      4.5   1,234       12",
      "✗ Yard        waiting for 13s · connect…",
      "",
      "SINK   STATE  WAITING  DELIVERED",
      "local  idle   none     3, 19.2 MB",
      "azure  retrying · 2, 12.8 MB waiting · …",
    ],
  );
});

Deno.test("at any size no line is wider than the terminal and the view leaves the last line free", () => {
  const board = exampleBoard();
  for (let index = 0; index < 30; index++) {
    board.cameras.set(`c${index}`, camera(`Kamera 摄像头 ${index}`));
  }
  for (let columns = 1; columns <= 160; columns += 3) {
    for (const rows of [2, 5, 8, 12, 24, 60]) {
      const lines = renderLiveView(board, { columns, rows, nowMs: NOW_MS, color: false });
      assert.ok(lines.length <= rows - 1, `${lines.length} lines in ${rows} rows`);
      for (const line of lines) assert.ok(textWidth(line) <= columns, `${columns}: ${line}`);
    }
  }
});

Deno.test("with more cameras than rows, the one in trouble is still shown", () => {
  const board = createBoard(START_MS);
  for (let index = 0; index < 20; index++) board.cameras.set(`${index}`, camera(`cam ${index}`));
  board.cameras.set("bad", camera("Bad", { state: "waiting", reason: "offline" }));
  board.sinks.set("local", sink("local"));
  const text = renderLiveView(board, { columns: 100, rows: 12, nowMs: NOW_MS, color: false });
  assert.ok(text.some((line) => line.includes("✗ Bad")), text.join("\n"));
  assert.ok(text.some((line) => line.includes("… and 16 more")), text.join("\n"));
});

Deno.test("below a camera that is recorded though its motion cannot be seen stands why, where there is room", () => {
  const board = createBoard(START_MS);
  const eventsUnheard = "motion cannot be seen (no ffmpeg): everything is recorded";
  board.cameras.set("Yard", camera("Yard", { eventsUnheard }));
  board.cameras.set("Gate", camera("Gate", { eventsUnheard, state: "waiting" }));
  board.sinks.set("local", sink("local"));
  const render = (rows: number) =>
    renderLiveView(board, { columns: 110, rows, nowMs: NOW_MS, color: false });
  const lines = render(40);
  assert.equal(lines.filter((line) => line.includes("cannot be seen")).length, 1);
  assert.match(lines[2] ?? "", /● Yard .* 1,234 /);
  assert.match(lines[3] ?? "", /^ +motion cannot be seen \(no ffmpeg\): everything is recorded$/);
  const tight = render(lines.length);
  assert.ok(!tight.join("\n").includes("cannot be seen"), tight.join("\n"));
  assert.match(tight.at(-1) ?? "", /^local/);
});

Deno.test("colours are escape sequences only when asked for", () => {
  const options = { columns: 100, rows: 30, nowMs: NOW_MS };
  const plain = renderLiveView(exampleBoard(), { ...options, color: false });
  const colored = renderLiveView(exampleBoard(), { ...options, color: true });
  assert.ok(!plain.join().includes("\x1b["));
  assert.ok(colored.join().includes("\x1b["));
  // deno-lint-ignore no-control-regex
  const stripped = colored.map((line) => line.replace(/\x1b\[\d+m/g, "").trimEnd());
  assert.deepEqual(stripped, plain, "colours must not move anything");
});

Deno.test("the time left stands in the header of a recording with an end", () => {
  const [header] = renderLiveView(exampleBoard(), {
    columns: 100,
    rows: 30,
    nowMs: NOW_MS,
    color: false,
    untilMs: NOW_MS + 16_200,
    title: "Demo",
  });
  assert.equal(header, "Demo · Recording 2 of 3 cameras · 1m23s · 17s left");
});

function fakeTerminal(changes: Partial<TerminalParts> = {}) {
  const written: string[] = [];
  const terminal = createTerminal({
    env: () => undefined,
    stdoutIsTerminal: true,
    stderrIsTerminal: true,
    size: () => ({ columns: 80, rows: 24 }),
    writeOut: (text) => written.push(text),
    writeErr: (text) => written.push(text),
    ...changes,
  });
  return { terminal, written };
}

Deno.test("a log line is written above the footer, which is drawn again below it", () => {
  const { terminal, written } = fakeTerminal();
  terminal.footer(["one", "two"]);
  written.length = 0;
  terminal.err("news");
  assert.equal(written.join(""), "\x1b[?2026h\r\x1b[2A\x1b[0Jnews\none\ntwo\n\x1b[?2026l");
});

Deno.test("the cursor is hidden with the first footer and back when the footer goes", () => {
  const { terminal, written } = fakeTerminal();
  terminal.footer(["one"]);
  assert.ok(written.join("").includes("\x1b[?25l"));
  terminal.footer([]);
  assert.ok(written.at(-1)?.includes("\x1b[?25h"));
});

Deno.test("without a terminal there is no footer at all", () => {
  const { terminal, written } = fakeTerminal({ stderrIsTerminal: false });
  terminal.footer(["one"]);
  terminal.err("news");
  assert.deepEqual(written, ["news\n"]);
});

Deno.test("a running view paints at once and is gone when it is disposed", async () => {
  const { terminal, written } = fakeTerminal();
  const clock = {
    now: () => NOW_MS,
    monotonic: () => 0,
    sleep: (_ms: number, { signal }: { signal?: AbortSignal } = {}) =>
      new Promise<void>((_, reject) =>
        signal?.addEventListener("abort", () => reject(signal.reason), { once: true })
      ),
  };
  {
    await using _view = startLiveView(exampleBoard(), { terminal, clock });
    assert.ok(written.join("").includes("● Front Door"));
  }
  assert.ok(written.at(-1)?.includes("\x1b[?25h"));
});

Deno.test("NO_COLOR, --no-color and a dumb terminal each switch colours off; FORCE_COLOR forces", () => {
  const color = (env: Record<string, string>, noColor = false, stderrIsTerminal = true) =>
    fakeTerminal({ env: (name) => env[name], noColor, stderrIsTerminal }).terminal.color;
  assert.equal(color({}), true);
  assert.equal(color({ NO_COLOR: "1" }), false);
  assert.equal(color({ NO_COLOR: "" }), true);
  assert.equal(color({}, true), false);
  assert.equal(color({ TERM: "dumb" }), false);
  assert.equal(color({}, false, false), false);
  assert.equal(color({ FORCE_COLOR: "1" }, false, false), true);
});
