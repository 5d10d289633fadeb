/** The closing summary as data and as text. */
import assert from "node:assert/strict";
import { renderSummary, summarize } from "../../commands/summary.ts";
import { revealedSecrets } from "../../core/config/values.ts";
import { exampleBoard, START_MS } from "./boards.ts";

const summary = summarize(exampleBoard(), { endedAtMs: START_MS + 90_000 });

Deno.test("the summary adds up cameras, clips, frames, bytes, deliveries and gaps", () => {
  assert.deepEqual(summary.total, {
    cameras: 3,
    clips: 3,
    bytes: 19_200_000,
    framesCaptured: 3168,
    framesDropped: 12,
    framesRecorded: 3702,
    deliveries: 4,
    gaps: 3,
  });
  assert.equal(summary.startedAt, "2026-08-21T14:05:00.000Z");
  assert.equal(summary.durationMs, 90_000);
});

Deno.test("a gap that is still open counts up to the end of the recording", () => {
  assert.deepEqual(summary.cameras[2]?.gaps, { count: 1, totalMs: 20_000 });
});

Deno.test("a secret that a server threw back is in no reason of the summary", () => {
  const secret = "c2lnbmF0dXJl/of+a+SAS==";
  revealedSecrets.add(secret);
  try {
    const board = exampleBoard();
    const azure = board.sinks.get("azure");
    assert.ok(azure);
    azure.reason = `503: ${btoa(`x PUT /clip?sig=${secret}`)}`;
    const line = JSON.stringify(summarize(board, { endedAtMs: START_MS + 90_000 }));
    assert.match(line, /"reason":"503: .*\*\*\*/);
    assert.ok(!line.includes(btoa(`x PUT /clip?sig=${secret}`)));
  } finally {
    revealedSecrets.delete(secret);
  }
});

Deno.test("the summary is one JSON line with the event's name", () => {
  const line = JSON.stringify(summary);
  assert.ok(line.startsWith('{"event":"summary",'));
  assert.ok(!line.includes("\n"));
});

Deno.test("the summary for a person says where the clips lie and what still waits", () => {
  assert.deepEqual(renderSummary(summary, { columns: 100, color: false }), [
    "Recorded 3 cameras for 1m30s: 3 clips, 19.2 MB, 3,168 frames captured, 12 dropped",
    "CAMERA      CLIPS    SIZE  CAPTURED  DROPPED  GAPS    ENCODER",
    "Front Door      1  6.4 MB     1,234        0  none    wasm 3.2×",
    "Büro 🎥         1  6.4 MB     1,234       12  2, 14s  copy",
    "Yard            1  6.4 MB       700        0  1, 20s  wasm 3.2×",
    "✓ local: 3 clips delivered, 19.2 MB, in ./clips",
    "! azure: 1 clip delivered, 6.4 MB, in https://mystorage.blob.core.windows.net",
    "  2 clips (12.8 MB) wait on the spool for the next start: 503 ServerBusy",
  ]);
});
