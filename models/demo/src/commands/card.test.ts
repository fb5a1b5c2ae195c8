import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { CARD_FILE } from "../paths.ts";
import { lossTable, replaceBlock } from "./card.ts";

test("a block is replaced whole, and again", () => {
  const card = "a\n<!-- x -->\n\nold\n<!-- /x -->\nb\n";
  const once = replaceBlock(card, "x", "new\n");
  expect(once).toBe("a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n");
  expect(replaceBlock(once, "x", "new\n")).toBe(once);
});

test("a card without the block is refused, and told what to add", () => {
  expect(() => replaceBlock("text", "x", "new")).toThrow("no block between <!-- x --> and <!-- /x -->");
});

test("the card has every block", () => {
  const card = readFileSync(CARD_FILE, "utf8");
  for (const name of ["shape", "abilities", "training"])
    expect(() => replaceBlock(card, name, "")).not.toThrow();
});

test("the loss curve ends with the last step, each row a mean of the steps before it", () => {
  const lines = Array.from({ length: 800 }, (_, i) => ({
    step: i + 1,
    nTokens: 2048 * (i + 1),
    loss: 800 - i,
  }));
  const rows = lossTable(lines).trimEnd().split("\n").slice(2);
  expect(rows).toHaveLength(8);
  expect(rows[0]).toMatch(/^\| 100 +\| +204,800 \| +708\.500 \|$/);
  expect(rows[7]).toMatch(/^\| 800 +\| 1,638,400 \| +8\.500 \|$/);
});

test("a short training has a curve too", () => {
  expect(lossTable([{ step: 1, nTokens: 10, loss: 2 }])).toContain("2.000");
});
