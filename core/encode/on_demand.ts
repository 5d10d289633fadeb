/**
 * Encoders that are opened when the first camera needs them: most cameras give coded video, and then
 * no ffmpeg is loaded at all. Loading one costs half a second of CPU time and a hundred megabytes.
 *
 * @module
 */
import type { Encoder } from "../types.ts";
import type {
  EncoderDescription,
  Encoders,
  EncodersOptions,
  PictureDecoder,
  PictureDecoderOptions,
  SoundEncoder,
  SoundEncoderOptions,
} from "./mod.ts";

/** All encoding of a process that may need none. */
export interface EncodersOnDemand extends AsyncDisposable {
  /** Opens what pictures are encoded with. @throws Error that says why there is no encoder */
  open(): Promise<void>;
  /** An encoder for one session of one camera. @throws as `open` does, and may work the next time */
  forCamera(): Promise<Encoder>;
  /**
   * An encoder for the sound of one session of one camera. Where ffmpeg is installed and may be used,
   * nothing else is opened for it. @throws as `open` does, or because the sound is of no usual form
   */
  forSound(options: SoundEncoderOptions): Promise<SoundEncoder>;
  /**
   * A decoder for one camera's key pictures, of what `forSound` takes; ffmpeg.wasm is opened as well
   * where the installed one lacks the decoder and need not be the only one. @throws as `open` does
   */
  forKeyPictures(options: PictureDecoderOptions): Promise<PictureDecoder>;
  /** Resolves when what pictures are encoded with is open; never, where nothing is encoded. */
  readonly opened: Promise<void>;
  /** How a camera is encoded just now; `undefined` before its first GOP. */
  describe(camera: string): EncoderDescription | undefined;
}

/** Makes them; nothing is opened yet. */
export function encodersOnDemand(
  options: EncodersOptions,
  create: (options: EncodersOptions) => Promise<Encoders> = createAll,
): EncodersOnDemand {
  let ready: Encoders | undefined;
  const opened = Promise.withResolvers<void>();
  const all = once(async () => {
    ready = await create(options);
    opened.resolve();
    return ready;
  });
  const installed = once(() =>
    create({ ...options, use: "system", mayOpenWasm: options.use !== "system" })
  );
  /** What takes least, where nothing is encoded. */
  const lightest = async (): Promise<Encoders> => {
    if (all.isAsked || options.use === "wasm") return await all.get();
    return await installed.get().catch(() => all.get());
  };
  return {
    async open() {
      await all.get();
    },
    forCamera: async () => (await all.get()).forCamera(),
    forSound: async (sound) => (await lightest()).forSound(sound),
    forKeyPictures: async (pictures) => (await lightest()).forKeyPictures(pictures),
    opened: opened.promise,
    describe: (camera) => ready?.describe(camera),
    async [Symbol.asyncDispose]() {
      await Promise.all([all, installed].map((opened) => opened.close()));
    },
  };
}

const createAll = async (options: EncodersOptions): Promise<Encoders> =>
  await (await import("./mod.ts")).createEncoders(options);

/** Opened by whoever asks first; when that fails, by the next one. */
function once(open: () => Promise<Encoders>) {
  let opening: Promise<Encoders> | undefined;
  return {
    get isAsked() {
      return opening !== undefined;
    },
    get: () => {
      opening ??= open().catch((error) => {
        opening = undefined;
        throw error;
      });
      return opening;
    },
    async close() {
      const opened = await opening?.catch(() => undefined);
      await opened?.[Symbol.asyncDispose]();
    },
  };
}
