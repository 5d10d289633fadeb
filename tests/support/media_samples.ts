/**
 * Real coded pictures and sound for tests of the media room, and two foreign demuxers to read back
 * what it writes.
 *
 * @module
 */
import { ALL_FORMATS, BufferSource, EncodedPacketSink, Input } from "mediabunny";
import { createFile, type ISOFile, MP4BoxBuffer, type Sample } from "mp4box";
import type { AccessUnit, Track } from "../../core/types.ts";
import { createMp4Writer, type Mp4WriterOptions } from "../../core/media/mp4_writer.ts";
import { makeOpusConfig } from "../../core/media/opus.ts";

/** Wall time at which all test recordings begin. */
export const STARTED_AT = new Date("2026-08-21T14:05:00.250Z");

/** A recording in the form that sources give. */
export interface Recording {
  readonly tracks: readonly Track[];
  /** In decode order, all tracks mixed. */
  readonly units: readonly AccessUnit[];
}

/** Bytes of a file in `tests/fixtures/media/`. */
export function readFixture(name: string): Uint8Array<ArrayBuffer> {
  return Deno.readFileSync(new URL(`../fixtures/media/${name}`, import.meta.url));
}

/** Reads a fixture into access units whose session time begins at `originUs`. */
export function readRecording(name: string, originUs = 5_000_000): Promise<Recording> {
  return parseRecording(readFixture(name), originUs);
}

/** Reads a file as {@linkcode readRecording} does. */
export async function parseRecording(
  file: Uint8Array<ArrayBuffer>,
  originUs = 5_000_000,
): Promise<Recording> {
  using input = new Input({ source: new BufferSource(file), formats: ALL_FORMATS });
  const tracks: Track[] = [];
  const units: AccessUnit[] = [];
  for (const [i, track] of (await input.getTracks()).entries()) {
    const id = i + 1;
    const codec = await track.getCodec();
    const packets = [];
    for await (const packet of new EncodedPacketSink(track).packets()) packets.push(packet);
    if (track.isVideoTrack()) {
      const config = await track.getDecoderConfig();
      tracks.push({
        id,
        kind: "video",
        codec: codec === "avc" ? "h264" : "h265",
        widthPx: await track.getCodedWidth(),
        heightPx: await track.getCodedHeight(),
        config: toBytes(config?.description),
      });
    } else if (track.isAudioTrack()) {
      const config = await track.getDecoderConfig();
      const channels = await track.getNumberOfChannels();
      tracks.push({
        id,
        kind: "audio",
        codec: codec === "opus" ? "opus" : "aac",
        sampleRateHz: await track.getSampleRate(),
        channels,
        config: codec === "opus"
          ? makeOpusConfig({ channels, preSkip: 312 })
          : toBytes(config?.description),
      });
    }
    const shown = packets.map((packet) => Math.round(packet.timestamp * 1e6));
    // Decoded in the order of the file, at the times of showing, one reordering delay earlier.
    const decoded = [...shown].sort((a, b) => a - b);
    const delayUs = Math.max(0, ...decoded.map((dts, k) => dts - (shown[k] ?? 0)));
    for (const [k, packet] of packets.entries()) {
      const ptsUs = originUs + (shown[k] ?? 0);
      units.push({
        trackId: id,
        data: packet.data,
        ptsUs,
        dtsUs: originUs + (decoded[k] ?? 0) - delayUs,
        isKey: packet.type === "key",
        capturedAtMs: STARTED_AT.getTime() + (shown[k] ?? 0) / 1000,
      });
    }
  }
  units.sort((a, b) => a.dtsUs - b.dtsUs);
  return { tracks, units };
}

function toBytes(data: AllowSharedBufferSource | undefined): Uint8Array {
  if (data === undefined) return new Uint8Array();
  return ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice()
    : new Uint8Array(data).slice();
}

/** A clip in its states. */
export interface WrittenClip {
  /** As it stands on the disk before it is finished. */
  readonly torn: Uint8Array<ArrayBuffer>;
  /** Where each fragment ends in it. */
  readonly fragmentEnds: readonly number[];
  readonly finished: Uint8Array<ArrayBuffer>;
}

/** Writes a recording as a clip with fragments of `fragmentUs`. */
export function writeClip(
  recording: Recording,
  options: Partial<Mp4WriterOptions> & { readonly fragmentUs?: number } = {},
): WrittenClip {
  const writer = createMp4Writer({
    tracks: recording.tracks,
    startedAt: STARTED_AT,
    camera: "Front door",
    product: "camsink test",
    ...options,
  });
  const pieces: Uint8Array[] = [writer.header()];
  const fragmentEnds: number[] = [];
  const groups = groupUnits(recording.units, options.fragmentUs ?? 1_000_000);
  for (const [i, units] of groups.entries()) {
    const later = groups.slice(i + 1).flat();
    const nextDtsUs = new Map<number, number>();
    for (const { trackId, dtsUs } of later) {
      if (!nextDtsUs.has(trackId)) nextDtsUs.set(trackId, dtsUs);
    }
    pieces.push(...writer.fragment(units, { nextDtsUs }));
    fragmentEnds.push(writer.bytes);
  }
  const torn = concat(pieces);
  const end = writer.finish();
  const finished = concat([torn, ...end.tail]);
  finished.set(end.patch.bytes, end.patch.offset);
  return { torn, fragmentEnds, finished };
}

/** Cuts units into groups of equal length in time. */
export function groupUnits(units: readonly AccessUnit[], lengthUs: number): AccessUnit[][] {
  const groups = new Map<number, AccessUnit[]>();
  const first = units[0]?.dtsUs ?? 0;
  for (const unit of units) {
    const group = Math.floor((unit.dtsUs - first) / lengthUs);
    const members = groups.get(group) ?? [];
    members.push(unit);
    groups.set(group, members);
  }
  return [...groups.values()];
}

/** Joins bytes. */
export function concat(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

/** A sample as a demuxer sees it. */
export interface DemuxedSample {
  readonly dtsTicks?: number;
  readonly ptsTicks: number;
  readonly isKey: boolean;
  readonly data: Uint8Array;
}

/** Reads the samples of every track, by track id, with mediabunny. */
export async function demuxWithMediabunny(
  file: Uint8Array<ArrayBuffer>,
): Promise<Map<number, DemuxedSample[]>> {
  using input = new Input({ source: new BufferSource(file), formats: ALL_FORMATS });
  const found = new Map<number, DemuxedSample[]>();
  for (const track of await input.getTracks()) {
    const samples: DemuxedSample[] = [];
    for await (const packet of new EncodedPacketSink(track).packets()) {
      samples.push({
        ptsTicks: Math.round(packet.timestamp * await track.getTimeResolution()),
        isKey: packet.type === "key",
        data: packet.data,
      });
    }
    found.set(track.id, samples);
  }
  return found;
}

/** Reads the samples of every track, by track id, with mp4box.js. Edit lists are applied. */
export function demuxWithMp4box(
  file: Uint8Array<ArrayBuffer>,
): { readonly iso: ISOFile; readonly tracks: Map<number, DemuxedSample[]> } {
  const iso = createFile();
  iso.appendBuffer(MP4BoxBuffer.fromArrayBuffer(file.slice().buffer, 0), true);
  iso.flush();
  const tracks = new Map<number, DemuxedSample[]>();
  for (const trak of iso.moov?.traks ?? []) {
    const edits = trak.edts?.elst?.entries ?? [];
    const movieScale = iso.moov?.mvhd.timescale ?? 1;
    const scale = trak.mdia.mdhd.timescale;
    const delay = edits[0]?.media_time === -1
      ? Math.round((edits[0].segment_duration * scale) / movieScale)
      : 0;
    const samples: Sample[] = trak.samples ?? [];
    tracks.set(
      trak.tkhd.track_id,
      samples.map((sample) => ({
        dtsTicks: sample.dts + delay,
        ptsTicks: sample.cts + delay,
        isKey: sample.is_sync,
        data: file.subarray(sample.offset, sample.offset + sample.size),
      })),
    );
  }
  return { iso, tracks };
}
