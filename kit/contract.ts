/**
 * What the author of a sink writes so that the conformance kit can try it: how to start the server
 * that the sink stores to, which configuration reaches it, and how to look into it past the sink.
 * A plugin's `camsink.test.ts` exports it as its default.
 *
 * @module
 */

/** One object in the store, also a half-made one. */
export interface SinkTestObject {
  /** What the store calls it; any name that stays the same. */
  readonly name: string;
  /** Its bytes. Read only for objects that a case has made. */
  read():
    | Uint8Array
    | ReadableStream<Uint8Array>
    | Promise<Uint8Array | ReadableStream<Uint8Array>>;
}

/** An answer that the proxy gives in the server's place. */
export interface SinkTestAnswer {
  /** The HTTP status. */
  readonly status: number;
  /** Its headers. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Its body. */
  readonly body?: string;
}

/**
 * What a store is able to do, where that is less than others do. Whatever is said here is proven:
 * that the store is as the test says, and that the sink does the next best thing.
 */
export interface StoreAbilities {
  /**
   * `false`: nobody can ask it what it holds, such as a chat. A clip that is put again is there twice,
   * each time whole, and nothing that was there is changed.
   */
  readonly canBeAsked?: boolean;
  /** `false`: it takes no object without bytes. Such a clip is `permanent`. */
  readonly takesEmpty?: boolean;
  /**
   * `false`: its protocol has no checksum, so that encryption alone guards the way. The sink's options
   * then refuse an unencrypted address outside the user's own network.
   */
  readonly hasChecksums?: boolean;
}

/** A running server with a fresh, empty store. */
export interface SinkTestServer extends AsyncDisposable {
  /**
   * Where it listens: `http://127.0.0.1:PORT/…` or `tcp://127.0.0.1:PORT`. The kit puts its
   * fault-injecting proxy in front. Left out where nothing goes over a network: a folder, a program.
   */
  readonly url?: string;
  /**
   * The sink's options as they stand in `camsink.jsonc`, for a server that is reached at `url` (the
   * proxy's address, of the same form as above). Secrets are left out: see {@linkcode secrets}.
   */
  config(url: string): Readonly<Record<string, unknown>>;
  /**
   * The options that are secrets, with the values that the server takes. The kit gives them to the
   * sink by reference, changes them, and looks for them in everything that the sink says.
   */
  readonly secrets?: Readonly<Record<string, string>>;
  /** Values that look right and are refused; without it the kit changes letters of `secrets`. */
  readonly wrongSecrets?: Readonly<Record<string, string>>;
  /**
   * Everything in the store, seen past the sink. Without it the kit has to believe the sink's `stat`,
   * and says so.
   */
  objects?(): Promise<readonly SinkTestObject[]>;
  /**
   * `clips` (default): the store keeps the clip's bytes. `events`: it is only told of the clip, by a
   * text in which at least its key and SHA-256 stand.
   */
  readonly carries?: "clips" | "events";
  /** How this server says what in plain HTTP are the statuses 429 (with 7 s to wait) and 500. */
  readonly answers?: { readonly busy?: SinkTestAnswer; readonly error?: SinkTestAnswer };
  /** What this store is not able to do. */
  readonly store?: StoreAbilities;
}

/** What a test gets. */
export interface SinkTestContext {
  /** Aborted when the kit gives up. */
  readonly signal: AbortSignal;
  /** An empty folder of its own, removed afterwards. */
  readonly folder: string;
}

/** How a sink is tried: the default export of `camsink.test.ts`. */
export interface SinkTest {
  /** Why it cannot be tried on this machine, such as a program that is missing. */
  unavailable?(): string | undefined | Promise<string | undefined>;
  /** Starts the server. */
  start(context: SinkTestContext): Promise<SinkTestServer>;
}
