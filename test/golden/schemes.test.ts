// Every naming scheme against the official one: the same synthetic model is renamed and rearranged as each program's
// converter does it, and must give the same logits.

import { describe, expect, test } from "vitest";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import type { Checkpoint } from "../../packages/rwkv/src/formats/checkpoint.ts";
import { fingerprint } from "../../packages/rwkv/src/model/fingerprint.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { expectClose, runTokens } from "./run-model.ts";
import {
  addTimeState,
  checkpointOf,
  SIZES,
  syntheticModel,
  TOKENS,
  type CheckpointOptions,
  type SyntheticVersion,
  type TensorValues,
} from "./synthetic.ts";

type Model = Map<string, TensorValues>;

async function logitsOf(checkpoint: Checkpoint): Promise<Float32Array> {
  const backend = createReferenceBackend({ storage: "f64" });
  const loaded = await loadProgram(backend, canonicalWeights(checkpoint), { maxRows: 4 });
  return (await runTokens(loaded, TOKENS, 4)).logits;
}

/** Every tensor under a new name, with changed values where `change` gives them; null drops it. */
function rebuild(
  model: Model,
  change: (name: string, tensor: TensorValues) => [string, TensorValues] | null,
): Model {
  const result: Model = new Map();
  for (const [name, tensor] of model) {
    const changed = change(name, tensor);
    if (changed !== null) result.set(...changed);
  }
  return result;
}

/** The last two dimensions exchanged. */
function transpose({ shape, values }: TensorValues): TensorValues {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const result = new Float32Array(values.length);
  for (let e = 0; e < values.length; e++) {
    const matrix = Math.floor(e / (rows * columns)) * rows * columns;
    const row = Math.floor((e - matrix) / columns);
    const column = (e - matrix) % columns;
    result[matrix + column * rows + row] = values[e]!;
  }
  return { shape: [...shape.slice(0, -2), columns, rows], values: result };
}

function stack(tensors: readonly TensorValues[], shape: readonly number[]): TensorValues {
  return { shape, values: Float32Array.from(tensors.flatMap(({ values }) => [...values])) };
}

function map({ shape, values }: TensorValues, f: (value: number) => number): TensorValues {
  return { shape, values: values.map(f) };
}

const squeeze = ({ shape, values }: TensorValues): TensorValues => ({
  shape: shape.filter((d) => d !== 1),
  values,
});

/** Orders of the fused token-shift vectors. */
const MIX6 = ["w", "k", "v", "r", "g"];
const MIX7 = ["r", "w", "k", "v", "a", "g"];

const LORA7 = /\.att\.[wavg][12]$/;
const LORA6 = /time_(maa|decay)_w[12]$/;

async function expectSame(
  version: SyntheticVersion,
  rearranged: Model,
  options: CheckpointOptions,
  limit = 1e-6,
  official = syntheticModel(version),
): Promise<void> {
  const want = await logitsOf(checkpointOf(official));
  expectClose(`RWKV ${version}`, await logitsOf(checkpointOf(rearranged, options)), want, limit);
  const marks = [official, rearranged].map((model) =>
    fingerprint(canonicalWeights(checkpointOf(model, model === rearranged ? options : {}))),
  );
  expect(await marks[1]).toBe(await marks[0]);
}

describe("wrappers' prefixes", () => {
  for (const prefix of [
    "module.",
    "_forward_module.",
    "_orig_mod.",
    "model.",
    "_forward_module._orig_mod.",
  ]) {
    test(`"${prefix}" before every name is stripped`, () =>
      expectSame(
        "7",
        rebuild(syntheticModel("7"), (name, tensor) => [prefix + name, tensor]),
        {},
      ));
  }

  test("vectors may be squeezed", () =>
    expectSame(
      "6",
      rebuild(syntheticModel("6"), (name, tensor) => [name, name.includes("w2") ? tensor : squeeze(tensor)]),
      {},
    ));
});

describe("web-rwkv", () => {
  const options: CheckpointOptions = { format: "safetensors" };

  function webRwkv(model: Model): Model {
    return rebuild(model, (name, tensor) => {
      const renamed = name.replace("time_faaaa", "time_first").replace("time_maa", "time_mix");
      const isTransposed = /time_mix_w[12]|time_decay_w[12]|\.[wagv][12]$|time_state/.test(renamed);
      return [renamed, isTransposed ? transpose(tensor) : tensor];
    });
  }

  for (const version of ["4", "5.1", "5.2", "6", "7"] as const) {
    test(`RWKV ${version} as its converter writes it`, () =>
      expectSame(version, webRwkv(syntheticModel(version)), options));
  }

  for (const version of ["5.2", "6", "7"] as const) {
    test(`a tuned state merged into RWKV ${version} keeps its meaning`, async () => {
      const official = syntheticModel(version);
      addTimeState(official);
      await expectSame(version, webRwkv(official), options, 1e-6, official);
    });
  }

  test("RWKV 5.1 expanded to one decay per channel", async () => {
    const { nEmbd, heads } = SIZES;
    const N = nEmbd / heads;
    const expanded = rebuild(syntheticModel("5.1"), (name, tensor) => {
      if (!/time_(decay|faaaa)$/.test(name)) return [name, tensor];
      const values = Float32Array.from({ length: nEmbd }, (_, i) => tensor.values[Math.floor(i / N)]!);
      return [name.replace("time_faaaa", "time_first"), { shape: [heads, N], values }];
    });
    expect(canonicalWeights(checkpointOf(expanded, options)).config.version).toBe("5.2");
    await expectSame("5.1", expanded, options);
  });

  test("the older converter, which left v7's factors alone", () =>
    expectSame("7", syntheticModel("7"), options));
});

describe("transformers", () => {
  const parts: Record<string, string> = {
    time_mix_k: "time_mix_key",
    time_mix_v: "time_mix_value",
    time_mix_r: "time_mix_receptance",
    time_mix_g: "time_mix_gate",
  };

  for (const version of ["4", "5.2", "6"] as const) {
    test(`RWKV ${version} under the names of its class`, () => {
      const renamed = rebuild(syntheticModel(version), (name, tensor) => {
        if (name === "head.weight") return [name, tensor];
        const last = name.slice(name.lastIndexOf(".") + 1);
        const inner = name
          .replace("emb.", "embeddings.")
          .replace("ln0", "pre_ln")
          .replace(".att.", ".attention.")
          .replace(".ffn.", ".feed_forward.")
          .replace(last, parts[last] ?? last);
        return [`rwkv.${inner}`, tensor];
      });
      return expectSame(version, renamed, { format: "safetensors" });
    });
  }

  for (const [prefix, emb] of [
    ["rwkv7.", "rwkv7.emb.weight"],
    ["rwkv7.", "rwkv7.embeddings.weight"],
    ["model.", "model.embeddings.weight"],
  ] as const) {
    test(`RWKV 7 with "${emb}" beside "head.weight"`, () => {
      const renamed = rebuild(syntheticModel("7"), (name, tensor) => {
        if (name === "head.weight") return [name, tensor];
        return [name === "emb.weight" ? emb : prefix + name, tensor];
      });
      return expectSame("7", renamed, { format: "safetensors" });
    });
  }

  test("RWKV 7 with the factors transposed under a prefix", () => {
    const renamed = rebuild(syntheticModel("7"), (name, tensor) => [
      `model.${name}`,
      LORA7.test(name) ? transpose(tensor) : tensor,
    ]);
    return expectSame("7", renamed, { format: "safetensors" });
  });

  test("RwkvForCausalLM of RWKV 7", () => {
    const renamed = rebuild(syntheticModel("7"), (name, tensor) => {
      if (/blocks\.0\.att\.v[012]/.test(name)) return null;
      const inner = name
        .replace(/^emb\./, "model.embed_tokens.")
        .replace(/^blocks\.0\.ln0/, "model.embedding_norm")
        .replace(/^ln_out/, "model.norm")
        .replace(/^head/, "lm_head")
        .replace(/^blocks/, "model.layers")
        .replace("ln1", "input_layernorm")
        .replace("ln2", "post_attention_layernorm")
        .replace("att.ln_x", "linear_attn.g_norm")
        .replace("att.receptance", "linear_attn.r_proj")
        .replace("att.key", "linear_attn.k_proj")
        .replace("att.value", "linear_attn.v_proj")
        .replace("att.output", "linear_attn.o_proj")
        .replace(".att.", ".linear_attn.")
        .replace(".ffn.", ".mlp.");
      return [inner, squeeze(tensor)];
    });
    return expectSame("7", renamed, { format: "safetensors" });
  });

  test("a first norm folded into the embedding is not applied again", async () => {
    const official = syntheticModel("7");
    const { nEmbd: C, nVocab: V } = SIZES;
    const emb = official.get("emb.weight")!.values;
    const weight = official.get("blocks.0.ln0.weight")!.values;
    const bias = official.get("blocks.0.ln0.bias")!.values;
    const folded = new Float32Array(V * C);
    for (let id = 0; id < V; id++) {
      const row = emb.subarray(id * C, (id + 1) * C);
      const mean = row.reduce((a, b) => a + b) / C;
      const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / C;
      for (let i = 0; i < C; i++) {
        folded[id * C + i] = ((row[i]! - mean) / Math.sqrt(variance + 1e-5)) * weight[i]! + bias[i]!;
      }
    }
    const renamed = rebuild(official, (name, tensor) => {
      if (name.includes("ln0")) return null;
      if (name === "head.weight") return [name, tensor];
      return [`rwkv7.${name}`, name === "emb.weight" ? { shape: [V, C], values: folded } : tensor];
    });
    const options: CheckpointOptions = { format: "safetensors" };
    expect(canonicalWeights(checkpointOf(renamed, options)).config.hasLn0).toBe(false);
    await expectSame("7", renamed, options, 5e-6);
  });
});

describe("fla", () => {
  const common = (name: string): string =>
    name
      .replace(/^emb\./, "model.embeddings.")
      .replace(/^ln_out/, "model.norm")
      .replace(/^head/, "lm_head")
      .replace(/^blocks/, "model.layers")
      .replace("ln0", "pre_norm")
      .replace("ln1", "attn_norm")
      .replace("ln2", "ffn_norm")
      .replace("att.ln_x", "attn.g_norm");

  function fla7(isFused: boolean): Model {
    const official = syntheticModel("7");
    const result = rebuild(official, (name, tensor) => {
      if (/blocks\.0\.att\.v[012]$/.test(name)) return null;
      if (isFused && /\.att\.x_[rwkvag]$/.test(name)) return null;
      const lora = /\.att\.([wavg])([012])$/.exec(name);
      const renamed = common(name)
        .replace(/att\.(r|k|v|o)[a-z]+\.weight/, "attn.$1_proj.weight")
        .replace(/att\.([wavg])1$/, "attn.$1_lora.lora.0.weight")
        .replace(/att\.([wavg])2$/, "attn.$1_lora.lora.2.weight")
        .replace(/att\.([wav])0$/, "attn.$1_lora.lora.2.bias")
        .replace(".att.", ".attn.");
      return [renamed, lora !== null && lora[2] !== "0" ? transpose(tensor) : squeeze(tensor)];
    });
    if (isFused) {
      for (let i = 0; i < SIZES.nLayer; i++) {
        const mixes = MIX7.map((q) => official.get(`blocks.${i}.att.x_${q}`)!);
        result.set(`model.layers.${i}.attn.x_x`, stack(mixes, [6, SIZES.nEmbd]));
      }
    }
    return result;
  }

  test("RWKV 7", () => expectSame("7", fla7(false), { format: "safetensors" }));
  test("early RWKV 7 with the six shift vectors in one tensor", () =>
    expectSame("7", fla7(true), { format: "safetensors" }));

  test("RWKV 6, whose five shift maps stand in another order", () => {
    const official = syntheticModel("6");
    const { nEmbd: C, nLayer } = SIZES;
    const D = SIZES.ranks6[0];
    const result = rebuild(official, (name, tensor) => {
      if (/time_maa_(w1|w2|[rwkvg])$/.test(name) && name.includes(".att.")) return null;
      const renamed = common(name)
        .replace(/att\.(r|k|v|g)[a-z]+\.weight/, "attn.$1_proj.linear.weight")
        .replace("att.output", "attn.o_proj")
        .replace("att.time_maa_x", "attn.x_proj.0.mu")
        .replace("att.time_decay_w1", "attn.w_proj.linear.lora.0.weight")
        .replace("att.time_decay_w2", "attn.w_proj.linear.lora.2.weight")
        .replace("att.time_decay", "attn.w_proj.linear.lora.2.bias")
        .replace("att.time_faaaa", "attn.bonus")
        .replace(/ffn\.time_maa_k/, "ffn.key.mu")
        .replace(/ffn\.time_maa_r/, "ffn.receptance.mu")
        .replace(/ffn\.(key|receptance)\.weight/, "ffn.$1.linear.weight");
      return [renamed, LORA6.test(name) ? transpose(tensor) : squeeze(tensor)];
    });
    for (let i = 0; i < nLayer; i++) {
      const att = `blocks.${i}.att`;
      const rows = transpose(official.get(`${att}.time_maa_w1`)!).values; // [5 D, C], order w k v r g
      const slices = official.get(`${att}.time_maa_w2`)!.values; // [5, D, C]
      const cut = (values: Float32Array, q: string): TensorValues => {
        const part = MIX6.indexOf(q);
        return { shape: [D, C], values: values.slice(part * D * C, (part + 1) * D * C) };
      };
      const order = ["r", "w", "k", "v", "g"];
      const prefix = `model.layers.${i}.attn`;
      result.set(
        `${prefix}.x_proj.0.linear.weight`,
        stack(
          order.map((q) => cut(rows, q)),
          [5 * D, C],
        ),
      );
      result.set(
        `${prefix}.x_proj.2.weight`,
        transpose(
          stack(
            order.map((q) => cut(slices, q)),
            [5 * D, C],
          ),
        ),
      );
      result.set(
        `${prefix}.x_bias`,
        stack(
          order.map((q) => official.get(`${att}.time_maa_${q}`)!),
          [5, C],
        ),
      );
    }
    return expectSame("6", result, { format: "safetensors" });
  });
});

describe("rwkv.cpp", () => {
  const options: CheckpointOptions = { format: "rwkv.cpp" };
  const applied = (raw: number): number => Math.exp(-Math.exp(raw));

  function withUnits({ values, shape }: TensorValues): TensorValues {
    return { values, shape: shape.length === 1 ? [...shape, 1, 1] : [...shape, 1] };
  }

  test("RWKV 4, whose decay is already transformed", () => {
    const model = rebuild(syntheticModel("4"), (name, tensor) => [
      name,
      name.endsWith("time_decay")
        ? map(tensor, (raw) => -Math.exp(raw))
        : name.includes(".time_")
          ? squeeze(tensor)
          : tensor,
    ]);
    return expectSame("4", model, options);
  });

  for (const version of ["5.0", "5.1", "5.2"] as const) {
    test(`RWKV ${version}, whose decay and bonus are already transformed`, () => {
      const model = rebuild(syntheticModel(version), (name, tensor) => {
        if (name.endsWith("time_decay")) return [name, withUnits(map(tensor, applied))];
        if (name.endsWith("time_first")) return [name, withUnits(map(tensor, Math.exp))];
        if (name.endsWith("time_faaaa")) return [name, withUnits(tensor)];
        return [name, name.includes(".time_") ? squeeze(tensor) : tensor];
      });
      return expectSame(version, model, options, 2e-6);
    });
  }

  test("RWKV 6, whose factors are transposed", () => {
    const { heads, nEmbd } = SIZES;
    const model = rebuild(syntheticModel("6"), (name, tensor) => {
      if (LORA6.test(name)) return [name, transpose(tensor)];
      if (/time_(decay|faaaa)$/.test(name))
        return [name, { values: tensor.values, shape: [heads, nEmbd / heads, 1] }];
      return [name, name.includes(".time_") ? squeeze(tensor) : tensor];
    });
    return expectSame("6", model, options);
  });

  test("RWKV 7, whose six shift vectors are one tensor", () => {
    const official = syntheticModel("7");
    const model = rebuild(official, (name, tensor) => {
      if (/\.att\.x_[rwkvag]$/.test(name)) return null;
      return [name, LORA7.test(name) ? transpose(tensor) : tensor];
    });
    for (let i = 0; i < SIZES.nLayer; i++) {
      const mixes = MIX7.map((q) => official.get(`blocks.${i}.att.x_${q}`)!);
      model.set(`blocks.${i}.att.x_rwkvag`, stack(mixes, [6, 1, SIZES.nEmbd]));
    }
    return expectSame("7", model, options);
  });
});

describe("GGUF", () => {
  const common = (name: string): string =>
    name
      .replace(/^emb\./, "token_embd.")
      .replace(/^blocks\.0\.ln0/, "token_embd_norm")
      .replace(/^ln_out/, "output_norm")
      .replace(/^head/, "output")
      .replace(/^blocks/, "blk")
      .replace("ln1", "attn_norm")
      .replace("ln2", "attn_norm_2")
      .replace("att.ln_x", "time_mix_ln")
      .replace(/att\.time_maa_(w[12])$/, "time_mix_$1.weight")
      .replace(/att\.time_maa_(.)$/, "time_mix_lerp_$1.weight")
      .replace(/att\.time_faaaa$/, "time_mix_first.weight")
      .replace(/att\.time_(decay.*)$/, "time_mix_$1.weight")
      .replace(/att\.([a-z]+)\.weight$/, "time_mix_$1.weight")
      .replace(/att\.([wavg][012]|k_k|k_a|r_k)$/, "time_mix_$1.weight")
      .replace(/ffn\.(time_maa|x)_(.)$/, "channel_mix_lerp_$2.weight")
      .replace("ffn.", "channel_mix_");

  function gguf6(official: Model, isFused: boolean): Model {
    const model = rebuild(official, (name, tensor) => {
      if (isFused && /\.att\.time_maa_[wkvrg]$/.test(name)) return null;
      return [
        common(name),
        LORA6.test(name) ? transpose(tensor) : name.endsWith("time_faaaa") ? tensor : squeeze(tensor),
      ];
    });
    for (let i = 0; isFused && i < SIZES.nLayer; i++) {
      const mixes = MIX6.map((q) => official.get(`blocks.${i}.att.time_maa_${q}`)!);
      model.set(`blk.${i}.time_mix_lerp_fused.weight`, stack(mixes, [5, 1, 1, SIZES.nEmbd]));
    }
    return model;
  }

  const metadata6 = new Map<string, string | number>([["general.architecture", "rwkv6"]]);

  test("RWKV 6 with one fused lerp tensor", () =>
    expectSame("6", gguf6(syntheticModel("6"), true), { format: "gguf", metadata: metadata6 }));

  test("RWKV 6 with five lerp tensors, as older converters wrote", () =>
    expectSame("6", gguf6(syntheticModel("6"), false), { format: "gguf", metadata: metadata6 }));

  test("RWKV 6 whose residual weights were divided for f16", () => {
    const metadata = new Map([...metadata6, ["rwkv6.rescale_every_n_layers", 1] as const]);
    const divided = rebuild(syntheticModel("6"), (name, tensor) => {
      const isResidual = /blocks\.1\.(att\.output|ffn\.value)\.weight/.test(name);
      return [name, isResidual ? map(tensor, (value) => value / 2) : tensor];
    });
    return expectSame("6", gguf6(divided, true), { format: "gguf", metadata });
  });

  test("RWKV 7, whose layer 0 holds copies of the rate's factors", () => {
    const official = syntheticModel("7");
    const model = rebuild(official, (name, tensor) => {
      if (/\.att\.x_[rwkvag]$/.test(name) || /blocks\.0\.att\.v[012]$/.test(name)) return null;
      if (name.endsWith("r_k")) return [common(name), { shape: [SIZES.nEmbd], values: tensor.values }];
      return [common(name), LORA7.test(name) ? transpose(tensor) : squeeze(tensor)];
    });
    for (let i = 0; i < SIZES.nLayer; i++) {
      const mixes = MIX7.map((q) => official.get(`blocks.${i}.att.x_${q}`)!);
      model.set(`blk.${i}.time_mix_lerp_fused.weight`, stack(mixes, [6, 1, 1, SIZES.nEmbd]));
    }
    for (const digit of [0, 1, 2]) {
      model.set(`blk.0.time_mix_v${digit}.weight`, model.get(`blk.0.time_mix_a${digit}.weight`)!);
    }
    const metadata = new Map<string, string | number>([
      ["general.architecture", "rwkv7"],
      ["rwkv7.wkv.head_size", SIZES.nEmbd / SIZES.heads],
    ]);
    return expectSame("7", model, { format: "gguf", metadata });
  });
});
