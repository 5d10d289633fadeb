/**
 * What a live stream shows to be let in, and what it shows next when that is refused. A Google
 * account has two tokens of which no one knows which a server wants (the session's and the JWT behind
 * it): both are tried, and the one that worked comes first from then on. When none works the login is
 * renewed, once.
 *
 * @module
 */
import type { NestAuth, NestTicket } from "./auth.ts";
import type { StreamToken } from "./nexus_packets.ts";

/** Which form of token worked last; shared by the cameras of an account. */
export interface TokenMemory {
  form: number;
}

/** The tokens of one session, in the order in which they are tried. */
export class StreamCredentials {
  readonly #auth: Pick<NestAuth, "current" | "renewed">;
  readonly #memory: TokenMemory;
  #ticket: NestTicket | undefined;
  /** Forms that were refused with the present login. */
  readonly #refused = new Set<number>();
  #form = 0;
  #hasRenewed = false;
  #proven = false;

  constructor(auth: Pick<NestAuth, "current" | "renewed">, memory: TokenMemory) {
    this.#auth = auth;
    this.#memory = memory;
  }

  /** The token to begin a connection with. @throws a source error where there is no login */
  async first(signal: AbortSignal): Promise<StreamToken> {
    this.#ticket = await this.#auth.current(signal);
    this.#refused.clear();
    this.#form = this.#memory.form;
    return this.#token(this.#ticket);
  }

  /** The one that was given is good. */
  accepted(): void {
    this.#memory.form = this.#form;
    this.#refused.clear();
    this.#hasRenewed = false;
    this.#proven = true;
  }

  /** The one that was given was refused: another, or `undefined` where there is none. */
  async next(signal: AbortSignal): Promise<StreamToken | undefined> {
    const ticket = this.#ticket;
    if (!ticket) return await this.first(signal);
    this.#refused.add(this.#form);
    const other = ticket.streamTokens.findIndex((_, form) => !this.#refused.has(form));
    if (other >= 0) {
      this.#form = other;
      return this.#token(ticket);
    }
    if (this.#hasRenewed) return undefined;
    return await this.renewed(signal);
  }

  /** What was good no longer is: one of a new login. */
  async renewed(signal: AbortSignal): Promise<StreamToken> {
    const ticket = this.#ticket;
    if (!ticket) return await this.first(signal);
    this.#hasRenewed = true;
    this.#ticket = await this.#auth.renewed(ticket, { signal, proven: this.#proven });
    this.#refused.clear();
    this.#form = this.#memory.form;
    return this.#token(this.#ticket);
  }

  #token({ streamTokens }: NestTicket): StreamToken {
    const token = streamTokens[this.#form] ?? streamTokens[0];
    if (!token) throw new Error("a login without a token for live streams: this is a bug");
    return token;
  }
}
