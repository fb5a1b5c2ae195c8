// The declared cases of every operation. Shapes: one row, odd numbers of rows, several runs of unequal length; widths
// that are no multiple of any vector register; every weight type; zeros, large values, subnormals.

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
