/**
 * Boards as a recording would leave them, for tests of what is shown of them.
 *
 * @module
 */
import {
  type Board,
  type CameraStatus,
  createBoard,
  type SinkStatus,
} from "../../core/status/board.ts";

/** 2026-08-21 14:05:00 UTC. */
export const START_MS = Date.UTC(2026, 7, 21, 14, 5, 0);

/** A camera that records well; `changes` say what is different. */
export function camera(name: string, changes: Partial<CameraStatus> = {}): CameraStatus {
  return {
    name,
    slug: name.toLowerCase().replaceAll(" ", "-"),
    state: "recording",
    framesCaptured: 1234,
    framesDropped: 0,
    framesRecorded: 1234,
    fps: 9.96,
    widthPx: 1280,
    heightPx: 720,
    openClip: "front-door/2026/08/21/20260821T140600Z.mp4",
    openClipBytes: 2_345_678,
    clipsFinished: 1,
    bytesFinished: 6_400_000,
    encoder: { name: "wasm", speed: 3.21 },
    gaps: { count: 0, totalMs: 0 },
    ...changes,
  };
}

/** A sink that takes everything; `changes` say what is different. */
export function sink(name: string, changes: Partial<SinkStatus> = {}): SinkStatus {
  return {
    name,
    type: "local-folder",
    where: "./clips",
    state: "idle",
    backlogClips: 0,
    backlogBytes: 0,
    clipsDelivered: 3,
    bytesDelivered: 19_200_000,
    lastDeliveryAtMs: START_MS + 80_000,
    clipsQuarantined: 0,
    ...changes,
  };
}

/** Three cameras in three states, two sinks in two. */
export function exampleBoard(): Board {
  const board = createBoard(START_MS);
  const cameras = [
    camera("Front Door"),
    camera("Büro 🎥", {
      fps: 4.5,
      framesDropped: 12,
      gaps: { count: 2, totalMs: 14_000 },
      encoder: { name: "copy", speed: 0 },
    }),
    camera("Yard", {
      state: "waiting",
      reason: "connection refused\x1b[31m by\nhost",
      gapSinceMs: START_MS + 70_000,
      framesCaptured: 700,
      gaps: { count: 1, totalMs: 0 },
    }),
  ];
  for (const status of cameras) board.cameras.set(status.name, status);
  board.sinks.set("local", sink("local"));
  board.sinks.set(
    "azure",
    sink("azure", {
      type: "azure-blob",
      where: "https://mystorage.blob.core.windows.net",
      state: "retrying",
      reason: "503 ServerBusy",
      backlogClips: 2,
      backlogBytes: 12_800_000,
      clipsDelivered: 1,
      bytesDelivered: 6_400_000,
    }),
  );
  return board;
}
