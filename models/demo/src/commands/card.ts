// Writes measured numbers into the model card, so that none is typed by hand. The card marks where a table stands:
// `<!-- name -->` before it and `<!-- /name -->` after it.

import { readFile } from "node:fs/promises";
import { FormatError, inspect } from "rwkv";
import type { SuiteResult } from "../evaluate.ts";
import { CARD_FILE, MODEL_FILE, RESULTS_FILE, writeWhole } from "../paths.ts";
import { markdownTable, resultTable } from "../tables.ts";

/**
 * Fills in the tables of shape, training and abilities.
 * @throws FormatError if the card has no place for one of them
 */
export async function updateCard(): Promise<void> {
  let card = await readFile(CARD_FILE, "utf8");
  const { results } = JSON.parse(await readFile(RESULTS_FILE, "utf8")) as { results: SuiteResult[] };
  card = replaceBlock(card, "shape", await shapeTable());
  card = replaceBlock(card, "abilities", resultTable(results));
  await writeWhole(CARD_FILE, card);
}

/** The card with this block's content replaced. */
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
