/**
 * The way out of ffmpeg: an incremental reader of FLV (Adobe Flash Video File Format Specification
 * 10.1, annex E). FLV is chosen because each of its tags is complete when its last byte is there,
 * its H.264 is already in the form of our access units (4-byte lengths, parameter sets apart as
 * `avcC`), and it carries the time that tells which picture this is.
 *
 * Header (9 bytes, its length at byte 5) · previous-tag size (4) · tags: type (1) · body size (3) ·
 * time ms (3 + 1 high byte) · stream (3) · body. A video body: frame type and codec (1, key is 1x,
 * AVC is x7) · packet type (1: 0 avcC, 1 NAL units, 2 end) · composition offset (3) · data.
 *
 * @module
 */

/** One coded picture, or a decoder configuration. */
export type FlvPacket =
  | { readonly kind: "config"; readonly config: Uint8Array<ArrayBuffer> }
  | {
    readonly kind: "picture";
    readonly timeMs: number;
    readonly isKey: boolean;
    readonly data: Uint8Array<ArrayBuffer>;
  };

/** NAL unit types that carry nothing a player needs: SEI (x264's page of settings) and delimiters. */
const DROPPED_NAL_TYPES: ReadonlySet<number> = new Set([6, 9]);

/** Takes bytes as they come, in pieces of any size, and gives back whole packets. */
export class FlvReader {
  #pending: Uint8Array<ArrayBuffer> = new Uint8Array(64 * 1024);
  #length = 0;
  #headerSeen = false;

  /** @throws Error if the bytes are no FLV stream with H.264 in it */
  push(bytes: Uint8Array): FlvPacket[] {
    this.#append(bytes);
    const packets: FlvPacket[] = [];
    const data = this.#pending;
    let position = 0;
    if (!this.#headerSeen) {
      if (this.#length < 13) return packets;
      if (data[0] !== 0x46 || data[1] !== 0x4c || data[2] !== 0x56) {
        throw new Error(
          `the encoder's output is no FLV stream: expected 46 4c 56 at its start, got ${
            [...data.subarray(0, 3)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ")
          }`,
        );
      }
      this.#headerSeen = true;
      position = 13;
    }
    while (this.#length - position >= 15) {
      const bodyBytes = read24(data, position + 1);
      if (this.#length - position < 15 + bodyBytes) break;
      if (data[position] === 9) {
        const timeMs = ((data[position + 7] ?? 0) * 2 ** 24) + read24(data, position + 4);
        const packet = parseVideo(data.slice(position + 11, position + 11 + bodyBytes), timeMs);
        if (packet) packets.push(packet);
      }
      position += 15 + bodyBytes;
    }
    data.copyWithin(0, position, this.#length);
    this.#length -= position;
    return packets;
  }

  #append(bytes: Uint8Array): void {
    if (this.#length + bytes.length > this.#pending.length) {
      const larger = new Uint8Array(2 * (this.#length + bytes.length));
      larger.set(this.#pending.subarray(0, this.#length));
      this.#pending = larger;
    }
    this.#pending.set(bytes, this.#length);
    this.#length += bytes.length;
  }
}

function parseVideo(body: Uint8Array<ArrayBuffer>, timeMs: number): FlvPacket | undefined {
  const kind = body[0] ?? 0;
  if ((kind & 0x0f) !== 7) {
    throw new Error(`the encoder gave video of FLV codec ${kind & 0x0f}, expected 7 (H.264)`);
  }
  if (body[1] === 0) return { kind: "config", config: body.slice(5) };
  if (body[1] !== 1) return undefined;
  return { kind: "picture", timeMs, isKey: kind >> 4 === 1, data: dropNoise(body.subarray(5)) };
}

/** The access unit without the NAL units that carry nothing. */
function dropNoise(unit: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const view = new DataView(unit.buffer, unit.byteOffset, unit.byteLength);
  let kept = 0;
  for (let position = 0; position + 4 < unit.length;) {
    const end = position + 4 + view.getUint32(position);
    if (end > unit.length) {
      throw new Error(
        `the encoder's picture is damaged: a NAL unit ends at byte ${end} of ${unit.length}`,
      );
    }
    if (!DROPPED_NAL_TYPES.has((unit[position + 4] ?? 0) & 0x1f)) {
      if (kept !== position) unit.copyWithin(kept, position, end);
      kept += end - position;
    }
    position = end;
  }
  return unit.subarray(0, kept);
}

function read24(data: Uint8Array, position: number): number {
  return ((data[position] ?? 0) << 16) | ((data[position + 1] ?? 0) << 8) |
    (data[position + 2] ?? 0);
}
