// The declared cases of every operation. Shapes: one row, odd numbers of rows, several runs of unequal length; widths
// that are no multiple of any vector register; every weight type; zeros, large values, subnormals.

import { isDType } from "../../packages/rwkv/src/core/dtype.ts";
import type { ContractCase } from "./case.ts";
import { norms } from "./cases-norms.ts";
import { activations, elementwise, selections, shifts } from "./cases-pointwise.ts";
import { bonuses, matrices } from "./cases-products.ts";
import { wkv4, wkv6, wkv7 } from "./cases-recurrences.ts";

/** Every case, in the order of the interface. */
export function contractCases(): ContractCase[] {
  return [
    ...norms(),
    ...shifts(),
    ...elementwise(),
    ...activations(),
    ...selections(),
    ...matrices(),
    ...bonuses(),
    ...wkv4(),
    ...wkv6(),
    ...wkv7(),
  ];
}

/** More rows than kernels for few rows are there for, on any backend. */
const MANY_ROWS = 64;

/**
 * Some of the cases, for a place whose kernels pass all of them elsewhere. Each operation is among them with each weight type,
 * with few rows and with many, with each number of rows and runs, and with whatever else titles tell, such as sizes
 * and special values; but not with all of these at once.
 */
export function fewContractCases(): ContractCase[] {
  const seen = new Set<string>();
  return contractCases().filter((testCase) => {
    const fresh = traitsOf(testCase).filter((trait) => !seen.has(trait));
    for (const trait of fresh) seen.add(trait);
    return fresh.length > 0;
  });
}

function traitsOf({ op, title, runs, arguments: args }: ContractCase): string[] {
  const isLong = runs.some((nRows) => nRows >= MANY_ROWS);
  const dtypes = Object.values(args).flatMap((argument) =>
    argument.kind === "weight" ? argument.dtype : [],
  );
  const [rows, ...details] = title.split(" ").filter((word) => !isDType(word));
  return [
    ...dtypes.map((dtype) => `${dtype}, ${isLong ? "many rows" : "few rows"}`),
    rows!,
    details.join(" "),
  ].map((trait) => `${op} ${trait}`);
}
