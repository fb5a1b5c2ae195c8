// Fresh weights against the table of the official trainer's routine, element by element where it is a formula.

import { expect, test } from "vitest";
import { UnsupportedError } from "rwkv";
import { weightRules } from "rwkv/model";
import { freshConfig } from "../runtime/config.ts";
import { tinyConfig } from "../testing.ts";
import { freshWeights } from "./fresh.ts";

const config = freshConfig(
  {
    layers: 3,
    embedding: 16,
    headSize: 8,
    ffn: 64,
    vocab: null,
    ranks: { decay: 20, rate: 4, value: 5, gate: 6 },
  },
  40,
);
const weights = freshWeights(config, 11);
const get = (name: string): Float64Array => weights.get(name)!;

/** The products of a matrix's shorter vectors with one another, less the identity times the square of the gain. */
function distanceFromOrthogonal(name: string, rows: number, columns: number, gain: number): number {
  const values = get(name);
  expect(values.length).toBe(rows * columns);
  const count = Math.min(rows, columns);
  const at = (i: number, j: number): number => values[rows >= columns ? j * columns + i : i * columns + j]!;
  let worst = 0;
  for (let a = 0; a < count; a++) {
    for (let b = 0; b < count; b++) {
      let dot = 0;
      for (let j = 0; j < Math.max(rows, columns); j++) dot += at(a, j) * at(b, j);
      worst = Math.max(worst, Math.abs(dot - (a === b ? gain ** 2 : 0)));
    }
  }
  return worst;
}

test.each([
  ["head.weight", 40, 16, 0.5 * Math.sqrt(40 / 16)],
  ["blocks.1.att.receptance.weight", 16, 16, 1],
  ["blocks.1.att.value.weight", 16, 16, 1],
  ["blocks.1.att.key.weight", 16, 16, 0.1],
  ["blocks.1.ffn.key.weight", 64, 16, 1],
  ["blocks.1.att.a2", 16, 4, 0.1],
  ["blocks.1.att.w2", 16, 20, 0.1 * Math.sqrt(20 / 16)],
])("%s is orthogonal", (name, rows, columns, gain) => {
  expect(distanceFromOrthogonal(name, rows, columns, gain)).toBeLessThan(1e-12);
});

test("what begins at zero is zero, and the embedding lies within 1e-4", () => {
  const zeros = ["att.w1", "att.a1", "att.v1", "att.g1", "att.output.weight", "ffn.value.weight", "ln1.bias"];
  for (const name of zeros) expect(get(`blocks.2.${name}`).every((value) => value === 0)).toBe(true);
  const embedding = get("emb.weight");
  expect(Math.max(...embedding.map(Math.abs))).toBeLessThanOrEqual(1e-4);
  expect(Math.max(...embedding) - Math.min(...embedding)).toBeGreaterThan(1.5e-4);
});

test("vectors follow their formulas", () => {
  // layer 1 of 3: r01 = 1/2, r10 = 2/3; channel 9 of 16, the second of its head of 8
  const c = 9;
  const z = (1 - 3.5) / 3.5;
  const zig = z * Math.abs(z);
  const lin = c / 15 - 0.5;
  const expected: readonly (readonly [string, number])[] = [
    ["att.x_r", 1 - (c / 16) ** (0.2 * (2 / 3))],
    ["att.x_w", 1 - (c / 16) ** (0.9 * (2 / 3))],
    ["att.x_v", 1 - (c / 16) ** (0.7 * (2 / 3))],
    ["ffn.x_k", 1 - (c / 16) ** ((2 / 3) ** 4)],
    ["att.w0", -6 + 6 * (c / 15) ** (1 + 0.5 ** 0.3) + 0.5 + 2.5 * zig],
    ["att.a0", -0.19 + 0.3 * zig + 0.4 * lin],
    ["att.v0", 0.73 - 0.4 * lin],
    ["att.k_k", 0.71 - 0.1 * lin],
    ["att.k_a", 1.02],
    ["att.r_k", -0.04],
    ["att.ln_x.weight", (2 / 3) ** 0.7],
    ["ln2.weight", 1],
  ];
  for (const [name, value] of expected) expect(get(`blocks.1.${name}`)[c], name).toBeCloseTo(value, 14);
});

test("every weight is there, the seed decides, and other versions are refused", () => {
  expect([...weights.keys()].sort()).toEqual(
    weightRules(config)
      .map(({ name }) => name)
      .sort(),
  );
  expect(freshWeights(config, 11)).toEqual(weights);
  expect(freshWeights(config, 12).get("head.weight")).not.toEqual(get("head.weight"));
  expect(() => freshWeights(tinyConfig("6"), 1)).toThrow(UnsupportedError);
});
