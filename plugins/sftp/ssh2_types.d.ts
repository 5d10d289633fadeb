/**
 * The part of ssh2 that the sink uses, in types: the package has none of its own, and those of
 * DefinitelyTyped bring a second set of Node's types along.
 *
 * @module
 */
import type { Buffer } from "node:buffer";

type Done<T = void> = (error: Error | null | undefined, value?: T) => void;

/** An SFTP session. */
export interface SFTPWrapper {
  open(path: string, flags: "r" | "w" | "wx", done: Done<Buffer>): void;
  close(handle: Buffer, done: Done): void;
  write(
    handle: Buffer,
    data: Buffer,
    offset: number,
    length: number,
    position: number,
    done: Done,
  ): void;
  read(
    handle: Buffer,
    into: Buffer,
    offset: number,
    length: number,
    position: number,
    done: Done<number>,
  ): void;
  rename(from: string, to: string, done: Done): void;
  unlink(path: string, done: Done): void;
  mkdir(path: string, done: Done): void;
  stat(path: string, done: Done<{ readonly size: number; isDirectory(): boolean }>): void;
  ext_openssh_fsync(handle: Buffer, done: Done): void;
  on(event: "error", listener: (error: Error) => void): void;
}

/** A connection. */
export interface Client {
  connect(options: {
    readonly host: string;
    readonly port: number;
    readonly username: string;
    readonly password?: string;
    readonly privateKey?: string;
    readonly readyTimeout: number;
    readonly keepaliveInterval: number;
    readonly hostVerifier: (key: Buffer) => boolean;
  }): void;
  sftp(done: Done<SFTPWrapper>): void;
  setNoDelay(noDelay: boolean): void;
  destroy(): void;
  on(event: "connect" | "ready" | "close", listener: () => void): void;
  on(event: "error", listener: (error: Error) => void): void;
}

declare const ssh2: { readonly Client: new () => Client };
export default ssh2;
