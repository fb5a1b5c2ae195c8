// From a file to a running model: open, recognise, choose the tokenizer, move the weights to the device.

import type { EncodedDType } from "../core/decode.ts";
import { DeviceError, UnsupportedError, UsageError } from "../core/errors.ts";
import { SILENT_LOGGER, type Logger } from "../core/logger.ts";
import type { Platform } from "../core/platform.ts";
import type { EngineWorker } from "../core/port.ts";
import type { Activations, Backend } from "../ops/backend.ts";
import { loadProgram, type LoadedProgram } from "../model/load.ts";
import { canonicalWeights, type CanonicalWeights } from "../model/weights/canonical.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { withAdapter, type LoraOptions } from "./adapter.ts";
import {
  BACKEND_NAMES,
  backendOf,
  createBackend,
  DEVICE_NAMES,
  findGpu,
  isDeviceName,
  type BackendName,
  type BackendResources,
  type DeviceName,
} from "./backends.ts";
import type { JinjaSource } from "../chat/jinja.ts";
import { findChatTemplate } from "./chat/find-template.ts";
import { demoModelFile } from "./demo-model.ts";
import { Engine } from "./engine.ts";
import { Model, type LoadAgain, type ModelInfo } from "./model.ts";
import type { LoadProgress } from "./progress.ts";
import { baseName, withCheckpoint, type FileSource } from "./source.ts";
import { findTokenizer, type FoundTokenizer } from "./tokenizer.ts";

/** How a model is loaded. */
export interface LoadOptions {
  /**
   * What the model runs on; `webgpu:ADAPTER` is one of several GPUs, see `listDevices`. `auto` takes a GPU where there is one
   * and the model fits, and the processor otherwise; `info.fallbackReason` then says why. Default `cpu`.
   */
  readonly device?: DeviceName | undefined;
  /** What computes, by the name of the backend; in place of `device`. */
  readonly backend?: BackendName | undefined;
  /**
   * What matrices are re-encoded to while loading, by the policy that `quantize` has for that dtype: low-rank factors keep
   * 16 bits, `q4`, `nf4` and `sf4` leave some matrices in q8. Default: as stored.
   */
  readonly dtype?: EncodedDType | undefined;
  /**
   * Precision of activations in products with quantised weights. Default `int8`, rounded in blocks of 32 as llama.cpp does
   * it, where the backend has it. With `f32` log-probabilities stay within 1e-4 of exact arithmetic on the same weights.
   */
  readonly activations?: Activations | undefined;
  /**
   * Whether decode skips the inputs of `ffn.value` that are zero, most of them in trained models. Default: where the
   * kernels gain by it with half of them zero; true skips also where it takes more zeros (quantised weights with AVX2, those
   * of 4 bits with AVX-512), false reads all inputs. Results do not depend on it.
   */
  readonly skipZeros?: boolean | undefined;
  /**
   * Threads of the cpu backend, 1 to 64. Default: one per core, up to 4. Where threads cannot share memory there is one,
   * and `info.device` says so. They sleep between steps and end with `dispose`. Results do not depend on their number.
   */
  readonly threads?: number | undefined;
  /** Most tokens of one step, which bounds the memory of a prefill. Results do not depend on it. Default 256. */
  readonly chunk?: number | undefined;
  /** Epsilon of the group norm of v5 to v7. Default 64e-5, the official value; rwkv.cpp's v5 models want 1e-5. */
  readonly groupNormEps?: number | undefined;
  /** A LoRA adapter that is merged into the weights before they are encoded. */
  readonly lora?: LoraOptions | undefined;
  /** Default: the one inside the file or beside it. */
  readonly tokenizer?: Tokenizer | FileSource | undefined;
  /**
   * Whether the engine runs in a worker of its own, so that the page never waits for it; or the worker that it shall run in,
   * which must have loaded `rwkv/worker` and belongs to the model from then on. For browsers. Default false.
   */
  readonly worker?: boolean | EngineWorker | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each tensor and each kernel compiled; an error in it ends the loading. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Where messages for developers go. Default: nowhere. */
  readonly logger?: Logger | undefined;
}

const DEFAULT_CHUNK = 256;
const ACTIVATIONS: readonly Activations[] = ["f32", "int8"];
const MAX_THREADS = 64;

/**
 * Loads an RWKV model of any generation.
 * @param file - a `.pth`, `.safetensors` (or its index), GGUF or rwkv.cpp file; recognised by content. Without one the
 * bundled demo model is used, and the logger is told
 * @throws FormatError if the file is damaged, UnsupportedError if it holds something else, UsageError for a wrong
 * option, DeviceError if the weights do not fit, the signal's reason if aborted; nothing stays in memory then
 */
export async function loadModel(
  platform: Platform,
  file: FileSource | undefined,
  options: LoadOptions = {},
): Promise<Model> {
  checkOptions(options);
  const { worker = false, ...others } = options;
  if (worker !== false) {
    const { loadInWorker } = await import("./worker/load.ts");
    return loadInWorker(platform, file, worker, others);
  }
  const { loaded, tokenizer, info, chatTemplate } = await loadParts(platform, file, others);
  const { name, fingerprint } = info;
  const engine = new Engine({ name, loaded, fingerprint, tokenizer: tokenizer?.tokenizer ?? null });
  // A file in memory must not be kept where it is not needed again.
  const loadAgain: LoadAgain | null =
    loaded.program.isLost === undefined
      ? null
      : async (again) =>
          engine.program.isLost === true
            ? loadParts(platform, file, { ...others, ...again, tokenizer: null })
            : null;
  return new Model(engine, info, chatTemplate, platform, loadAgain);
}

/** What a model is made of. */
export interface LoadedParts {
  readonly loaded: LoadedProgram;
  readonly tokenizer: FoundTokenizer | null;
  readonly info: ModelInfo;
  readonly chatTemplate: JinjaSource | null;
}

/** How the parts are loaded: `tokenizer` may be null, for none. */
export type PartsOptions = Omit<LoadOptions, "tokenizer" | "worker"> & {
  readonly tokenizer?: LoadOptions["tokenizer"] | null;
};

/** As `loadModel`, up to the weights on the device. */
export async function loadParts(
  platform: Platform,
  file: FileSource | undefined,
  options: PartsOptions,
): Promise<LoadedParts> {
  const { signal } = options;
  const logger = options.logger ?? SILENT_LOGGER;
  const start = performance.now();
  const source = file ?? demoModelFile(platform, logger);
  return withCheckpoint(platform, source, signal, async (checkpoint, opened) => {
    const base = canonicalWeights(checkpoint);
    const tokenizer = await findTokenizer(
      platform,
      opened,
      checkpoint,
      base.config.nVocab,
      options.tokenizer,
      signal,
    );
    const { format, metadata } = checkpoint;
    const chatTemplate = await findChatTemplate(checkpoint, opened, signal);
    const title = metadata.get("general.name");
    const setting = { lora: options.lora, keepsF32: options.dtype !== undefined, signal, logger };
    return withAdapter(platform, base, setting, (weights, identity) =>
      chooseDevice({
        platform,
        format,
        title: typeof title === "string" ? title : null,
        weights,
        identity,
        tokenizer,
        chatTemplate,
        options,
        logger,
        start,
      }),
    );
  });
}

interface PartsToLoad {
  readonly platform: Platform;
  readonly format: string;
  readonly title: string | null;
  readonly weights: CanonicalWeights;
  /** The model's fingerprint. */
  readonly identity: string;
  readonly tokenizer: FoundTokenizer | null;
  readonly chatTemplate: JinjaSource | null;
  readonly options: PartsOptions;
  readonly logger: Logger;
  /** When loading began. */
  readonly start: number;
}

/** Chooses the device. */
async function chooseDevice(parts: PartsToLoad): Promise<LoadedParts> {
  const { platform, options, logger } = parts;
  const resources: BackendResources = {
    threads: options.threads,
    host: platform.threads,
    loadNative: platform.loadNative,
    loadWebgpu: platform.loadWebgpu,
  };
  const { device = "cpu", backend } = options;
  if (device !== "auto") {
    const { name, adapter } = backend === undefined ? backendOf(device) : { name: backend, adapter: null };
    return loadOn(await createBackend(name, resources, adapter), null, parts);
  }
  let { reason } = await findGpu(resources);
  if (reason === null) {
    try {
      return await loadOn(await createBackend("webgpu", resources), null, parts);
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      reason = error.message;
    }
  }
  logger.warn(`The cpu backend is used: ${reason}`);
  return loadOn(await createBackend("cpu", resources), reason, parts);
}

/** Moves the weights to the device. */
async function loadOn(
  backend: Backend,
  fallbackReason: string | null,
  { format, title, weights, identity, tokenizer, chatTemplate, options, logger, start }: PartsToLoad,
): Promise<LoadedParts> {
  const { source, config } = weights;
  const { signal, onProgress } = options;
  const activations = activationsFor(backend, options.activations);
  logger.debug(
    `${source}: ${format}, RWKV-${config.version}, ${config.nLayer} layers, ` +
      `${config.nEmbd} wide, ${config.nVocab} ids; tokenizer: ${tokenizer?.tokenizer.kind ?? "none"}; ${backend.description}`,
  );
  let last: LoadProgress | null = null;
  const report = (progress: LoadProgress): void => {
    last = progress;
    onProgress?.(progress);
  };
  const loaded = await loadProgram(backend, weights, {
    maxRows: options.chunk ?? DEFAULT_CHUNK,
    activations,
    skipZeros: options.skipZeros,
    groupNormEps: options.groupNormEps,
    dtype: options.dtype,
    signal,
    onProgress: (bytesDone, bytesTotal, tensor) => report({ phase: "load", bytesDone, bytesTotal, tensor }),
    onCompiled: (done, total) => report({ ...last!, phase: "compile", kernels: { done, total } }),
  });
  performance.measure("rwkv:load", { start, end: performance.now() });
  performance.clearMeasures("rwkv:load");
  const name = baseName(source);
  const { weightByteLength, bytesReadPerToken } = weightBytes(loaded);
  logger.debug(
    `${name}: ${weightByteLength} bytes of weights loaded in ${Math.round(performance.now() - start)} ms`,
  );
  return {
    loaded,
    tokenizer,
    chatTemplate,
    info: {
      name,
      title,
      backend: backend.name,
      device: backend.description,
      fallbackReason,
      isInWorker: false,
      kernels: backend.kernels,
      nThreads: backend.nThreads,
      activations,
      weightByteLength,
      bytesReadPerToken,
      stateByteLength: 4 * loaded.program.stateElements,
      fingerprint: identity,
    },
  };
}

function activationsFor(backend: Backend, asked: Activations | undefined): Activations {
  if (asked === "int8" && !backend.hasInt8Activations) {
    throw new UnsupportedError(
      `activations "int8" are not for "${backend.description}"; use "f32", the default here.`,
    );
  }
  return asked ?? (backend.hasInt8Activations ? "int8" : "f32");
}

/** What the device holds, and what the host keeps to look rows up in. */
function weightBytes({ program, embedding, positions }: LoadedProgram): {
  readonly weightByteLength: number;
  readonly bytesReadPerToken: number;
} {
  let weightByteLength = program.weightByteLength + embedding.byteLength;
  let bytesReadPerToken = program.weightByteLength + embedding.rowByteLength;
  if (positions !== null) {
    weightByteLength += positions.byteLength;
    bytesReadPerToken += positions.rowByteLength;
  }
  return { weightByteLength, bytesReadPerToken };
}

function checkOptions({
  device,
  backend,
  activations,
  threads,
  chunk,
  groupNormEps,
  lora,
}: LoadOptions): void {
  if (backend !== undefined && !BACKEND_NAMES.includes(backend)) {
    throw new UsageError(
      `Unknown backend "${backend as string}"; expected one of ${BACKEND_NAMES.join(", ")}.`,
    );
  }
  if (device !== undefined && !isDeviceName(device)) {
    throw new UsageError(
      `Unknown device "${device as string}"; expected one of ${DEVICE_NAMES.join(", ")}, or webgpu:ADAPTER.`,
    );
  }
  if (device !== undefined && backend !== undefined) {
    throw new UsageError(`Both device "${device}" and backend "${backend}" were given; give one of them.`);
  }
  if (activations !== undefined && !ACTIVATIONS.includes(activations)) {
    throw new UsageError(`activations is "${activations as string}"; expected "f32" or "int8".`);
  }
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= MAX_THREADS)) {
    throw new UsageError(`threads is ${threads}; expected a whole number from 1 to ${MAX_THREADS}.`);
  }
  if (chunk !== undefined && !(Number.isInteger(chunk) && chunk >= 1 && chunk <= 65536)) {
    throw new UsageError(`chunk is ${chunk}; expected a whole number from 1 to 65536.`);
  }
  if (groupNormEps !== undefined && !(groupNormEps > 0 && groupNormEps < 1)) {
    throw new UsageError(
      `groupNormEps is ${groupNormEps}; expected a number between 0 and 1, such as 64e-5.`,
    );
  }
  if (lora?.alpha !== undefined && !Number.isFinite(lora.alpha)) {
    throw new UsageError(
      `lora.alpha is ${lora.alpha}; expected a number, the lora_alpha of the adapter's training.`,
    );
  }
}
