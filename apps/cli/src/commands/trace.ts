// rwkv trace: values from inside a model while it reads a prompt, to compare one engine, file or setting with another.

import { extname, resolve } from "node:path";
import { InvalidArgumentError, type Command } from "commander";
import { atomicFile, UsageError, writeTrace, type Model, type Trace, type TraceFormat } from "rwkv";
import { withInterrupt } from "../interrupt.ts";
import { addModelFlags, collect, loadFromFlags, parseIds, type ModelFlags } from "../options.ts";
import { readStdin, writeLine } from "../output.ts";
import { megabytes } from "../progress.ts";
import { addTraceDiff } from "./trace-diff.ts";

interface TraceFlags extends ModelFlags {
  readonly prompt?: string;
  readonly tokens?: number[];
  readonly layers?: number[];
  readonly names?: string[];
  readonly state?: string;
  readonly list?: boolean;
  readonly out?: string;
}

export function addTrace(program: Command): void {
  const command = program
    .command("trace")
    .description("Write values from inside the forward pass to a file, or list their names.")
    .option("--prompt <text>", 'text to read; "-" reads stdin')
    .option("--tokens <ids>", "ids joined by commas, instead of a text", parseIds)
    .option("--layers <list>", "only these layers, such as 0-3,7", parseLayers)
    .option(
      "--names <pattern>",
      "only values of these names; * stands for any characters; may be given more than once",
      collect,
    )
    .option("--state <file>", "start from a saved session or a tuned time_state")
    .option("--list", "print the names of all values and write nothing")
    .option("--out <file>", ".safetensors or .json file to write")
    .action((flags: TraceFlags) => run(flags));
  addModelFlags(command).addHelpText(
    "after",
    `
Examples:
  $ rwkv trace --model model.pth --list
  $ rwkv trace --model model.pth --prompt "The sea is" --out cpu.safetensors
  $ rwkv trace --model model.pth --prompt "The sea is" --backend reference --out reference.safetensors
  $ rwkv trace diff reference.safetensors cpu.safetensors --atol 1e-4 --rtol 1e-3
  $ rwkv trace --model model.pth --tokens 34,105 --layers 0-3 --names "*.wkv" --out wkv.json`,
  );
  addTraceDiff(command);
}

/** Numbers and ranges joined by commas. */
function parseLayers(text: string): number[] {
  return text.split(",").flatMap((part) => {
    const [, first, last = first] = /^\s*(\d{1,6})(?:-(\d{1,6}))?\s*$/.exec(part) ?? [];
    if (first === undefined || Number(last) < Number(first)) {
      throw new InvalidArgumentError("Expected numbers and ranges joined by commas, such as 0-3,7.");
    }
    return Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => Number(first) + i);
  });
}

async function run(flags: TraceFlags): Promise<void> {
  const prompt = flags.list === true ? null : await promptOf(flags);
  const format = flags.list === true ? null : formatOf(flags);
  await withInterrupt(async ({ signal }) => {
    await using model = await loadFromFlags(flags, signal);
    if (prompt === null || format === null) {
      await writeLine(model.traceNames().join("\n"));
      return;
    }
    const trace = await model.trace(prompt, {
      names: flags.names,
      layers: flags.layers,
      initialState: flags.state === undefined ? undefined : await stateOf(model, flags.state),
      signal,
    });
    await writeFile(flags.out!, trace, format);
    await writeLine(summary(flags.out!, trace));
  });
}

async function promptOf({ prompt, tokens }: TraceFlags): Promise<string | number[]> {
  if ((prompt === undefined) === (tokens === undefined)) {
    throw new UsageError("Say what the model reads: --prompt TEXT, or --tokens 34,105,110.");
  }
  if (tokens !== undefined) return tokens;
  return prompt === "-" ? new TextDecoder().decode(await readStdin()) : prompt!;
}

function formatOf({ model, out }: TraceFlags): TraceFormat {
  if (out === undefined) {
    throw new UsageError("Say where the trace goes: --out FILE.safetensors or --out FILE.json.");
  }
  if (model !== undefined && resolve(model) === resolve(out)) {
    throw new UsageError(`${out} is the model itself; give another name to write to.`);
  }
  const extension = extname(out).toLowerCase();
  if (extension === ".json") return "json";
  if (extension === ".safetensors" || extension === ".st") return "safetensors";
  throw new UsageError(
    `A trace is written as .safetensors or .json, but --out is ${out}. Give it one of those endings.`,
  );
}

async function stateOf(model: Model, file: string): Promise<Float32Array> {
  await using session = await model.restore(file);
  return await session.readState(); // before the session is disposed
}

async function writeFile(path: string, trace: Trace, format: TraceFormat): Promise<void> {
  const file = await atomicFile(path);
  try {
    await writeTrace(file, trace, format);
    await file.commit();
  } catch (error) {
    await file.discard();
    throw error;
  }
}

function summary(path: string, { origin, tensors }: Trace): string {
  let byteLength = 0;
  for (const { values } of tensors.values()) byteLength += values.byteLength;
  const count = `${tensors.size} ${tensors.size === 1 ? "value" : "values"}`;
  return `${path}: ${count}, ${megabytes(byteLength)} in f32; ${origin!.device}`;
}
