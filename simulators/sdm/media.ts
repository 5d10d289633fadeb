/**
 * The media of the simulated Device Access cameras: a coded scene per camera, played to each of its
 * streams by a WebRTC peer or an RTSP server, with faults on the way of the packets.
 *
 * @module
 */
import {
  BufferTarget,
  EncodedPacket,
  EncodedVideoPacketSource,
  Mp4OutputFormat,
  Output,
} from "mediabunny";
import type { Clock } from "../../core/types.ts";
import { type RtspCamera, startRtspCamera } from "../rtsp_camera.ts";
import { type CodedScene, createCodedScene } from "../scene/coded_scene.ts";
import type { SdmCamera, SdmMedia } from "./camera.ts";
import {
  noPacketCounts,
  noPacketFaults,
  openWebRtcCamera,
  type PacketCounts,
  type PacketFaults,
  type WebRtcCameraPeer,
} from "./webrtc_camera.ts";

/** Real media, and what can be done to it. */
export interface SdmMediaDesk extends SdmMedia {
  /** What goes wrong with the packets of this camera; to be changed as one likes. */
  faults(camera: SdmCamera): PacketFaults;
  /** What its packets went through. */
  counts(camera: SdmCamera): PacketCounts;
  /** What the camera sees and hears. */
  scene(camera: SdmCamera): Promise<CodedScene>;
  /** An MP4 of ten pictures, as previews of clips are. */
  preview(camera: SdmCamera): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Pictures per second of every scene. */
const FPS = 15;

/** Makes the media of a project. Nothing is encoded before a stream is opened. */
export function createSdmMedia(
  { clock, random, cacheFolder }: {
    readonly clock: Clock;
    readonly random: () => number;
    readonly cacheFolder?: string | undefined;
  },
): SdmMediaDesk {
  const faults = new Map<string, PacketFaults>();
  const counts = new Map<string, PacketCounts>();
  const scenes = new Map<string, Promise<CodedScene>>();
  const peers = new Set<WebRtcCameraPeer>();
  const servers = new Set<RtspCamera>();

  const entry = <T>(map: Map<string, T>, { id }: SdmCamera, make: () => T): T => {
    const known = map.get(id) ?? make();
    map.set(id, known);
    return known;
  };
  const desk: SdmMediaDesk = {
    faults: (camera) => entry(faults, camera, noPacketFaults),
    counts: (camera) => entry(counts, camera, noPacketCounts),
    scene: (camera) =>
      entry(scenes, camera, () =>
        createCodedScene({
          name: camera.name,
          widthPx: camera.widthPx,
          heightPx: camera.heightPx,
          fps: FPS,
          audio: { codec: camera.protocol === "RTSP" ? "aac" : "opus" },
          clock,
          ...(cacheFolder === undefined ? {} : { cacheFolder }),
        })),
    async webRtc(camera, stream, offerSdp) {
      const peer = await openWebRtcCamera({
        offerSdp,
        scene: await desk.scene(camera),
        clock,
        random,
        faults: desk.faults(camera),
        counts: desk.counts(camera),
        isAlive: () => stream.isAlive(),
        hangs: () => camera.hangs,
      });
      peers.add(peer);
      return {
        where: peer.answerSdp,
        close: () => {
          peers.delete(peer);
          peer.close().catch(() => {});
        },
      };
    },
    async rtsp(camera, stream) {
      // A server of its own for each stream: its address dies with it.
      const { video, origin } = await desk.scene(camera);
      const server = await startRtspCamera({
        name: camera.name,
        widthPx: video.widthPx,
        heightPx: video.heightPx,
        fps: FPS,
        audio: { codec: "aac" },
        origin,
        clock,
        random,
        // The token is that of the newest extension, and an address is for one client at a time.
        refuses: ({ query, viewers }) =>
          !stream.isAlive()
            ? "404 Not Found"
            : `auth=${query.get("auth")}` !== stream.auth || viewers > 0
            ? "403 Forbidden"
            : undefined,
        ...(cacheFolder === undefined ? {} : { cacheFolder }),
      });
      servers.add(server);
      const close = () => {
        servers.delete(server);
        server.close().catch(() => {});
      };
      if (!stream.isAlive()) close();
      return { where: server.url, close };
    },
    async preview(camera) {
      const scene = await desk.scene(camera);
      const { widthPx, heightPx, parameterSets } = scene.video;
      const output = new Output({ format: new Mp4OutputFormat(), target: new BufferTarget() });
      const source = new EncodedVideoPacketSource("avc");
      output.addVideoTrack(source, { frameRate: 2 });
      await output.start();
      for (let index = 0; index < 10; index++) {
        const picture = scene.picture(index);
        const nals = [...(picture.isKey ? parameterSets : []), ...picture.nals];
        const sps = parameterSets[0] ?? new Uint8Array(4);
        await source.add(
          new EncodedPacket(annexB(nals), picture.isKey ? "key" : "delta", index / 2, 0.5),
          index > 0 ? undefined : {
            decoderConfig: {
              codec: `avc1.${[1, 2, 3].map((at) => hex(sps[at] ?? 0)).join("")}`,
              codedWidth: widthPx,
              codedHeight: heightPx,
            },
          },
        );
      }
      await output.finalize();
      return new Uint8Array(output.target.buffer ?? new ArrayBuffer(0));
    },
    async close() {
      await Promise.all([...peers, ...servers].map((one) => one.close()));
      peers.clear();
      servers.clear();
    },
  };
  return desk;
}

function annexB(nals: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(nals.reduce((sum, nal) => sum + 4 + nal.length, 0));
  let at = 0;
  for (const nal of nals) {
    bytes[at + 3] = 1;
    bytes.set(nal, at + 4);
    at += 4 + nal.length;
  }
  return bytes;
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
