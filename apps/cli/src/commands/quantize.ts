// rwkv quantize: any readable checkpoint to a packed file, or a preview of it. The target appears only once it is complete.

import { resolve } from "node:path";
import { Option, type Command } from "commander";
import {
  atomicFile,
  ENCODED_DTYPES,
  previewQuantize,
  quantize,
  UsageError,
  type EncodedDType,
  type LoadProgress,
  type QuantizePreview,
} from "rwkv";
import { withInterrupt } from "../interrupt.ts";
import { writeLine } from "../output.ts";
import { createProgressBar, megabytes } from "../progress.ts";

interface QuantizeFlags {
  readonly dtype?: EncodedDType;
  readonly policy?: string;
  readonly tokenizer?: string;
  readonly preview?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export function addQuantize(program: Command): void {
  program
    .command("quantize")
    .description("Write a packed .safetensors that loads with no further work, or show what it would be.")
    .argument("<in>", "model file or address")
    .argument("[out]", "file to write; replaced only when the new one is complete; not needed with --preview")
    .addOption(
      new Option("--dtype <dtype>", "what matrices are stored as (default: as they are)").choices(
        ENCODED_DTYPES,
      ),
    )
    .option("--policy <rules>", 'dtypes of single matrices, such as "head=q8,blocks.0.*=q8,*.ffn.value=q4"')
    .option("--preview", "show type, size and error of each matrix, and write nothing")
    .option("--json", "print the preview as JSON")
    .option("--tokenizer <file>", "vocabulary to put inside (default: the one inside or beside the model)")
    .option("-q, --quiet", "no progress bar")
    .addHelpText(
      "after",
      `
Examples:
  $ rwkv quantize model.pth model-q4.safetensors --dtype q4
  $ rwkv quantize model.pth --dtype q4 --policy "head=q8,blocks.0.*=q8" --preview`,
    )
    .action((input: string, output: string | undefined, flags: QuantizeFlags) => run(input, output, flags));
}

async function run(input: string, output: string | undefined, flags: QuantizeFlags): Promise<void> {
  if (flags.preview === true) {
    await preview(input, flags);
    return;
  }
  if (flags.json === true) throw new UsageError("--json prints a preview: add --preview, or leave it out.");
  if (output === undefined) throw new UsageError("Say which file to write, or add --preview to write none.");
  if (resolve(input) === resolve(output))
    throw new UsageError(`${output} is the model itself; give another name to write to.`);
  await withInterrupt(async ({ signal }) => {
    const { dtype, policy, tokenizer } = flags;
    const bar = createProgressBar("quantising", flags.quiet === true);
    const file = await atomicFile(output);
    try {
      await quantize(input, file, { dtype, policy, tokenizer, signal, onProgress: progressOf(bar) });
      signal.throwIfAborted();
      await file.commit();
    } catch (error) {
      await file.discard();
      throw error;
    } finally {
      bar.clear();
    }
  });
}

async function preview(input: string, flags: QuantizeFlags): Promise<void> {
  await withInterrupt(async ({ signal }) => {
    const { dtype, policy } = flags;
    const bar = createProgressBar("rounding", flags.quiet === true);
    let result: QuantizePreview;
    try {
      result = await previewQuantize(input, { dtype, policy, signal, onProgress: progressOf(bar) });
    } finally {
      bar.clear();
    }
    await writeLine(flags.json === true ? JSON.stringify(result) : toText(result));
  });
}

function progressOf(bar: ReturnType<typeof createProgressBar>): (progress: LoadProgress) => void {
  return ({ bytesDone, bytesTotal, tensor }) =>
    bar.update(bytesDone, bytesTotal, `${megabytes(bytesDone)} ${tensor}`);
}

function toText({ matrices, matrixByteLength, otherByteLength }: QuantizePreview): string {
  const width = Math.max(...matrices.map(({ name }) => name.length));
  const lines = matrices.map(({ name, shape, storedDType, dtype, layout, byteLength, relativeError }) =>
    [
      name.padEnd(width),
      `${storedDType} to ${dtype}`.padEnd(12),
      layout.padEnd(8),
      megabytes(byteLength).padStart(10),
      `${(100 * relativeError).toFixed(3)} %`.padStart(10),
      ` [${shape.join(", ")}]`,
    ].join(" "),
  );
  const totals = new Map<string, { count: number; byteLength: number }>();
  for (const { dtype, byteLength } of matrices) {
    const total = totals.get(dtype) ?? { count: 0, byteLength: 0 };
    totals.set(dtype, { count: total.count + 1, byteLength: total.byteLength + byteLength });
  }
  return [
    `${"matrix".padEnd(width)} ${"type".padEnd(12)} ${"order".padEnd(8)} ${"size".padStart(10)} ${"error".padStart(10)}  shape`,
    ...lines,
    "",
    ...[...totals].map(([dtype, total]) => `${total.count} x ${dtype}: ${megabytes(total.byteLength)}`),
    `vectors and all else: ${megabytes(otherByteLength)}`,
    `together: ${megabytes(matrixByteLength + otherByteLength)}`,
  ].join("\n");
}
