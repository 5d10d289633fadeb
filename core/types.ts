/**
 * The nouns of Camsink, and nothing else: every room speaks in these types, and this file imports
 * nothing. `docs/glossary.md` tells the words to a newcomer; the types here are their exact form.
 *
 * Three clocks are kept apart. *Media time* (`ptsUs`, `dtsUs`) orders units within a session, *wall
 * time* (`…Ms` since the Unix epoch, `Date`) labels them, and *monotonic time* measures durations.
 *
 * @module
 */

/** How a track's units are coded. */
export type VideoCodec = "jpeg" | "h264" | "h265";
/**
 * How an audio track's units are coded. `pcm` is not coded at all, and no clip can hold it: it is made
 * AAC on the way.
 */
export type AudioCodec = "aac" | "opus" | "pcm";

/** A stream of pictures. */
export interface VideoTrack {
  /** Names the track within its session; 1 or more. */
  readonly id: number;
  /** Pictures. */
  readonly kind: "video";
  /** How its units are coded. */
  readonly codec: VideoCodec;
  /** Of the coded picture. */
  readonly widthPx: number;
  /** Of the coded picture. */
  readonly heightPx: number;
  /**
   * The decoder configuration record: `avcC` body (ISO/IEC 14496-15 §5.3.3.1) for H.264, `hvcC` body
   * (§8.3.3.1) for H.265, empty for JPEG.
   */
  readonly config: Uint8Array;
}

/** A stream of sound. */
export interface AudioTrack {
  /** Names the track within its session; 1 or more. */
  readonly id: number;
  /** Sound. */
  readonly kind: "audio";
  /** How its units are coded. */
  readonly codec: AudioCodec;
  /** Of the decoded sound. */
  readonly sampleRateHz: number;
  /** 1 is mono, 2 is stereo. */
  readonly channels: number;
  /** AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1) for AAC, `dOps` body for Opus, else empty. */
  readonly config: Uint8Array;
}

/** One stream of a session. */
export type Track = VideoTrack | AudioTrack;

/**
 * One coded picture or audio frame.
 *
 * `data` is, by codec: a whole JPEG; an H.264/H.265 access unit whose NAL units each carry a 4-byte
 * big-endian length in front (no start codes, no parameter sets: those are in the track's
 * `config`); one raw AAC frame without its ADTS header; one Opus packet; some samples of `pcm`,
 * signed 16-bit little-endian, the channels of each side by side. It is never changed after the unit
 * was handed on.
 */
export interface AccessUnit {
  /** The track that it belongs to. */
  readonly trackId: number;
  /** The coded bytes; see above. */
  readonly data: Uint8Array;
  /** Presentation time in the session's media time, µs. */
  readonly ptsUs: number;
  /** Decode time in the session's media time, µs; never decreases within a track. */
  readonly dtsUs: number;
  /** Decoding may start here. Every JPEG and every audio frame is key. */
  readonly isKey: boolean;
  /** Wall time at which the picture was taken or, where unknown, received; ms since the epoch. */
  readonly capturedAtMs: number;
  /** Present when the track's description changes with this unit (new size, new parameter sets). */
  readonly track?: Track;
  /**
   * Gives `data` back to be used again. Whoever lets the unit go, because it is on the disk or because
   * it was shed, may call it once, and nobody may read `data` after that.
   */
  readonly release?: () => void;
  /**
   * No picture came together with this one after it: now is the time to write what was gathered. Left out
   * where pictures come one by one.
   */
  readonly endsBurst?: boolean;
}

/** A live connection to one camera. Iterating it yields its units in decode order. */
export interface Session extends AsyncIterable<AccessUnit>, AsyncDisposable {
  /** What it yields, known from the start. */
  readonly tracks: readonly Track[];
}

/** One camera as something that can be opened. A source is one session: it never retries. */
export interface Source {
  /**
   * How long opening may take, ms, where a camera has to wait for its turn among others of its account.
   * The recorder's own patience where it is left out.
   */
  readonly openWithinMs?: number;
  /**
   * The longest pause before one that is away is tried again, ms: short for a camera of one's own, which
   * asking costs nobody anything. A minute where it is left out.
   */
  readonly retryMs?: number;
  /**
   * Connects, and resolves when the first unit's description is known.
   *
   * @throws an error made by {@linkcode sourceError}; an aborted `signal` rejects with its reason
   */
  open(options: { readonly signal: AbortSignal }): Promise<Session>;
  /** As of {@linkcode DiscoveredCamera}: what the camera itself notices, where it tells. */
  events?(options: { readonly signal: AbortSignal }): AsyncIterable<CameraEvent>;
  /** As of {@linkcode DiscoveredCamera}; but many such cameras tell nothing, which is no fault. */
  readonly tellsAlways?: boolean;
}

/**
 * Why a session could not be had or ended: the camera is away or switched off (`offline`), the
 * login was refused (`auth`), asked too often (`rate`), an answer was not understood (`protocol`),
 * or the account no longer has this camera (`gone`).
 */
export type SourceErrorKind = "offline" | "auth" | "rate" | "protocol" | "gone";

/** An error with a mark that tells the recorder what to do. */
export interface SourceError extends Error {
  /** What went wrong. */
  readonly sourceErrorKind: SourceErrorKind;
  /** Wait at least this long before the next try, ms. */
  readonly retryAfterMs?: number;
}

/** Makes a {@linkcode SourceError}. */
export function sourceError(
  kind: SourceErrorKind,
  message: string,
  options: { cause?: unknown; retryAfterMs?: number } = {},
): SourceError {
  return Object.assign(new Error(message, { cause: options.cause }), {
    name: "SourceError",
    sourceErrorKind: kind,
    ...(options.retryAfterMs === undefined ? {} : { retryAfterMs: options.retryAfterMs }),
  });
}

/** The kind marked on an error, or `offline` for anything unmarked. */
export function sourceErrorKind(error: unknown): SourceErrorKind {
  const kind = error instanceof Error && "sourceErrorKind" in error ? error.sourceErrorKind : "";
  return kind === "auth" || kind === "rate" || kind === "protocol" || kind === "gone"
    ? kind
    : "offline";
}

/** One camera as an account lists it. */
export interface ListedCamera {
  /** Stable within the account. */
  readonly id: string;
  /** What its owner calls it. */
  readonly name: string;
  /** As the account says it is. */
  readonly state: "online" | "offline" | "off";
  /** What kind of camera it is. */
  readonly model?: string;
  /** Of its pictures, where the account tells. */
  readonly widthPx?: number;
  /** Of its pictures, where the account tells. */
  readonly heightPx?: number;
}

/** Something that a camera, its cloud, or Camsink itself has noticed. */
export interface CameraEvent {
  /** Such as `motion`, `person`, `sound` or `doorbell`. */
  readonly kind: string;
  /** When it began, wall ms. */
  readonly startMs: number;
  /** When it ended, wall ms; absent while it lasts, and where nobody says. */
  readonly endMs?: number;
  /** What the camera's cloud gives to it. */
  readonly attachment?: EventAttachment;
}

/** A picture or a short preview of an event; it becomes a small clip of its own. */
export interface EventAttachment {
  /** Which of the two it is; its clip has it as a tag. */
  readonly kind: "event-image" | "clip-preview";
  /** A MIME type. */
  readonly contentType: "image/jpeg" | "video/mp4";
  /**
   * Gets it; to be called soon, and once. `undefined` if it cannot be had any more.
   *
   * @throws a source error
   */
  fetch(options: { readonly signal: AbortSignal }): Promise<Uint8Array | undefined>;
}

/** A camera that can be watched live. */
export interface DiscoveredCamera extends ListedCamera {
  /** Opens it. */
  readonly source: Source;
  /**
   * What happens before it, from now on and as it becomes known; one that lasts is told again and
   * again. Ends only with an error or when `signal` is aborted. Absent where nobody tells.
   */
  readonly events?: (options: { readonly signal: AbortSignal }) => AsyncIterable<CameraEvent>;
  /**
   * Its events cost next to nothing to hear: unless its owner says otherwise, they tag its clips also
   * where it is recorded all the time.
   */
  readonly tellsAlways?: boolean;
}

/** A camera whose maker records it, and gives the recordings out. */
export interface ArchivedCamera extends ListedCamera {
  /** Where the recordings are fetched from. */
  readonly archive: Archive;
}

/** A camera of either kind. */
export type AnyCamera = DiscoveredCamera | ArchivedCamera;

/** A piece of video that a camera's maker has recorded. */
export interface ArchivedClip {
  /** When its first picture was taken. */
  readonly start: Date;
  /** When its last picture ends. */
  readonly end: Date;
}

/** What a camera's maker has recorded of it. Neither call retries. */
export interface Archive {
  /** How far back it may reach, ms. */
  readonly historyMs: number;
  /**
   * The pieces that begin at or after `from` and are complete, oldest first. The same piece has the
   * same times whenever it is listed.
   *
   * @throws a source error
   */
  list(options: { readonly from: Date; readonly signal: AbortSignal }): Promise<
    readonly ArchivedClip[]
  >;
  /**
   * The whole of a piece as an MP4 file; `undefined` if it is not there any more.
   *
   * @throws a source error
   */
  fetch(clip: ArchivedClip, options: { readonly signal: AbortSignal }): Promise<
    Uint8Array | undefined
  >;
}

/** A login that brings many cameras. It refreshes its own tokens; it does not retry. */
export interface Account<Camera extends ListedCamera = DiscoveredCamera> extends AsyncDisposable {
  /** Logs in if needed and lists the cameras as they are now. */
  cameras(options: { readonly signal: AbortSignal }): Promise<readonly Camera[]>;
}

/**
 * Turns JPEG units into H.264 units, one GOP at a time, as they come; nothing waits for the end of
 * the input. Every picture whose `capturedAtMs` is the first at or after a multiple of the GOP
 * length becomes a key unit. Output units keep `ptsUs` and `capturedAtMs` of their picture; the
 * first one carries `track`. Pulls input only as fast as it can encode.
 */
export interface Encoder {
  /** Encodes one session of a camera. */
  encode(
    units: AsyncIterable<AccessUnit>,
    options: EncodeOptions,
  ): AsyncIterable<AccessUnit>;
}

/** What one camera's encoding is told. */
export interface EncodeOptions {
  /** Ends it at once. */
  readonly signal: AbortSignal;
  /** Whose pictures they are, for messages and figures. */
  readonly camera: string;
  /** Length of a GOP, ms; key pictures stand at wall-clock multiples of it. */
  readonly gopMs: number;
  /** Called for every picture that could not be decoded or encoded. */
  readonly onLost?: (frames: number, cause: unknown) => void;
  /**
   * Called for pictures that were identical to the one before them: they are recorded, but as a unit
   * that lasts longer, so no unit of their own comes out.
   */
  readonly onRepeated?: (frames: number) => void;
}

/** A finished recording: immutable, complete and durable. */
export interface Clip {
  /** `<camera>/2026/08/21/20260821T140500Z.mp4`: UTC, unique, safe as a path everywhere. */
  readonly key: string;
  /** The camera's name as its owner wrote it. */
  readonly camera: string;
  /** When its first picture was taken. */
  readonly start: Date;
  /** When its last picture ends. */
  readonly end: Date;
  /** Size in bytes. */
  readonly bytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
  /** Lower-case hex, where it was computed while writing: saves a sink from reading the clip twice. */
  readonly md5?: string;
  /** A MIME type: `video/mp4`, or `image/jpeg` for a picture that a camera's cloud gave to an event. */
  readonly contentType: string;
  /**
   * What is known of it so far, a word each: kinds of events during it (`person`, `motion`,
   * `doorbell`), and `event-image` or `clip-preview` for what a camera's cloud gave to an event.
   */
  readonly tags?: readonly string[];
  /** Its file, for Camsink's own rooms; absent where it may be read by `open` alone. */
  readonly path?: string;
  /**
   * Nobody else needs the file at `path`: it is removed as soon as this sink has the clip, and it was
   * hashed minutes ago. A sink may give it a name of its own in the place of making a copy.
   */
  readonly mayBeTaken?: boolean;
  /** The bytes, from `fromByte` (default 0) to the end. May be called again and again. */
  open(fromByte?: number): ReadableStream<Uint8Array<ArrayBuffer>>;
}

/** How a `put` goes on. */
export interface PutOptions {
  /** Ends the try; `put` then rejects soon. */
  readonly signal: AbortSignal;
  /** 1 for the first try of this clip. */
  readonly attempt: number;
  /** Call as bytes are accepted; silence longer than the stall timeout ends the try. */
  progress(sentBytes: number): void;
}

/** The sink's proof that it holds the clip. */
export interface PutResult {
  /** Whether this try stored it, or an earlier one had. */
  readonly state: "stored" | "already-there";
  /** Where it lies, without credentials. */
  readonly url?: string;
  /** The version that the store gave it. */
  readonly etag?: string;
}

/** What a sink holds under a key. */
export interface StoredObject {
  /** Its size. */
  readonly bytes: number;
  /** Lower-case hex, where the store keeps it. */
  readonly sha256?: string;
  /** Lower-case hex, where the store keeps it. */
  readonly md5?: string;
  /** The version that the store gave it. */
  readonly etag?: string;
}

/** A place where clips go. It never retries and never queues: delivery does. */
export interface Sink {
  /**
   * Stores the clip and resolves only when the store has confirmed that it holds all of it. The
   * same clip put twice leaves one object.
   *
   * @throws {@linkcode SinkError}; anything else counts as `retry`
   */
  put(clip: Clip, options: PutOptions): Promise<PutResult>;
  /** What is stored under the key; `undefined` if nothing is. */
  stat?(
    key: string,
    options: { readonly signal: AbortSignal; readonly camera: string },
  ): Promise<StoredObject | undefined>;
  /** Removes what is stored under the key; removing nothing is no error. */
  remove?(
    key: string,
    options: { readonly signal: AbortSignal; readonly camera: string },
  ): Promise<void>;
  /** Proves that the sink could take a clip now (login, rights, space), and leaves no trace. */
  check?(options: { readonly signal: AbortSignal }): Promise<void>;
  /** When the credential in use runs out, wall ms, where that is known: its owner is told ahead. */
  readonly credentialExpiresAtMs?: number | undefined;
  /** Lets go of what `open` took. Nothing is called after it. */
  close?(): Promise<void>;
}

/**
 * What delivery does about a failed put: try again (`retry`), park the sink until its credentials
 * change (`auth`), park it until there is room (`full`), put this one clip aside (`permanent`), or,
 * where the sink holds *another* object under the same key, store the clip under a key with its hash
 * in it and tell the owner (`conflict`): nothing is ever overwritten.
 */
export type SinkErrorKind = "retry" | "auth" | "full" | "permanent" | "conflict";

/**
 * A failed `put` with its remedy. The kind is a mark on the error, not a class to test for: a
 * plugin that was bundled alone has its own copy of any class.
 */
export class SinkError extends Error {
  /** Always `SinkError`. */
  override readonly name = "SinkError";
  /** What delivery does about it. */
  readonly sinkErrorKind: SinkErrorKind;
  /** Wait at least this long before the next try, ms. */
  readonly retryAfterMs?: number;

  /** Makes an error of a kind, with a message for the user. */
  constructor(
    kind: SinkErrorKind,
    message: string,
    options: { cause?: unknown; retryAfterMs?: number } = {},
  ) {
    super(message, { cause: options.cause });
    this.sinkErrorKind = kind;
    if (options.retryAfterMs !== undefined) this.retryAfterMs = options.retryAfterMs;
  }
}

/** The kind marked on an error, or `retry` for anything unmarked. */
export function sinkErrorKind(error: unknown): SinkErrorKind {
  const kind = error instanceof Error && "sinkErrorKind" in error ? error.sinkErrorKind : "";
  return kind === "auth" || kind === "full" || kind === "permanent" || kind === "conflict"
    ? kind
    : "retry";
}

/** A secret that is read only when it is used, so that a rotated one is picked up. */
export interface Secret {
  /** Where it comes from, safe to print: `env:NAME`, `file:PATH`, `keyvault:URL` or `literal`. */
  readonly reference: string;
  /**
   * The value as it is now, or as it was at most `maxAgeMs` ago where it comes from afar (default 5
   * minutes). @throws if it cannot be read or is empty
   */
  reveal(options?: { readonly maxAgeMs?: number }): Promise<string>;
}

/** What a sink gets when it is opened. */
export interface SinkContext<Config> {
  /** The name that the user gave this sink. */
  readonly name: string;
  /** Its options, validated. */
  readonly config: Config;
  /** Where it says what the user should know. */
  readonly log: Log;
  /** Limited to the hosts that the plugin's `net` named. */
  readonly fetch: typeof fetch;
  /** An empty folder of its own, gone when the sink is closed; only where `needs` asked for it. */
  readonly scratch?: string;
}

/** Messages for the user; secrets are taken out on the way. */
export interface Log {
  /** For whoever looks for a fault. */
  debug(message: string, properties?: Record<string, unknown>): void;
  /** What is going on. */
  info(message: string, properties?: Record<string, unknown>): void;
  /** What the user should know, though it goes on. */
  warn(message: string, properties?: Record<string, unknown>): void;
  /** What the user must mend. */
  error(message: string, properties?: Record<string, unknown>): void;
}

/** Validates and types a sink's options: the Standard Schema interface, version 1. */
export interface ConfigSchema<Config> {
  /** See https://standardschema.dev. */
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => unknown;
    readonly types?: { readonly input: unknown; readonly output: Config } | undefined;
  };
}

/**
 * A JSON Schema (draft-07 or later) of a sink's options: an `object` with `properties`. A text may
 * have one of Camsink's own formats: `secret` becomes a {@linkcode Secret}, `duration` ms, `size`
 * bytes, `rate` bytes a second, `path` an absolute path; `uri` is an `http:` or `https:` URL.
 */
export interface JsonConfigSchema {
  /** What it describes. */
  readonly type?: string | readonly string[];
  /** Every other keyword. */
  readonly [keyword: string]: unknown;
}

/**
 * What a sink needs beyond its hosts. Each is a hole in the isolation that its user has to grant by
 * name, so a sink that needs nothing is the better one.
 */
export interface SinkNeeds {
  /** Programs that it runs, by name or absolute path. A program does what it likes. */
  readonly run?: readonly string[];
  /** Files and folders that it reads, absolute. */
  readonly read?: readonly string[];
  /** Files and folders that it writes, absolute. */
  readonly write?: readonly string[];
  /** An empty folder of its own for temporary files; see `scratch` of {@linkcode SinkContext}. */
  readonly scratch?: boolean;
}

/** A kind of sink. Made with `defineSink`. */
export interface SinkPlugin<Config = unknown> {
  /** Version of this contract. */
  readonly api: 1;
  /** The `type` that a configuration names: lower-case letters, digits and dashes. */
  readonly name: string;
  /** Of the plugin, such as `1.2.0`; without it, that of its `deno.json` or package. */
  readonly version?: string;
  /** Validates and types its options. */
  readonly config: ConfigSchema<Config>;
  /** The hosts (`host` or `host:port`) that a sink with this configuration talks to. */
  net(config: Config): readonly string[];
  /** What a sink with this configuration needs beyond that; without it, nothing. */
  needs?(config: Config): SinkNeeds;
  /** Opens a sink with validated options. */
  open(context: SinkContext<Config>): Sink | Promise<Sink>;
}

/** Time as an argument, so that a day of recording runs in a test in a second. */
export interface Clock {
  /** Wall time, ms since the epoch. May jump. */
  now(): number;
  /** Time since some fixed moment, ms. Never goes back. */
  monotonic(): number;
  /** Resolves after `ms`; rejects with the signal's reason when aborted. */
  sleep(ms: number, options?: { readonly signal?: AbortSignal }): Promise<void>;
}
