// Writes measured numbers into the model card, so that none is typed by hand. The card marks where a table stands:
// `<!-- name -->` before it and `<!-- /name -->` after it.

import { readFile } from "node:fs/promises";
import { FormatError, inspect } from "rwkv";
import type { SuiteResult } from "../evaluate.ts";
import { CARD_FILE, LOSSES_FILE, MODEL_FILE, RESULTS_FILE, writeWhole } from "../paths.ts";
import { markdownTable, resultTable } from "../tables.ts";

/** What is read of a line of the trainer's losses. */
interface LossLine {
  readonly step: number;
  readonly nTokens: number;
  readonly loss: number;
}

/** Points of the loss curve that the table shows. */
const N_POINTS = 8;
/** A point is the mean of this share of the steps before it: single steps differ by what they happen to read. */
const MEAN_SHARE = 0.02;

/**
 * Fills in the tables of shape, training and abilities.
 * @throws FormatError if the card has no place for one of them
 */
export async function updateCard(): Promise<void> {
  let card = await readFile(CARD_FILE, "utf8");
  const { results } = JSON.parse(await readFile(RESULTS_FILE, "utf8")) as { results: SuiteResult[] };
  const lines = (await readFile(LOSSES_FILE, "utf8")).trimEnd().split("\n");
  card = replaceBlock(card, "shape", await shapeTable());
  card = replaceBlock(card, "abilities", resultTable(results));
  card = replaceBlock(card, "training", lossTable(lines.map((line) => JSON.parse(line) as LossLine)));
  await writeWhole(CARD_FILE, card);
}

/**
 * The card with the content of one block replaced.
 * @throws FormatError if it has no such block
 */
export function replaceBlock(card: string, name: string, content: string): string {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const start = card.indexOf(open);
  const end = card.indexOf(close);
  if (start < 0 || end < start) {
    throw new FormatError(
      `${CARD_FILE} has no block between ${open} and ${close}. Add the two lines where it belongs.`,
    );
  }
  return `${card.slice(0, start + open.length)}\n\n${content}\n${card.slice(end)}`;
}

/** The loss curve in a few rows. */
export function lossTable(lines: readonly LossLine[]): string {
  const nMean = Math.max(1, Math.round(lines.length * MEAN_SHARE));
  const rows = Array.from({ length: N_POINTS }, (_, i) => {
    const end = Math.max(1, Math.round((lines.length * (i + 1)) / N_POINTS));
    const recent = lines.slice(Math.max(0, end - nMean), end);
    const mean = recent.reduce((sum, { loss }) => sum + loss, 0) / recent.length;
    const { step, nTokens } = lines[end - 1]!;
    return [step.toLocaleString("en"), nTokens.toLocaleString("en"), mean.toFixed(3)];
  });
  return markdownTable(["step", "tokens", "loss, nats per token"], rows);
}

async function shapeTable(): Promise<string> {
  const { config, nParameters, byteLength } = await inspect(MODEL_FILE);
  const { ranks } = config;
  return markdownTable(
    ["shape", ""],
    [
      ["layers", String(config.nLayer)],
      ["embedding", String(config.nEmbd)],
      ["heads x head size", `${config.heads ?? 0} x ${config.headSize ?? 0}`],
      ["width of the channel mix", String(config.nFfn)],
      ["ranks: decay, rate, value, gate", `${ranks.decay}, ${ranks.rate}, ${ranks.value}, ${ranks.gate}`],
      ["vocabulary", String(config.nVocab)],
      ["parameters", nParameters.toLocaleString("en")],
      ["bytes of the file", byteLength.toLocaleString("en")],
    ],
  );
}
