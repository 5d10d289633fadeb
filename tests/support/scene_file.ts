/**
 * The coded scene as an MP4 file, for servers that are not ours, and a session's units as a clip, to
 * be read back by the oracle of `scene_marks.ts` and by decoders.
 *
 * @module
 */
import { makeAudioSpecificConfig } from "../../core/media/aac.ts";
import { joinLengthPrefixed } from "../../core/media/annexb.ts";
import { h264NalType, makeAvcConfig } from "../../core/media/h264.ts";
import { h265NalType, makeHevcConfig } from "../../core/media/h265.ts";
import { createMp4Writer } from "../../core/media/mp4_writer.ts";
import { makeOpusConfig } from "../../core/media/opus.ts";
import type { AccessUnit, Track } from "../../core/types.ts";
import { type CodedSceneOptions, createCodedScene } from "../../simulators/scene/coded_scene.ts";

/** Joins units of some tracks to a clip. */
export function clipOf(units: readonly AccessUnit[], tracks: readonly Track[]): Uint8Array {
  const writer = createMp4Writer({
    tracks,
    startedAt: new Date(units[0]?.capturedAtMs ?? 0),
    camera: "Yard",
    product: "test",
  });
  const parts = [writer.header()];
  let gop: AccessUnit[] = [];
  for (const unit of units) {
    if (unit.trackId === 1 && unit.isKey && gop.length > 0) {
      parts.push(...writer.fragment(gop));
      gop = [];
    }
    gop.push(unit);
  }
  if (gop.length > 0) parts.push(...writer.fragment(gop));
  const { tail, patch } = writer.finish();
  parts.push(...tail);
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  bytes.set(patch.bytes, patch.offset);
  return bytes;
}

/** The first `seconds` of a scene with H.264 or H.265, and AAC or Opus, as a file. */
export async function sceneFile(
  { seconds, ...options }: CodedSceneOptions & { readonly seconds: number },
): Promise<Uint8Array> {
  const scene = await createCodedScene(options);
  const { video, audio } = scene;
  const ofType = (type: number) =>
    video.parameterSets.filter((nal) =>
      (video.codec === "h264" ? h264NalType(nal[0] ?? 0) : h265NalType(nal[0] ?? 0)) === type
    );
  const tracks: Track[] = [{
    id: 1,
    kind: "video",
    codec: video.codec,
    widthPx: video.widthPx,
    heightPx: video.heightPx,
    config: video.codec === "h264"
      ? makeAvcConfig({ sps: ofType(7), pps: ofType(8) })
      : makeHevcConfig({ vps: ofType(32), sps: ofType(33), pps: ofType(34) }),
  }];
  const units: AccessUnit[] = [];
  for (let index = 0; index < seconds * video.fps; index++) {
    const { nals, isKey, ptsUs, takenAtMs } = scene.picture(index);
    const data = joinLengthPrefixed(nals);
    units.push({ trackId: 1, data, ptsUs, dtsUs: ptsUs, isKey, capturedAtMs: takenAtMs });
  }
  if (audio?.codec === "aac" || audio?.codec === "opus") {
    const { sampleRateHz, channels } = audio;
    tracks.push({
      id: 2,
      kind: "audio",
      codec: audio.codec,
      sampleRateHz,
      channels,
      config: audio.codec === "aac"
        ? makeAudioSpecificConfig({ objectType: 2, sampleRateHz, channels })
        : makeOpusConfig({ channels }),
    });
    const frames = Math.floor(seconds * sampleRateHz / audio.samplesPerFrame);
    for (let index = 0; index < frames; index++) {
      const { data, ptsUs, takenAtMs } = scene.sound(index);
      units.push({ trackId: 2, data, ptsUs, dtsUs: ptsUs, isKey: true, capturedAtMs: takenAtMs });
    }
  }
  return clipOf(units.sort((a, b) => a.dtsUs - b.dtsUs), tracks);
}
