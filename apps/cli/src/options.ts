// Options that several subcommands share, and the parsers of their values.

import { InvalidArgumentError, Option, type Command } from "commander";
import {
  DEVICE_NAMES,
  DEMO_MODEL_NOTICE,
  ENCODED_DTYPES,
  findDemoModel,
  isDeviceName,
  loadModel,
  UsageError,
  type DeviceName,
  type LoadOptions,
  type Model,
} from "rwkv";
import { createProgressBar, megabytes } from "./progress.ts";

export function parseCount(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError("Expected a whole number of at least 0.");
  }
  return value;
}

export function parsePositiveCount(text: string): number {
  const value = parseCount(text);
  if (value === 0) throw new InvalidArgumentError("Expected a whole number of at least 1.");
  return value;
}

export function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("Expected a number.");
  return value;
}

/** Ids joined by commas; an empty text is an empty list. */
export function parseIds(text: string): number[] {
  return text.trim() === "" ? [] : text.split(",").map((id) => parseCount(id.trim()));
}

export function parseDevice(text: string): DeviceName {
  if (isDeviceName(text)) return text;
  throw new InvalidArgumentError(`Expected one of ${DEVICE_NAMES.join(", ")}, or webgpu:ADAPTER.`);
}

export function parseBackend(text: string): DeviceName | "reference" {
  if (text === "reference" || isDeviceName(text)) return text;
  throw new InvalidArgumentError(`Expected one of ${DEVICE_NAMES.join(", ")}, reference, or webgpu:ADAPTER.`);
}

/** `id=bias` joined by commas, such as `261=-2,11=0.5`. */
export function parseBias(text: string): Map<number, number> {
  return new Map(
    text.split(",").map((entry): [number, number] => {
      const [id, bias, ...rest] = entry.split("=");
      if (bias === undefined || rest.length > 0)
        throw new InvalidArgumentError("Expected id=bias, joined by commas.");
      return [parseCount(id!.trim()), bias.trim() === "-Infinity" ? -Infinity : parseNumber(bias)];
    }),
  );
}

export function collect(value: string, previous: readonly string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

export interface ModelFlags {
  readonly model?: string;
  readonly tokenizer?: string;
  readonly device?: DeviceName;
  readonly backend?: DeviceName | "reference";
  readonly dtype?: LoadOptions["dtype"];
  readonly activations?: LoadOptions["activations"];
  readonly threads?: number;
  readonly chunk?: number;
  readonly groupNormEps?: number;
  readonly lora?: string;
  readonly loraAlpha?: number;
  /** Where a subcommand has `--skip-zeros` and `--no-skip-zeros`, and one was given. */
  readonly skipZeros?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

/** The flags of every subcommand that runs a model. */
export function addModelFlags(command: Command): Command {
  return command
    .addOption(
      new Option(
        "-m, --model <file>",
        ".pth, .safetensors, GGUF or rwkv.cpp file, or an address (default: the demo model)",
      ).env("RWKV_MODEL"),
    )
    .option(
      "--tokenizer <file>",
      "World vocabulary (.txt, .json) or tokenizer.json (default: found beside the model)",
    )
    .option(
      "--device <name>",
      "auto, cpu, webgpu or webgpu:ADAPTER, by a number or name of `rwkv devices`; auto takes a GPU if there is one (default: cpu)",
      parseDevice,
    )
    .option("--backend <name>", "the same as --device, and takes reference too", parseBackend)
    .addOption(
      new Option("--dtype <dtype>", "re-encode matrices while loading (default: as stored)").choices(
        ENCODED_DTYPES,
      ),
    )
    .addOption(
      new Option(
        "--activations <type>",
        "precision of activations in products with quantised weights (default: int8 where the backend has it)",
      ).choices(["f32", "int8"]),
    )
    .option("--threads <n>", "threads to compute with (default: one per core, up to 4)", parsePositiveCount)
    .option("--chunk <n>", "most tokens of a prompt read in one step", parsePositiveCount, 256)
    .option(
      "--group-norm-eps <e>",
      "epsilon of the group norm of v5 to v7 (rwkv.cpp's v5 models want 1e-5)",
      parseNumber,
    )
    .option("--lora <file>", "LoRA adapter (.pth or .safetensors) to merge into the model")
    .option(
      "--lora-alpha <a>",
      "the lora_alpha of its training; only .safetensors of this program say it themselves",
      parseNumber,
    )
    .option("-q, --quiet", "no progress bars")
    .option("-v, --verbose", "say on stderr what is done");
}

let isDemoSaid = false;

/**
 * The model of `--model`, or the demo model, with a line on stderr that says so once.
 * @throws UsageError if no model was named and the demo model is not installed
 */
function modelOf(flags: ModelFlags): string {
  if (flags.model !== undefined) return flags.model;
  const demo = findDemoModel();
  if (demo !== null) {
    if (!isDemoSaid) process.stderr.write(`rwkv: ${DEMO_MODEL_NOTICE}\n`);
    isDemoSaid = true;
    return demo;
  }
  throw new UsageError(
    `No model given: use --model FILE or set RWKV_MODEL. RWKV-7 models are at ` +
      `https://huggingface.co/BlinkDL/rwkv7-g1 (the 0.1B one has 382 MB).`,
  );
}

/** Loads the model of `--model`, with a progress bar on a terminal. */
export async function loadFromFlags(flags: ModelFlags, signal: AbortSignal): Promise<Model> {
  const bar = createProgressBar("loading", flags.quiet === true);
  try {
    return await loadModel(modelOf(flags), {
      ...deviceOf(flags),
      dtype: flags.dtype,
      activations: flags.activations,
      threads: flags.threads,
      chunk: flags.chunk,
      groupNormEps: flags.groupNormEps,
      skipZeros: flags.skipZeros,
      lora: loraOf(flags),
      tokenizer: flags.tokenizer,
      signal,
      logger: flags.verbose === true ? stderrLogger : undefined,
      onProgress: ({ bytesDone, bytesTotal, kernels }) => {
        if (kernels === undefined) {
          bar.update(bytesDone, bytesTotal, `${megabytes(bytesDone)} of ${megabytes(bytesTotal)}`);
        } else {
          bar.update(kernels.done, kernels.total, `${kernels.done} of ${kernels.total} kernels`);
        }
      },
    });
  } finally {
    bar.clear();
  }
}

/** @throws UsageError if both flags were given */
function deviceOf({ device, backend }: ModelFlags): Pick<LoadOptions, "device" | "backend"> {
  if (backend === undefined) return { device };
  if (device !== undefined) throw new UsageError("--backend is another name of --device: give one of them.");
  return backend === "reference" ? { backend } : { device: backend };
}

/** @throws UsageError for an alpha without an adapter */
function loraOf({ lora, loraAlpha }: ModelFlags): LoadOptions["lora"] {
  if (lora !== undefined) return { file: lora, alpha: loraAlpha };
  if (loraAlpha === undefined) return undefined;
  throw new UsageError("--lora-alpha belongs to an adapter: give it with --lora FILE.");
}

const write = (message: string): void => void process.stderr.write(`${message}\n`);
const stderrLogger = { debug: write, info: write, warn: write };
