// A program whose logits are its input, so that they can be whatever a case asks for.

import type { Backend, Program } from "../../packages/rwkv/src/ops/backend.ts";

/** @param width - elements of a row */
export async function buildEcho(backend: Backend, width: number): Promise<Program> {
  const builder = backend.createBuilder({ maxRows: 8 });
  builder.state("state", [1], 0);
  const x = builder.input("x", [width]);
  const out = builder.output("out", [width]);
  return builder.build((ops) => ops.selectRows(out, x));
}
