import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { checkpointOf, syntheticModel, type TensorValues } from "../../../../test/golden/synthetic.ts";
import { fingerprint } from "./fingerprint.ts";
import { canonicalWeights } from "./weights/canonical.ts";

function markOf(model: ReadonlyMap<string, TensorValues>, dtype: "f32" | "bf16" = "f32"): Promise<string> {
  return fingerprint(canonicalWeights(checkpointOf(model, { dtype })));
}

test("is the SHA-256 of the config and the norms of all layers", async () => {
  const model = syntheticModel("7");
  const hash = createHash("sha256");
  hash.update(
    '{"generation":7,"nLayer":2,"nEmbd":16,"nAtt":16,"nFfn":32,"nVocab":12,"heads":2,"headSize":8}',
  );
  for (const name of ["blocks.0.ln1", "blocks.0.ln2", "blocks.1.ln1", "blocks.1.ln2", "ln_out"]) {
    for (const part of ["weight", "bias"])
      hash.update(new Uint8Array(model.get(`${name}.${part}`)!.values.buffer));
  }
  expect(await markOf(model)).toBe(hash.digest("hex"));
});

test("depends on the norms, not on the matrices", async () => {
  const mark = await markOf(syntheticModel("4"));
  const matrix = syntheticModel("4");
  matrix.get("head.weight")!.values[0] = 7;
  expect(await markOf(matrix)).toBe(mark);
  const norm = syntheticModel("4");
  norm.get("blocks.1.ln2.bias")!.values[15] = 7;
  expect(await markOf(norm)).not.toBe(mark);
});

test("differs between generations and sizes with the same norms", async () => {
  const marks = await Promise.all(
    (["4", "5.1", "6", "7"] as const).map((version) => markOf(syntheticModel(version))),
  );
  expect(new Set(marks).size).toBe(4);
});
