// The small models that drivers are tested with, on backends that need no driver.

import { expect, test } from "vitest";
import { MiniModel } from "../../packages/rwkv/src/backends/webgpu/mini-model.ts";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";
import type { OpCall } from "../../packages/rwkv/src/ops/signature.ts";
import type { Tensor } from "../../packages/rwkv/src/ops/tensor.ts";
import { expectClose } from "../golden/run-model.ts";
import { checkpointOf, SIZES, syntheticModel, type SyntheticVersion } from "../golden/synthetic.ts";
import { WASM } from "../support/backends.ts";

const N_ROWS = 5;
const isSparse = ({ name }: Tensor): boolean => name.includes("ffn.value");

async function callsOf(version: SyntheticVersion, nLayer: number): Promise<readonly OpCall[]> {
  const model = syntheticModel(version, { ...SIZES, nLayer, nEmbd: 128, nFfn: 192, nVocab: 200 });
  const { program } = await loadProgram(createReferenceBackend(), canonicalWeights(checkpointOf(model)), {
    maxRows: N_ROWS,
  });
  return program.recording!.calls;
}

/** Logits and state after some rows. */
async function results(model: MiniModel, backend: Backend): Promise<readonly Float32Array[]> {
  const program = await model.build(backend.createBuilder({ maxRows: N_ROWS }));
  const slot = program.createSlot();
  const logits = await program.step([{ slot, nRows: N_ROWS, logits: "all" }], model.inputs(N_ROWS));
  const all = [logits.slice(), await program.readSlot(slot)];
  program.dispose();
  return all;
}

test.each(["4", "5.2", "6", "7"] as const)(
  "of RWKV-%s it is small, tells backends apart by rounding only, and has repeated layers once",
  async (version) => {
    const model = new MiniModel(await callsOf(version, 3), isSparse);
    const [want, got] = [
      await results(model, createReferenceBackend()),
      await results(model, await WASM.create()),
    ];
    for (const [i, what] of ["logits", "state"].entries()) {
      const largest = want[i]!.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      expect(largest).toBeGreaterThan(0.01);
      expectClose(`${version} ${what}`, got[i]!, want[i]!, 1e-4 * largest);
    }
    const deeper = new MiniModel(await callsOf(version, 6), isSparse);
    expect((await results(deeper, createReferenceBackend()))[0]).toEqual(want[0]);
  },
);
