// Packed files keep the model: what is encoded into one has the bits of the same encoding at load, whatever the version,
// the source and the backend.

import { describe, expect, test } from "vitest";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import type { EncodedDType } from "../../packages/rwkv/src/core/decode.ts";
import { byteLengthOf } from "../../packages/rwkv/src/core/dtype.ts";
import { FormatError, UsageError } from "../../packages/rwkv/src/core/errors.ts";
import { layoutByteLength, packMatrix, unpackMatrix } from "../../packages/rwkv/src/core/layout.ts";
import type { Checkpoint } from "../../packages/rwkv/src/formats/checkpoint.ts";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { writePacked } from "../../packages/rwkv/src/formats/packed/packed.ts";
import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import { ggufTensors, officialTensors } from "../../packages/rwkv/src/model/export.ts";
import { fingerprint } from "../../packages/rwkv/src/model/fingerprint.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { packWeights, type MatrixToPack } from "../../packages/rwkv/src/model/pack.ts";
import { chooseDTypes, type DTypePolicy } from "../../packages/rwkv/src/model/policy.ts";
import { canonicalWeights, type CanonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { packedMetadata } from "../../packages/rwkv/src/model/weights/packed.ts";
import { BACKENDS } from "../support/backends.ts";
import { runTokens } from "./run-model.ts";
import {
  addTimeState,
  checkpointOf,
  syntheticModel,
  TOKENS,
  WIDE_SIZES,
  type SyntheticVersion,
} from "./synthetic.ts";

const VERSIONS = ["4", "5.0", "5.1", "5.2", "6", "7"] as const;

function weightsOf(version: SyntheticVersion): CanonicalWeights {
  return canonicalWeights(checkpointOf(syntheticModel(version, WIDE_SIZES)));
}

test("matrices that kernels often copy lie together, before those that are mapped", () => {
  const weights = weightsOf("7");
  const { matrices } = packWeights(weights, chooseDTypes(weights.tensors, { dtype: "q8" }));
  const isCopied = matrices.map(({ name }) => name === "emb.weight" || name.endsWith(".ffn.value.weight"));
  const nCopied = isCopied.filter(Boolean).length;
  expect(nCopied).toBe(1 + weights.config.nLayer);
  expect(isCopied.lastIndexOf(true)).toBe(nCopied - 1);
  expect(matrices.length).toBeGreaterThan(2 * nCopied);
});

interface Packing extends DTypePolicy {
  readonly metadata?: ReadonlyMap<string, string>;
  /** Matrices that are in columns whatever their type, as `ffn.value` was in earlier files. */
  readonly inColumns?: RegExp;
}

function columnsOf(matrix: MatrixToPack): MatrixToPack {
  const { dtype, layout, shape, byteLength } = matrix;
  return {
    ...matrix,
    layout: "columns",
    byteLength: layoutByteLength("columns", dtype, shape),
    async read(target, signal) {
      const packed = new Uint8Array(byteLength);
      await matrix.read(packed, signal);
      const rows = new Uint8Array(byteLengthOf(dtype, shape));
      unpackMatrix(layout, dtype, shape, packed, rows);
      packMatrix("columns", dtype, shape, rows, target);
    },
  };
}

async function pack(weights: CanonicalWeights, packing: Packing = {}): Promise<Checkpoint> {
  const sink = new MemorySink();
  const { matrices, tensors } = packWeights(weights, chooseDTypes(weights.tensors, packing));
  await writePacked(sink, {
    matrices: matrices.map((matrix) => (packing.inColumns?.test(matrix.name) ? columnsOf(matrix) : matrix)),
    tensors,
    tokenizer: null,
    metadata: packing.metadata ?? packedMetadata(weights),
  });
  return openCheckpoint(bytesSource(sink.bytes(), "packed"));
}

async function logitsOf(
  weights: CanonicalWeights,
  dtype?: EncodedDType,
  backend = BACKENDS[0]!,
): Promise<Float32Array> {
  const loaded = await loadProgram(await backend.create(), weights, { maxRows: 8, dtype });
  const { logits } = await runTokens(loaded, TOKENS, 8);
  loaded.program.dispose();
  return logits;
}

describe.each(VERSIONS)("RWKV %s", (version) => {
  test.each(["f32", "f16", "bf16", "q8", "q8_0", "q4", "nf4", "sf4"] as const)(
    "packed in %s gives the bits that encoding at load gives",
    async (dtype) => {
      const weights = weightsOf(version);
      const packed = canonicalWeights(await pack(weights, { dtype }));
      expect(packed.config).toEqual(weights.config);
      expect(await fingerprint(packed)).toBe(await fingerprint(weights));
      expect(await logitsOf(packed)).toEqual(await logitsOf(weights, dtype));
    },
  );

  test("matrices are in panels, ffn.value in columns unless it has blocks, the embedding in rows", async () => {
    const { tensors } = await pack(weightsOf(version), { dtype: "q4", policy: "blocks.0.ffn.value=f16" });
    for (const { name, shape, packed } of tensors.values()) {
      const isMatrix = packed !== undefined;
      const layout =
        name === "emb.weight" ? "rows" : name === "blocks.0.ffn.value.weight" ? "columns" : "panels";
      if (isMatrix) expect([name, packed.layout]).toEqual([name, layout]);
      else expect(shape.filter((n) => n > 1).length).toBeLessThan(3);
    }
    expect(tensors.get("emb.weight")!.dtype).toBe("q8");
    expect(tensors.get("head.weight")).toMatchObject({ dtype: "q4", shape: [20, 64] });
    expect(tensors.get("blocks.1.att.receptance.weight")!.dtype).toBe("q8");
    expect(tensors.get("blocks.1.att.key.weight")!.dtype).toBe("q4");
  });
});

describe.each(BACKENDS)("$name", (backend) => {
  test.each(["f16", "q8", "q4", "nf4", "sf4"] as const)("takes every layout of %s", async (dtype) => {
    const weights = weightsOf("7");
    const wanted = await logitsOf(weights, dtype, backend);
    const packed = await pack(weights, { dtype });
    expect(await logitsOf(canonicalWeights(packed), undefined, backend)).toEqual(wanted);
    const inColumns = await pack(weights, { dtype, inColumns: /ffn\.value/ });
    expect(inColumns.tensors.get("blocks.1.ffn.value.weight")!.packed!.layout).toBe("columns");
    expect(await logitsOf(canonicalWeights(inColumns), undefined, backend)).toEqual(wanted);
  });
});

test("without a dtype every matrix keeps its type and bits, and packing again changes nothing", async () => {
  const weights = canonicalWeights(checkpointOf(syntheticModel("6", WIDE_SIZES), { dtype: "bf16" }));
  const packed = canonicalWeights(await pack(weights));
  for (const { rule, dtype } of packed.tensors.values()) {
    if (rule.kind !== "vector") expect(dtype).toBe("bf16");
  }
  expect(await logitsOf(packed)).toEqual(await logitsOf(weights));
  const q4 = canonicalWeights(await pack(packed, { dtype: "q4" }));
  expect(await logitsOf(canonicalWeights(await pack(q4)))).toEqual(await logitsOf(q4));
});

test("a packed model can be encoded in another type at load", async () => {
  const packed = canonicalWeights(await pack(weightsOf("7"), { dtype: "f32" }));
  expect(await logitsOf(packed, "q8")).toEqual(await logitsOf(weightsOf("7"), "q8"));
});

test("applied decays, a tuned state and divided weights go along", async () => {
  const model = syntheticModel("5.2", WIDE_SIZES);
  addTimeState(model, WIDE_SIZES);
  for (const [name, { shape, values }] of model) {
    if (!name.endsWith("time_decay")) continue;
    model.set(name, { shape, values: values.map((w) => Math.exp(-Math.exp(w))) });
  }
  const weights = {
    ...canonicalWeights(checkpointOf(model, { format: "rwkv.cpp" })),
    rescaleEveryNLayers: 1,
  };
  const again = canonicalWeights(await pack(weights));
  expect(again.timeState).not.toBeNull();
  expect(again.rescaleEveryNLayers).toBe(1);
  expect(await logitsOf(again)).toEqual(await logitsOf(weights));
});

test.each(["q8", "q4", "nf4", "sf4"] as const)(
  "converting a model packed in %s writes f16",
  async (dtype) => {
    const packed = canonicalWeights(await pack(weightsOf("7"), { dtype, policy: `*=${dtype}` }));
    const official = officialTensors(packed, null).find(({ name }) => name === "blocks.0.ffn.value.weight");
    expect(official).toMatchObject({ dtype: "f16", shape: [64, 128] });
    const gguf = ggufTensors(packed, null).find(({ name }) => name === "output.weight");
    expect(gguf).toMatchObject({ dtype: "f16", shape: [20, 64] });
  },
);

describe("a policy", () => {
  const { tensors } = weightsOf("7");
  const dtypesOf = (policy: DTypePolicy, names: readonly string[]): string[] => {
    const choose = chooseDTypes(tensors, policy);
    return names.map((name) => choose(tensors.get(name)!));
  };

  test("takes the last rule that fits, with and without .weight, short names and stars", () => {
    const names = ["emb.weight", "head.weight", "blocks.0.ffn.value.weight", "blocks.1.ffn.value.weight"];
    const policy = " head=f16, *.ffn.value=q8,blocks.1.*=nf4 ,emb = bf16";
    expect(dtypesOf({ dtype: "q4", policy }, names)).toEqual(["bf16", "f16", "q8", "nf4"]);
    expect(dtypesOf({ policy: "head.weight=q8" }, names)).toEqual(["f32", "q8", "f32", "f32"]);
    expect(dtypesOf({ policy: "*=q4,blocks.*.value=q8" }, names)).toEqual(["q4", "q4", "q8", "q8"]);
  });

  test("leaves low-rank factors and rows of broken blocks at 16 bits", () => {
    const names = ["blocks.0.att.w1", "blocks.0.att.w2"];
    expect(dtypesOf({ dtype: "q8" }, names)).toEqual(["f16", "f16"]);
    expect(dtypesOf({ dtype: "bf16" }, names)).toEqual(["bf16", "bf16"]);
    const narrow = canonicalWeights(checkpointOf(syntheticModel("7"), { dtype: "bf16" }));
    const choose = chooseDTypes(narrow.tensors, { dtype: "q4" });
    expect(choose(narrow.tensors.get("blocks.0.att.key.weight")!)).toBe("bf16");
  });

  test.each([
    ["head", /rule "head"; expected pattern=dtype/],
    ["head=q5", /with one of f32, f16/],
    ["head=q8,", /rule ""/],
    ["=q8", /rule "=q8"/],
    ["a=b=q8", /rule "a=b=q8"/],
    ["blocks.7.*=q8", /"blocks.7.\*=q8" fits no matrix/],
    ["blocks.0.att.x_r=q8", /fits no matrix/],
    ["hea.=q8", /fits no matrix/],
  ])("%s is refused", (policy, message) => {
    expect(() => chooseDTypes(tensors, { policy })).toThrow(UsageError);
    expect(() => chooseDTypes(tensors, { policy })).toThrow(message);
  });

  test("that a value does not fit is refused when it is written", async () => {
    const model = syntheticModel("7", WIDE_SIZES);
    model.get("head.weight")!.values[70] = 1e6;
    const weights = canonicalWeights(checkpointOf(model));
    await expect(pack(weights, { policy: "head=q4" })).rejects.toThrow(
      /"head.weight" holds 1000000, which q4 cannot/,
    );
    await expect(pack(weights, { policy: "head=f16" })).rejects.toThrow(UsageError);
    await pack(weights, { policy: "head=q8" });
    model.get("head.weight")!.values[70] = NaN;
    await expect(pack(canonicalWeights(checkpointOf(model)), { dtype: "q8" })).rejects.toThrow(FormatError);
  });
});

describe("metadata that was changed", () => {
  const weights = weightsOf("5.2");
  const good = packedMetadata(weights);
  test.each([
    ["rwkv.config", "", /"rwkv.config" is missing or no JSON/],
    ["rwkv.config", "[]", /is no JSON object/],
    [
      "rwkv.config",
      good.get("rwkv.config")!.replace('"nLayer":2', '"nLayer":3'),
      /has nLayer 3, but the tensors make it 2/,
    ],
    ["rwkv.config", good.get("rwkv.config")!.replace('"nLayer":2,', ""), /nLayer/],
    ["rwkv.forms", "null", /is no JSON object/],
    ["rwkv.forms", '{"ln_out.weight":"raw"}', /a form other than/],
    ["rwkv.rescaleEveryNLayers", "-1", /is no number of layers/],
    ["rwkv.rescaleEveryNLayers", "70000", /is no number of layers/],
  ])("%s %s is refused", async (key, text, message) => {
    const checkpoint = await pack(weights, { metadata: new Map([...good, [key, text]]) });
    expect(() => canonicalWeights(checkpoint)).toThrow(FormatError);
    expect(() => canonicalWeights(checkpoint)).toThrow(message);
  });
});
