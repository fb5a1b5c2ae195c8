// The `rwkv` command: arguments in, exit code out. What each subcommand does stands in commands/.

import { Command, CommanderError } from "commander";
import { addBench } from "./commands/bench.ts";
import { addChat } from "./commands/chat.ts";
import { addCompare } from "./commands/compare.ts";
import { addConvert } from "./commands/convert.ts";
import { addDevices } from "./commands/devices.ts";
import { addEval } from "./commands/eval.ts";
import { addGenerate } from "./commands/generate.ts";
import { addInspect } from "./commands/inspect.ts";
import { addLogits } from "./commands/logits.ts";
import { addQuantize } from "./commands/quantize.ts";
import { addTokenize } from "./commands/tokenize.ts";
import { addTrace } from "./commands/trace.ts";
import { addTrain } from "./commands/train.ts";
import { EXIT, exitCodeOf, Interrupted, reportError } from "./errors.ts";
import { ClosedPipe } from "./output.ts";
import { version } from "./version.ts";

const HELP_END = `
Examples:
  $ rwkv generate "The Eiffel tower is in the city of" --model rwkv7-g1d-0.1b.pth --max-tokens 50
  $ rwkv chat --model rwkv7-g1d-0.1b.pth --think on
  $ rwkv inspect rwkv7-g1d-0.1b.pth
  $ rwkv convert rwkv7-g1d-0.1b.pth rwkv7-g1d-0.1b.gguf --dtype q8_0
  $ rwkv quantize rwkv7-g1d-0.1b.pth rwkv7-g1d-0.1b-q4.safetensors --dtype q4
  $ rwkv eval --model rwkv7-g1d-0.1b.pth --text book.txt
  $ echo "some text" | rwkv tokenize --tokenizer rwkv_vocab_v20230424.txt --json -

Environment:
  RWKV_MODEL  the model used when --model is not given; without it the small demo model is used
  RWKV_NATIVE 0 leaves native kernels alone, 1 requires them, avx2, avx512 or neon chooses
  NO_COLOR    if set, no colours

Exit codes: 0 done, 1 failure (of trace diff: they part), 2 wrong usage, 130 interrupted.
Results go to stdout, everything else to stderr.`;

/** Runs one command line and sets the process's exit code; never throws. */
export async function main(argv: readonly string[]): Promise<void> {
  const program = new Command("rwkv")
    .description("Runs RWKV language models, v4 to v7, from .pth, .safetensors, GGUF and rwkv.cpp files.")
    .version(version)
    .addHelpText("after", HELP_END)
    .showHelpAfterError("(--help shows the options and examples)")
    .exitOverride();
  for (const add of [
    addGenerate,
    addChat,
    addTokenize,
    addInspect,
    addConvert,
    addQuantize,
    addCompare,
    addEval,
    addLogits,
    addTrace,
    addTrain,
    addBench,
    addDevices,
  ]) {
    add(program);
  }
  // Subcommands inherit these from their parent only if told so.
  for (const command of program.commands) {
    for (const each of [command, ...command.commands]) each.copyInheritedSettings(program);
  }
  try {
    await program.parseAsync(argv);
  } catch (error) {
    if (error instanceof ClosedPipe) return;
    // commander has already printed its message, or the help that was asked for.
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
      return;
    }
    if (!(error instanceof Interrupted)) reportError(error);
    process.exitCode = exitCodeOf(error);
  }
}
