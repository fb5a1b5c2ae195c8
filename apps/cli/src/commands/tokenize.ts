// rwkv tokenize: text to ids and back.

import type { Command } from "commander";
import { loadTokenizer, modelTokenizer, UsageError, type Tokenizer } from "rwkv";
import { parseIds } from "../options.ts";
import { readStdin, writeLine, writeOut } from "../output.ts";

interface TokenizeFlags {
  readonly model?: string;
  readonly tokenizer?: string;
  readonly decode?: boolean;
  readonly json?: boolean;
}

export function addTokenize(program: Command): void {
  program
    .command("tokenize")
    .description("Turn text into token ids, or with --decode ids into text.")
    .argument("<text>", 'text, or ids joined by commas; "-" reads stdin to its end as bytes')
    .option("-m, --model <file>", "use the tokenizer inside or beside this model")
    .option("--tokenizer <file>", "World vocabulary (.txt, .json) or tokenizer.json")
    .option("-d, --decode", "the text is ids; print what they stand for")
    .option("--json", "print an array of ids, or the text as a JSON string")
    .addHelpText(
      "after",
      `
Examples:
  $ rwkv tokenize --tokenizer rwkv_vocab_v20230424.txt --json "Hello, world!"
  $ rwkv tokenize --tokenizer rwkv_vocab_v20230424.txt --decode 33155,45,40213,34
  $ cat book.txt | rwkv tokenize --model model.gguf -`,
    )
    .action((text: string, flags: TokenizeFlags) => run(text, flags));
}

async function run(text: string, flags: TokenizeFlags): Promise<void> {
  const tokenizer = await openTokenizer(flags);
  const bytes = text === "-" ? await readStdin() : null;
  if (flags.decode === true) {
    const ids = parseIds(bytes === null ? text : new TextDecoder().decode(bytes));
    if (flags.json === true) await writeLine(JSON.stringify(tokenizer.decode(ids)));
    else await writeOut(tokenizer.decodeBytes(ids));
    return;
  }
  const ids = bytes === null ? tokenizer.encode(text) : tokenizer.encodeBytes(bytes);
  await writeLine(flags.json === true ? JSON.stringify(ids) : ids.join(","));
}

function openTokenizer({ model, tokenizer }: TokenizeFlags): Promise<Tokenizer> {
  if (tokenizer !== undefined) return loadTokenizer(tokenizer);
  if (model !== undefined) return modelTokenizer(model);
  throw new UsageError(
    "Say which tokenizer: --tokenizer FILE, or --model FILE for the one that belongs to a model.",
  );
}
