// A loaded model: what it is, and the sessions that run on it.

import type { JinjaSource } from "../chat/jinja.ts";
import { UsageError } from "../core/errors.ts";
import type { Platform } from "../core/platform.ts";
import { decodeSessionFile, isSessionFile } from "../formats/session-file.ts";
import type { Trace } from "../formats/trace-file.ts";
import type { ModelConfig } from "../model/config.ts";
import type { LoadedProgram } from "../model/load.ts";
import { stateLayout, type StateTensor } from "../model/state.ts";
import { tunedState } from "../model/tuned-state.ts";
import type { StateOrientation } from "../model/weights/orientation.ts";
import type { Activations, ZeroInputs } from "../ops/backend.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { free, type Engine, type Prompt } from "./engine.ts";
import type { LoadProgress } from "./progress.ts";
import { Sequence } from "./sequence.ts";
import { Session } from "./session.ts";
import { Snapshot } from "./snapshot.ts";
import { openFile, readAll, withOpened, type FileSource } from "./source.ts";
import { trace, traceNames, type TraceOptions } from "./trace.ts";

/** What runs the model, and how. */
export interface ModelInfo {
  /** What the file is called. */
  readonly name: string;
  /** What the file calls the model; null if it does not say, as all but GGUF files. */
  readonly title: string | null;
  /** Name of the backend in use. */
  readonly backend: string;
  /** One line: instruction set, threads. */
  readonly device: string;
  /** Why the model does not run on a GPU, where that was to be decided (`device: "auto"`); null otherwise. */
  readonly fallbackReason: string | null;
  /** Whether the engine runs in a worker of its own (`worker: true`). */
  readonly isInWorker: boolean;
  /** The set of kernels in use, such as `wasm-simd`; null for a backend that has one only. */
  readonly kernels: string | null;
  /** Threads that share each step. */
  readonly nThreads: number;
  /** Precision of activations in products with quantised weights, if the model has any. */
  readonly activations: Activations;
  /** Bytes of all weights in memory, the embedding included. */
  readonly weightByteLength: number;
  /** Bytes of weights that one decode step reads if none is skipped: all but the embedding, and one row of that. */
  readonly bytesReadPerToken: number;
  /** Bytes of one sequence's state. */
  readonly stateByteLength: number;
  /** SHA-256 that a saved session must share to be continued here. */
  readonly fingerprint: string;
}

/** What a session begins with. */
export interface SessionOptions {
  /** A whole state block to start from, laid out as `stateLayout` says, and to return to on `reset`. */
  readonly initialState?: Float32Array | undefined;
  /** Where to go on from, made by any session of the model. `reset` does not return to it. */
  readonly snapshot?: Snapshot | undefined;
  /** Takes a snapshot of another model of the same sizes, such as another fine-tune. Default false. */
  readonly allowOtherModel?: boolean | undefined;
}

/** How a state is read. */
export interface RestoreOptions {
  /**
   * Order of the last two dimensions of a tuned state's tensors. Default: what the file says of itself; else `value-key`
   * for .pth and `key-value` for safetensors, as most programs write them.
   */
  readonly orientation?: StateOrientation | undefined;
  /** Takes a saved session of another model of the same sizes, such as another fine-tune. Default false. */
  readonly allowOtherModel?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** How a model is brought back. */
export interface ReloadOptions {
  readonly signal?: AbortSignal | undefined;
  /** As in `loadModel`. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** Loads the weights of a model as they were loaded first; gives null where its device is not lost. */
export type LoadAgain = (
  options: ReloadOptions,
) => Promise<{ readonly loaded: LoadedProgram; readonly info: ModelInfo } | null>;

/** A model on a device. Made by `loadModel`; one model serves any number of sessions, batching what waits together. */
export class Model implements AsyncDisposable {
  readonly config: ModelConfig;
  /** Null if none was given or found; token ids work without. */
  readonly tokenizer: Tokenizer | null;
  /** The chat template inside the file or beside it; null if there is none. `chatFormat` makes use of it. */
  readonly chatTemplate: JinjaSource | null;
  /** Name, shape, offset and initial value of each part of a state block, in the order of the official package. */
  readonly stateLayout: readonly StateTensor[];
  readonly #engine: Engine;
  readonly #platform: Platform;
  readonly #loadAgain: LoadAgain | null;
  #info: ModelInfo;
  #reloading: Promise<void> | null = null;

  /**
   * @internal Use `loadModel`.
   * @param loadAgain - null if the device cannot be lost
   */
  constructor(
    engine: Engine,
    info: ModelInfo,
    chatTemplate: JinjaSource | null,
    platform: Platform,
    loadAgain: LoadAgain | null,
  ) {
    this.#engine = engine;
    this.#platform = platform;
    this.#loadAgain = loadAgain;
    this.#info = info;
    this.config = engine.config;
    this.tokenizer = engine.tokenizer;
    this.chatTemplate = chatTemplate;
    this.stateLayout = stateLayout(engine.config).tensors;
  }

  /** What runs the model; another object after a reload. */
  get info(): ModelInfo {
    return this.#info;
  }

  /**
   * Brings the model back after its device was lost, which shows as a DeviceError in every call: opens the device and reads the
   * weights from where they came, as `loadModel` did, with `device: "auto"` on the processor if the GPU does not come back.
   * Sessions go on after the last token that was read or generated, also in mid-answer: with the next call they read again
   * what they had read, at most some thousand tokens. Where nothing is lost it does nothing.
   * @throws UsageError if the file has become another model, or the model has been disposed; else as `loadModel`. It can be
   * tried again
   */
  reload(options: ReloadOptions = {}): Promise<void> {
    this.#reloading ??= this.#reload(options).finally(() => {
      this.#reloading = null;
    });
    return this.#reloading;
  }

  /**
   * A session that has read nothing, or goes on from a snapshot.
   * @throws UsageError if `initialState` has the wrong length or `snapshot` is of another model
   * @throws DeviceError if there is no memory for one more state
   */
  async createSession({ initialState, snapshot, allowOtherModel }: SessionOptions = {}): Promise<Session> {
    this.#engine.checkState(initialState);
    const start = initialState?.slice() ?? this.#engine.initialState;
    return new Session(await Sequence.create(this.#engine, start, snapshot, allowOtherModel));
  }

  /**
   * A session from what `session.save` wrote, or from a tuned initial state (`time_state` tensors in .pth or
   * .safetensors).
   * @throws UsageError naming both models if the state belongs to another one
   * @throws FormatError if the file is damaged
   */
  async restore(file: FileSource, options: RestoreOptions = {}): Promise<Session> {
    const opened = await openFile(this.#platform, file, options.signal);
    const { source } = opened;
    try {
      const magic = new Uint8Array(Math.min(8, source.byteLength));
      await source.read(0, magic, options.signal);
      if (!isSessionFile(magic)) {
        const initialState = await withOpened(opened, options.signal, (tuned) =>
          tunedState(tuned, this.config, options, options.signal),
        );
        return await this.createSession({ initialState });
      }
      const saved = await decodeSessionFile(await readAll(source, options.signal), source.name);
      const { allowOtherModel = false } = options;
      this.#engine.checkSnapshot(saved, source.name, allowOtherModel);
      return await this.createSession({ snapshot: new Snapshot(saved), allowOtherModel });
    } finally {
      await source.close();
    }
  }

  /**
   * Reads a prompt and keeps values from inside the forward pass, and the states after the last token, as f32. What it
   * copies is recorded for this call alone; sessions and their speed are as without it, and the logits (`head`) are the bits
   * that a session gets. The names stand in docs/trace.md.
   * @param prompt - text, token ids, or embedding rows `[T, C]` as f32
   * @throws UsageError for a name or layer that the model does not have (the message lists what there is), an empty prompt,
   * text without a tokenizer, an unknown id, an initial state of another length, or if the model has been disposed
   * @throws UnsupportedError if the backend cannot look inside a step, or the engine runs in a worker
   * @throws DeviceError if there is no memory
   * @throws the signal's reason if aborted
   */
  async trace(prompt: Prompt, options: TraceOptions = {}): Promise<Trace> {
    return trace(this.#engine, this.#info, prompt, options);
  }

  /**
   * The names of all values that `trace` keeps, in order of computation.
   * @throws UsageError if the model has been disposed, UnsupportedError as `trace`
   */
  traceNames(): string[] {
    return traceNames(this.#engine);
  }

  /**
   * How many inputs of `ffn.value` the steps so far have met, and how many of them were zero and skipped; null where the
   * kernels skip none. Steps of many tokens, as in prefill, skip nothing and do not count.
   * @throws UsageError if the model has been disposed
   */
  zeroInputs(): ZeroInputs | null {
    this.#engine.checkAlive();
    return this.#engine.program.zeroInputs();
  }

  /** Frees the device's memory. Sessions of this model refuse every further call. */
  dispose(): void {
    this.#engine.dispose();
  }

  /** `dispose`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
    return Promise.resolve();
  }

  async #reload(options: ReloadOptions): Promise<void> {
    const engine = this.#engine;
    engine.checkAlive();
    const again = await this.#loadAgain?.(options);
    if (again === undefined || again === null) return;
    const { loaded, info } = again;
    try {
      engine.checkAlive();
      if (info.fingerprint !== engine.fingerprint) {
        throw new UsageError(
          `${info.name} is another model than when it was loaded (fingerprint ${info.fingerprint.slice(0, 12)}, before ` +
            `${engine.fingerprint.slice(0, 12)}). Load it with loadModel.`,
        );
      }
    } catch (error) {
      free(loaded);
      throw error;
    }
    engine.replace(loaded);
    this.#info = info;
  }
}
