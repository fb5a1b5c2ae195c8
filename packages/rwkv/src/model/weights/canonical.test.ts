import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addTimeState,
  checkpointOf,
  syntheticModel,
  type SyntheticVersion,
  type TensorValues,
} from "../../../../../test/golden/synthetic.ts";
import { FormatError, RwkvError, UnsupportedError } from "../../core/errors.ts";
import { readValues } from "../values.ts";
import { canonicalWeights } from "./canonical.ts";
import { SHIFT_MAPS } from "./tables.ts";

function withTensor(
  version: SyntheticVersion,
  name: string,
  shape: readonly number[] = [2, 3],
): Map<string, TensorValues> {
  const model = syntheticModel(version);
  model.set(name, { shape, values: new Float32Array(shape.reduce((a, b) => a * b, 1)) });
  return model;
}

function countParameters(model: Map<string, TensorValues>): number {
  let total = 0;
  for (const { rule } of canonicalWeights(checkpointOf(model)).tensors.values()) {
    total += rule.officialShape.reduce((a, b) => a * b, 1);
  }
  return total;
}

test("every parameter of the published totals is used", () => {
  const unused7 = 16 + 2 * 16 * 3; // layer 0's value residual
  const totals = { "4": 5408, "5.0": 5416, "5.1": 5960, "5.2": 6016, "6": 7744, "7": 6304 - unused7 };
  for (const [version, total] of Object.entries(totals)) {
    expect(countParameters(syntheticModel(version as SyntheticVersion)), version).toBe(total);
  }
});

test("low-rank factors come out [out, in], the five shift maps one by one", async () => {
  const model = syntheticModel("6");
  const { tensors } = canonicalWeights(checkpointOf(model));
  const w1 = model.get("blocks.1.att.time_maa_w1")!.values; // [C, 5 D]
  const w2 = model.get("blocks.1.att.time_maa_w2")!.values; // [5, D, C]
  const [C, D] = [16, 4];
  for (const [q, letter] of SHIFT_MAPS.entries()) {
    const down = await readValues(tensors.get(`blocks.1.att.time_maa_w1.${letter}`)!);
    const up = await readValues(tensors.get(`blocks.1.att.time_maa_w2.${letter}`)!);
    for (const [d, c] of [
      [0, 0],
      [1, 7],
      [3, 15],
    ] as const) {
      expect(down[d * C + c]).toBe(w1[c * 5 * D + q * D + d]);
      expect(up[c * D + d]).toBe(w2[q * D * C + d * C + c]);
    }
  }
});

describe("refusals by name", () => {
  const cases: readonly (readonly [SyntheticVersion, string, RegExp])[] = [
    ["4", "blocks.0.ffnPre.key.weight", /ffnPre/],
    ["5.2", "head_q.weight", /copy head/],
    ["5.2", "blocks.1.tiny_q.weight", /small extra attention/],
    ["7", "blocks.0.pos_emb_x", /position embeddings outside RWKV-4/],
    ["4", "blocks.0.att.qq.weight", /softmax attention/],
    ["6", "blocks.0.att.gate_w1", /RWKV-6a/],
    ["6", "blocks.0.att.time_maa_rkvw_w1", /RWKV-6b or 6c/],
    ["6", "blocks.0.ffn.aa.weight", /gated channel mix/],
    ["7", "blocks.0.ffn.s_emb.weight", /RWKV-7a, DeepEmbed/],
    ["7", "blocks.0.qkv.qq.weight", /RWKV-7b/],
    ["7", "blocks.0.ffn.enn.weight", /RWKV-8 rc00/],
    ["7", "blocks.1.rosa.q.weight", /ROSA/],
    ["7", "init_state.0.wkv", /RWKV-block/],
    ["7", "blocks.0.att.key.lora_A", /adapter/],
    ["6", "blocks.0.att.key.lora.0", /adapter/],
  ];
  test.each(cases)("RWKV %s with %s", (version, name, message) => {
    const checkpoint = checkpointOf(withTensor(version, name), { name: "model.pth" });
    expect(() => canonicalWeights(checkpoint)).toThrow(UnsupportedError);
    expect(() => canonicalWeights(checkpoint)).toThrow(message);
    expect(() => canonicalWeights(checkpoint)).toThrow(`model.pth: tensor "${name}"`);
  });

  test("v8 is called v8 although it has the tensors of 7b too", () => {
    const model = withTensor("7", "blocks.0.qkv.qq.weight");
    model.set("blocks.0.ffn.enn.weight", { shape: [2, 3], values: new Float32Array(6) });
    expect(() => canonicalWeights(checkpointOf(model))).toThrow(/RWKV-8 rc00/);
  });

  test("unknown tensors are listed, scalars are not", () => {
    const model = withTensor("7", "blocks.0.att.surprise");
    model.set("step", { shape: [], values: new Float32Array(1) });
    expect(() => canonicalWeights(checkpointOf(model))).toThrow(
      /looks like RWKV 7, but has tensors that RWKV 7 has no use for: "blocks.0.att.surprise"/,
    );
    model.delete("blocks.0.att.surprise");
    expect(() => canonicalWeights(checkpointOf(model))).not.toThrow();
  });

  test("a PEFT adapter, and a file with nothing but a tuned state, are no models", () => {
    const adapter = new Map([
      ["base_model.model.x.lora_A.weight", { shape: [2], values: new Float32Array(2) }],
    ]);
    expect(() => canonicalWeights(checkpointOf(adapter))).toThrow(/PEFT adapter/);
    const state = new Map<string, TensorValues>();
    addTimeState(state);
    expect(() => canonicalWeights(checkpointOf(state))).toThrow(/tuned initial state, not a model/);
  });

  test("GGUF of another architecture is refused by its name", () => {
    const open = (architecture?: string) => () =>
      canonicalWeights(
        checkpointOf(new Map(), {
          format: "gguf",
          metadata: new Map(architecture === undefined ? [] : [["general.architecture", architecture]]),
        }),
      );
    expect(open("llama")).toThrow(/general.architecture is "llama"/);
    expect(open("arwkv7")).toThrow(/a hybrid of RWKV and a transformer/);
    expect(open()).toThrow(FormatError);
  });

  test("integers are no weights", () => {
    const checkpoint = checkpointOf(syntheticModel("4"));
    const tensors = new Map(checkpoint.tensors);
    tensors.set("ln_out.bias", { ...tensors.get("ln_out.bias")!, dtype: "i32" });
    expect(() => canonicalWeights({ ...checkpoint, tensors })).toThrow(/"ln_out.bias" .* holds i32 numbers/);
  });
});

describe("what is missing or does not fit", () => {
  test.each(["4", "5.0", "5.1", "5.2", "6", "7"] as const)("every tensor of RWKV %s is needed", (version) => {
    for (const name of syntheticModel(version).keys()) {
      if (version === "7" && /blocks\.0\.att\.v[012]$/.test(name)) continue;
      const model = syntheticModel(version);
      model.delete(name);
      // without its gate RWKV 5.1 is a 5.0 with a tensor too many
      expect(() => canonicalWeights(checkpointOf(model)), name).toThrow(RwkvError);
    }
  });

  test("a missing tensor is named, with what the same one is called in layer 0", () => {
    const model = syntheticModel("7");
    model.delete("blocks.1.att.w2");
    const wrapped = new Map([...model].map(([name, tensor]) => [`module.${name}`, tensor]));
    expect(() => canonicalWeights(checkpointOf(wrapped))).toThrow(
      /"blocks.1.att.w2" of shape \[4, 16\] is missing \(layer 0 has it as "module.blocks.0.att.w2"\)/,
    );
  });

  test("every wrong shape is refused", () => {
    for (const version of ["4", "5.0", "5.1", "5.2", "6", "7"] as const) {
      for (const [name, { shape, values }] of syntheticModel(version)) {
        if (version === "7" && /blocks\.0\.att\.v[012]$/.test(name)) continue;
        if (name.startsWith("blocks.0.") && /(ffn\.key|att\.r_k|time_(decay|faaaa))/.test(name)) continue; // sizes come from it
        const model = syntheticModel(version);
        model.set(name, { shape: [...shape.slice(0, -1), shape.at(-1)! + 1], values });
        expect(() => canonicalWeights(checkpointOf(model)), `${version} ${name}`).toThrow(RwkvError);
      }
    }
  });

  test("a model without its first norm is refused in formats that never fold it", () => {
    const model = syntheticModel("7");
    model.delete("blocks.0.ln0.weight");
    model.delete("blocks.0.ln0.bias");
    expect(() => canonicalWeights(checkpointOf(model))).toThrow(/"blocks.0.ln0.weight" is missing/);
  });

  test("two naming schemes in one file are refused", () => {
    const model = withTensor("7", "rwkv7.blocks.0.ln1.weight", [16]);
    expect(() => canonicalWeights(checkpointOf(model))).toThrow(/mixes two naming schemes/);
  });

  test("a tuned state of some layers only is refused", () => {
    const model = syntheticModel("7");
    addTimeState(model);
    model.delete("blocks.1.att.time_state");
    expect(() => canonicalWeights(checkpointOf(model))).toThrow(/only 1 of 2 layers have a "time_state"/);
  });

  test("GGUF metadata that contradicts the tensors is refused", () => {
    const gguf = (metadata: readonly (readonly [string, number])[]) => () =>
      canonicalWeights(
        checkpointOf(
          new Map([["blk.0.time_mix_r_k.weight", { shape: [16], values: new Float32Array(16) }]]),
          {
            format: "gguf",
            metadata: new Map<string, string | number>([["general.architecture", "rwkv7"], ...metadata]),
          },
        ),
      );
    expect(gguf([])).toThrow(/"rwkv7.wkv.head_size" should divide the 16 elements/);
    expect(gguf([["rwkv7.wkv.head_size", 5]])).toThrow(/but it is 5/);
    const rescaled = (interval: number) => () =>
      canonicalWeights(
        checkpointOf(
          new Map(
            Array.from({ length: 99 }, (_, i) => [
              `blk.${i}.attn_norm.weight`,
              { shape: [1], values: new Float32Array(1) },
            ]),
          ),
          {
            format: "gguf",
            metadata: new Map<string, string | number>([
              ["general.architecture", "rwkv6"],
              ["rwkv6.rescale_every_n_layers", interval],
            ]),
          },
        ),
      );
    expect(rescaled(1)).toThrow(/leaves nothing of them/);
    expect(rescaled(-1)).toThrow(/should be a number of layers or 0/);
  });
});

test("checkpoints with tensors renamed, dropped, repeated or reshaped end in an error of ours or a model", () => {
  const numRuns = process.env["RWKV_TEST_LONG"] === undefined ? 300 : 10_000;
  const edit = fc.record({
    at: fc.nat(200),
    kind: fc.constantFrom("drop", "rename", "copy", "reshape"),
    name: fc.oneof(
      fc.constantFrom(
        "constructor",
        "blocks.",
        "blocks.0",
        "model.blocks.0.ln1.weight",
        "blk.0.x",
        "__proto__",
      ),
      fc.string({ maxLength: 12 }),
    ),
    shape: fc.array(fc.oneof(fc.nat(20), fc.constantFrom(2 ** 31, 2 ** 52)), { maxLength: 4 }),
  });
  fc.assert(
    fc.property(
      fc.constantFrom("4", "5.0", "5.1", "5.2", "6", "7"),
      fc.constantFrom("pth", "safetensors", "gguf", "rwkv.cpp"),
      fc.array(edit, { minLength: 1, maxLength: 4 }),
      (version, format, edits) => {
        const model = syntheticModel(version);
        for (const { at, kind, name, shape } of edits) {
          const names = [...model.keys()];
          const chosen = names[at % names.length]!;
          const tensor = model.get(chosen)!;
          if (kind === "drop") model.delete(chosen);
          else if (kind === "reshape") model.set(chosen, { shape, values: tensor.values });
          else model.set(name, tensor);
          if (kind === "rename") model.delete(chosen);
        }
        const metadata = new Map<string, string | number>([
          ["general.architecture", version === "7" ? "rwkv7" : "rwkv6"],
          ["rwkv7.wkv.head_size", 8],
        ]);
        try {
          canonicalWeights(checkpointOf(model, { format, metadata }));
        } catch (error) {
          if (!(error instanceof RwkvError)) throw error;
        }
      },
    ),
    { seed: 7, numRuns },
  );
});
