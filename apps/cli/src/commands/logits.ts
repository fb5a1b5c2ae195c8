// rwkv logits: the numbers behind the text, for comparing engines, files and settings.

import type { Command } from "commander";
import { UsageError } from "rwkv";
import { withInterrupt } from "../interrupt.ts";
import { addModelFlags, loadFromFlags, parseIds, type ModelFlags } from "../options.ts";
import { writeLine } from "../output.ts";
import { addStateFlags, saveFromFlags, sessionFromFlags, type StateFlags } from "../state-flags.ts";
import { writeFileAtomically } from "../write-file.ts";

interface LogitsFlags extends ModelFlags, StateFlags {
  readonly tokens?: number[];
  readonly all?: boolean;
  readonly json?: boolean;
  readonly out?: string;
}

export function addLogits(program: Command): void {
  const command = program
    .command("logits")
    .description("Print the logits after the last token, or after every token.")
    .option("--tokens <ids>", "ids joined by commas", parseIds)
    .option("--all", "one row per token instead of the last one only")
    .option("--json", "print tokens, shape and logits as JSON")
    .option("--out <file>", "write the logits as little-endian f32, row-major")
    .action((flags: LogitsFlags) => run(flags));
  addStateFlags(command, "after the last token");
  addModelFlags(command).addHelpText(
    "after",
    `
Examples:
  $ rwkv logits --model model.pth --tokens 34,105,110 --json
  $ rwkv logits --model model.pth --tokens 34,105,110 --all --backend reference --out rows.f32`,
  );
}

async function run(flags: LogitsFlags): Promise<void> {
  const { tokens } = flags;
  if (tokens === undefined) throw new UsageError("Say which tokens to read: --tokens 34,105,110.");
  if ((flags.json === true) === (flags.out !== undefined)) {
    throw new UsageError("Say where the logits go: --json for stdout, or --out FILE.");
  }
  await withInterrupt(async ({ signal }) => {
    await using model = await loadFromFlags(flags, signal);
    const session = await sessionFromFlags(model, flags);
    const logits = await session.forward(tokens, {
      logits: flags.all === true ? "all" : "last",
      signal,
    });
    await saveFromFlags(session, flags);
    if (flags.out !== undefined) {
      await writeFileAtomically(flags.out, littleEndianBytes(logits));
      return;
    }
    const nVocab = model.config.nVocab;
    // Nine significant digits identify an f32.
    const values = Array.from(logits, (value) => Number(value.toPrecision(9)));
    await writeLine(JSON.stringify({ tokens, shape: [logits.length / nVocab, nVocab], logits: values }));
  });
}

function littleEndianBytes(values: Float32Array): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => view.setFloat32(4 * i, value, true));
  return new Uint8Array(view.buffer);
}
