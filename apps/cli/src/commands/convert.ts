// rwkv convert: any readable checkpoint to safetensors, .pth or GGUF. The target appears only once it is complete.

import { extname, resolve } from "node:path";
import { Option, type Command } from "commander";
import { atomicFile, convert, CONVERT_DTYPES, UsageError, type ConvertDType, type ConvertFormat } from "rwkv";
import { withInterrupt } from "../interrupt.ts";
import { createProgressBar, megabytes } from "../progress.ts";

interface ConvertFlags {
  readonly dtype?: ConvertDType;
  readonly tokenizer?: string;
  readonly quiet?: boolean;
}

const FORMATS: Readonly<Record<string, ConvertFormat>> = {
  ".safetensors": "safetensors",
  ".st": "safetensors",
  ".pth": "pth",
  ".gguf": "gguf",
};

export function addConvert(program: Command): void {
  program
    .command("convert")
    .description("Convert a model to .safetensors, .pth or .gguf, chosen by the target's extension.")
    .argument("<in>", "model file or address")
    .argument("<out>", "file to write; replaced only when the new one is complete")
    .addOption(
      new Option("--dtype <dtype>", "what matrices are stored as (default: as they are)").choices(
        CONVERT_DTYPES,
      ),
    )
    .option("--tokenizer <file>", "World vocabulary to put into a GGUF (default: found beside the model)")
    .option("-q, --quiet", "no progress bar")
    .addHelpText(
      "after",
      "\nExamples:\n  $ rwkv convert model.pth model.safetensors\n  $ rwkv convert model.pth model.gguf --dtype q8_0",
    )
    .action((input: string, output: string, flags: ConvertFlags) => run(input, output, flags));
}

async function run(input: string, output: string, flags: ConvertFlags): Promise<void> {
  const format = FORMATS[extname(output).toLowerCase()];
  if (format === undefined) {
    throw new UsageError(`Cannot tell the format of ${output}: name it *.safetensors, *.pth or *.gguf.`);
  }
  if (resolve(input) === resolve(output))
    throw new UsageError(`${output} is the model itself; give another name to write to.`);
  await withInterrupt(async ({ signal }) => {
    const bar = createProgressBar("converting", flags.quiet === true);
    const file = await atomicFile(output);
    try {
      await convert(input, file, {
        format,
        dtype: flags.dtype,
        tokenizer: flags.tokenizer,
        signal,
        onProgress: ({ bytesDone, bytesTotal, tensor }) =>
          bar.update(bytesDone, bytesTotal, `${megabytes(bytesDone)} ${tensor}`),
      });
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
