// rwkv inspect: what a checkpoint holds, from its header alone.

import type { Command } from "commander";
import { inspect, type CheckpointSummary, type MetadataValue } from "rwkv";
import { writeLine } from "../output.ts";
import { megabytes } from "../progress.ts";

export function addInspect(program: Command): void {
  program
    .command("inspect")
    .description("Show format, version, sizes and tensors of a model file. Only the header is read.")
    .argument("<file>", "model file or address")
    .option("--json", "print everything as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  $ rwkv inspect model.pth\n  $ rwkv inspect model.gguf --json | jq .version",
    )
    .action((file: string, flags: { readonly json?: boolean }) => run(file, flags.json === true));
}

async function run(file: string, isJson: boolean): Promise<void> {
  const summary = await inspect(file);
  if (isJson) await writeLine(JSON.stringify(toJson(summary)));
  else await writeLine(toText(summary));
}

function toJson({ config, metadata, ...summary }: CheckpointSummary): object {
  return {
    format: summary.format,
    version: config.version,
    layers: config.nLayer,
    embedding: config.nEmbd,
    ffn: config.nFfn,
    heads: config.heads,
    headSize: config.headSize,
    vocab: config.nVocab,
    dtypes: summary.dtypes,
    parameters: summary.nParameters,
    attention: config.nAtt,
    formatVersion: summary.formatVersion,
    byteLength: summary.byteLength,
    metadata: Object.fromEntries([...metadata].map(([key, value]) => [key, shorten(value)])),
    tensors: summary.tensors,
  };
}

/** Vocabularies inside a GGUF would drown everything else. */
const MAX_LISTED = 16;

function shorten(value: MetadataValue): unknown {
  if (typeof value === "bigint") return value.toString();
  if (!isList(value)) return value;
  return value.length > MAX_LISTED ? { length: value.length } : value.map(shorten);
}

function isList(value: MetadataValue): value is readonly MetadataValue[] {
  return Array.isArray(value);
}

function toText({ config, ...summary }: CheckpointSummary): string {
  const format =
    summary.formatVersion === null ? summary.format : `${summary.format} ${summary.formatVersion}`;
  const dtypes = Object.entries(summary.dtypes).map(([dtype, count]) => `${count} x ${dtype}`);
  const rows = [
    ["file", summary.name],
    ["format", `${format}, ${megabytes(summary.byteLength)}`],
    ["version", `RWKV-${config.version}`],
    ["layers", config.nLayer],
    ["embedding", config.nEmbd],
    ["ffn", config.nFfn],
    ["heads", config.heads === null ? "none" : `${config.heads} of ${config.headSize ?? 0}`],
    ["vocab", config.nVocab],
    ["parameters", summary.nParameters.toLocaleString("en")],
    ["tensors", dtypes.join(", ")],
  ];
  const width = Math.max(...summary.tensors.map(({ name }) => name.length));
  return [
    ...rows.map(([label, value]) => `${String(label).padEnd(12)}${String(value)}`),
    "",
    ...summary.tensors.map(
      ({ name, dtype, shape, layout }) =>
        `${name.padEnd(width)}  ${dtype.padEnd(5)}[${shape.join(", ")}]${layout === undefined ? "" : ` in ${layout}`}`,
    ),
  ].join("\n");
}
