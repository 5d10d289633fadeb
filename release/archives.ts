/**
 * Archives whose bytes follow from their contents alone: no owner, one time for all, sorted. Two
 * builds of one commit are compared byte by byte, which the usual tools make hard in ways that differ
 * between systems.
 *
 * Layouts: ustar, IEEE Std 1003.1-2017, `pax`, "ustar Interchange Format"; ZIP, PKWARE's
 * APPNOTE.TXT 6.3.10, 4.3.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { promisify } from "node:util";
import { constants, crc32, deflateRaw, gzip } from "node:zlib";

/** A file in an archive. */
export interface ArchiveFile {
  /** With slashes, relative; at most 100 characters of ASCII. */
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly isProgram: boolean;
}

/** How an archive is made. */
export interface ArchiveOptions {
  /** The time of every file, seconds since 1970. */
  readonly timeS: number;
}

const BLOCK = 512;
const encoder = new TextEncoder();

/** A gzipped tar archive. */
export async function tarGz(
  files: readonly ArchiveFile[],
  options: ArchiveOptions,
): Promise<Uint8Array> {
  return await promisify(gzip)(tar(files, options), { level: constants.Z_BEST_COMPRESSION });
}

/** A tar archive; folders are made by whoever unpacks it. */
export function tar(files: readonly ArchiveFile[], { timeS }: ArchiveOptions): Uint8Array {
  const blocks: Uint8Array[] = [];
  for (const { path, bytes, isProgram } of sorted(files)) {
    const header = Buffer.alloc(BLOCK);
    const octal = (value: number, offset: number, digits: number) =>
      header.write(`${value.toString(8).padStart(digits, "0")}\0`, offset, "latin1");
    header.write(path, 0, "latin1");
    octal(isProgram ? 0o755 : 0o644, 100, 7);
    octal(0, 108, 7); // user
    octal(0, 116, 7); // group
    octal(bytes.length, 124, 11);
    octal(timeS, 136, 11);
    header.write("        ", 148, "latin1"); // the checksum counts as blanks
    header.write("0", 156, "latin1"); // a file
    header.write("ustar\0" + "00", 257, "latin1");
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    const padding = (BLOCK - bytes.length % BLOCK) % BLOCK;
    blocks.push(header, bytes, Buffer.alloc(padding));
  }
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

/** A ZIP archive, for systems without a shell. */
export async function zip(
  files: readonly ArchiveFile[],
  { timeS }: ArchiveOptions,
): Promise<Uint8Array> {
  const time = new Date(timeS * 1000);
  const dosTime = time.getUTCHours() << 11 | time.getUTCMinutes() << 5 | time.getUTCSeconds() >> 1;
  const dosDate = time.getUTCFullYear() - 1980 << 9 | time.getUTCMonth() + 1 << 5 |
    time.getUTCDate();
  const locals: Uint8Array[] = [];
  const central: Uint8Array[] = [];
  let offset = 0;
  for (const { path, bytes, isProgram } of sorted(files)) {
    const packed = await promisify(deflateRaw)(bytes, { level: constants.Z_BEST_COMPRESSION });
    const name = encoder.encode(path);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0); // needs version 2.0
    common.writeUInt16LE(8, 4); // deflate
    common.writeUInt16LE(dosTime, 6);
    common.writeUInt16LE(dosDate, 8);
    common.writeUInt32LE(crc32(bytes), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(bytes.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04", "latin1"), common, name, packed]);
    locals.push(local);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE((0o100000 | (isProgram ? 0o755 : 0o644)) * 0x10000, 6);
    rest.writeUInt32LE(offset, 10);
    // Made by: version 2.0 on Unix, so that the rights above mean something.
    central.push(Buffer.from("PK\x01\x02\x14\x03", "latin1"), common, rest, name);
    offset += local.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", 0, "latin1");
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, directory, end]);
}

function sorted(files: readonly ArchiveFile[]): ArchiveFile[] {
  for (const { path } of files) {
    if (!/^[\x21-\x7e]{1,100}$/.test(path)) {
      throw new Error(`"${path}" cannot be in an archive: expected up to 100 characters of ASCII`);
    }
  }
  return [...files].sort((a, b) => a.path < b.path ? -1 : 1);
}
