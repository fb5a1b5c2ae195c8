// Adapters merged while a model loads are the model whose weights were changed beforehand: the same bits of logits, in every
// layout of adapter files and from every format of model files.

import { describe, expect, test } from "vitest";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import {
  FormatError,
  ShapeError,
  UnsupportedError,
  UsageError,
} from "../../packages/rwkv/src/core/errors.ts";
import type { Checkpoint } from "../../packages/rwkv/src/formats/checkpoint.ts";
import { writeGguf } from "../../packages/rwkv/src/formats/gguf/write.ts";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import type { AdapterContents } from "../../packages/rwkv/src/model/adapter/export.ts";
import { mergeAdapter } from "../../packages/rwkv/src/model/adapter/merge.ts";
import { readAdapter } from "../../packages/rwkv/src/model/adapter/read.ts";
import { ggufMetadata, ggufTensors } from "../../packages/rwkv/src/model/export.ts";
import { adaptedFingerprint, fingerprint } from "../../packages/rwkv/src/model/fingerprint.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { readValues } from "../../packages/rwkv/src/model/values.ts";
import { canonicalWeights, type CanonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { writeAdapter, type WriteAdapterOptions } from "../../packages/rwkv/src/runtime/adapter.ts";
import { runTokens } from "./run-model.ts";
import {
  checkpointOf,
  SIZES,
  syntheticModel,
  syntheticValues,
  TOKENS,
  type SyntheticVersion,
  type TensorValues,
} from "./synthetic.ts";

type Values = Map<string, TensorValues>;

const RANK = 3;
const ALPHA = 6;
const TARGETS = ["blocks.0.att.key", "blocks.1.att.output", "blocks.1.ffn.value", "head"];

/** Low-rank factors A [rank, in] and B [out, rank] for some matrices of the model. */
function factorsOf(model: Values): { name: string; rank: number; a: Float32Array; b: Float32Array }[] {
  return TARGETS.map((name) => {
    const [nOut, nIn] = model.get(`${name}.weight`)!.shape as [number, number];
    return {
      name,
      rank: RANK,
      a: syntheticValues(`${name} a`, RANK * nIn),
      b: syntheticValues(`${name} b`, nOut * RANK),
    };
  });
}

/** The model with the adapter in its weights, summed by the definition. */
function changed(model: Values, alpha = ALPHA): Values {
  const result = new Map(model);
  for (const { name, a, b } of factorsOf(model)) {
    const { shape, values } = model.get(`${name}.weight`)!;
    const nIn = shape[1]!;
    const sum = values.map((value, e) => {
      let delta = 0;
      for (let k = 0; k < RANK; k++) delta += b[Math.floor(e / nIn) * RANK + k]! * a[k * nIn + (e % nIn)]!;
      return value + (alpha / RANK) * delta;
    });
    result.set(`${name}.weight`, { shape, values: sum });
  }
  return result;
}

const VECTOR: Readonly<Record<SyntheticVersion, string>> = {
  "4": "blocks.1.att.time_mix_k",
  "5.0": "blocks.1.att.time_decay",
  "5.1": "blocks.1.att.time_faaaa",
  "5.2": "blocks.1.att.ln_x.weight",
  "6": "blocks.1.att.time_maa_w1",
  "7": "blocks.1.att.x_r",
};

/** A tensor that the adapter has whole. */
function wholeTensor(model: Values, version: SyntheticVersion) {
  const name = VECTOR[version];
  const { shape, values } = model.get(name)!;
  return { name, shape, values: values.map((value) => 0.9 * value + 0.01) };
}

async function adapterFile(contents: AdapterContents, options: WriteAdapterOptions): Promise<Checkpoint> {
  const sink = new MemorySink();
  await writeAdapter(sink, contents, options);
  return openCheckpoint(bytesSource(sink.bytes(), `adapter.${options.format}`));
}

async function logitsOf(weights: CanonicalWeights): Promise<Float32Array> {
  const loaded = await loadProgram(createReferenceBackend(), weights, { maxRows: 8 });
  return (await runTokens(loaded, TOKENS, 8)).logits;
}

function merged(weights: CanonicalWeights, file: Checkpoint, alpha = ALPHA): CanonicalWeights {
  return mergeAdapter(weights, readAdapter(file, weights), { alpha, keepsF32: false });
}

describe.each(["4", "5.0", "5.1", "5.2", "6", "7"] as const)("RWKV %s", (version) => {
  test.each(["pth", "safetensors"] as const)(
    "an adapter written as %s, with a tensor trained whole, gives the logits of the changed model",
    async (format) => {
      const model = syntheticModel(version);
      const tensor = wholeTensor(model, version);
      const contents = { alpha: ALPHA, pairs: factorsOf(model), tensors: [tensor] };
      const file = await adapterFile(contents, { format });
      const want = changed(model).set(tensor.name, tensor);
      const weights = canonicalWeights(checkpointOf(model));
      const got = await logitsOf(merged(weights, file));
      expect(got).toEqual(await logitsOf(canonicalWeights(checkpointOf(want))));
      expect(got).not.toEqual(await logitsOf(weights));
    },
  );
});

describe("layouts of adapter files", () => {
  const model = syntheticModel("7");
  const weights = canonicalWeights(checkpointOf(model));
  const want = logitsOf(canonicalWeights(checkpointOf(changed(model))));

  /** The adapter with other names. */
  function renamed(rename: (target: string, letter: "A" | "B") => string): Checkpoint {
    const tensors: Values = new Map();
    for (const { name, rank, a, b } of factorsOf(model)) {
      tensors.set(rename(name, "A"), { shape: [rank, a.length / rank], values: a });
      tensors.set(rename(name, "B"), { shape: [b.length / rank, rank], values: b });
    }
    return checkpointOf(tensors, { name: "adapter" });
  }

  test.each<[string, (target: string, letter: "A" | "B") => string]>([
    ["of RWKV's trainers", (target, letter) => `${target}.lora_${letter}`],
    ["with .weight behind", (target, letter) => `${target}.lora_${letter}.weight`],
    ["with .weight inside", (target, letter) => `${target}.weight.lora_${letter}`],
    ["in lower case", (target, letter) => `${target}.lora_${letter.toLowerCase()}`],
    ["under a wrapper", (target, letter) => `_forward_module.model.${target}.lora_${letter}`],
    [
      "of PEFT over official names",
      (target, letter) => `base_model.model.${target}.lora_${letter}.default.weight`,
    ],
    [
      "of PEFT over transformers' names",
      (target, letter) =>
        `base_model.model.${target === "head" ? "" : "rwkv."}${target
          .replace(".att.", ".attention.")
          .replace(".ffn.", ".feed_forward.")}.lora_${letter}.weight`,
    ],
  ])("%s", async (_, rename) => {
    expect(await logitsOf(merged(weights, renamed(rename)))).toEqual(await want);
  });

  test("low-rank factors of version 6 trained whole are oriented as in official files", async () => {
    const six = syntheticModel("6");
    const names = [
      "time_maa_w1",
      "time_maa_w2",
      "time_decay_w1",
      "time_decay_w2",
      "time_maa_x",
      "time_faaaa",
    ];
    const whole = new Map(
      names.map((part): [string, TensorValues] => {
        const { shape, values } = six.get(`blocks.1.att.${part}`)!;
        return [`blocks.1.att.${part}`, { shape, values: values.map((value) => 0.5 * value) }];
      }),
    );
    const pairs = new Map<string, TensorValues>();
    for (const { name, rank, a, b } of factorsOf(six)) {
      pairs.set(`${name}.lora_A`, { shape: [rank, a.length / rank], values: a });
      pairs.set(`${name}.lora_B`, { shape: [b.length / rank, rank], values: b });
    }
    const wanted = await logitsOf(canonicalWeights(checkpointOf(new Map([...changed(six), ...whole]))));
    const base = canonicalWeights(checkpointOf(six));
    expect(await logitsOf(merged(base, checkpointOf(new Map([...pairs, ...whole]))))).toEqual(wanted);
    // web-rwkv's names of the same
    const webNames = new Map(
      [...pairs, ...whole].map(([name, tensor]) => [
        name.replace("time_faaaa", "time_first").replace("time_maa", "time_mix"),
        tensor,
      ]),
    );
    expect(await logitsOf(merged(base, checkpointOf(webNames)))).toEqual(wanted);
  });
});

describe("formats and types of model files", () => {
  const model = syntheticModel("7");

  async function pthAdapter(values = model): Promise<Checkpoint> {
    return adapterFile({ alpha: ALPHA, pairs: factorsOf(values) }, { format: "pth" });
  }

  test("merged matrices of a bf16 file are rounded to bf16 once", async () => {
    const weights = canonicalWeights(checkpointOf(model, { dtype: "bf16" }));
    const got = merged(weights, await pthAdapter());
    expect(got.tensors.get("head.weight")!.dtype).toBe("bf16");
    // the changed model, from the values that the bf16 file really holds
    const rounded: Values = new Map();
    for (const [name, { shape, values }] of model) {
      const bits = new Uint32Array(values.slice().buffer).map(
        (b) => (b + 0x7fff + ((b >>> 16) & 1)) & 0xffff0000,
      );
      rounded.set(name, { shape, values: new Float32Array(bits.buffer) });
    }
    const want = canonicalWeights(checkpointOf(changed(rounded), { dtype: "bf16" }));
    expect(await logitsOf(got)).toEqual(await logitsOf(want));
  });

  test("with an encoding asked for, the sum is what is encoded", async () => {
    const weights = canonicalWeights(checkpointOf(model, { dtype: "bf16" }));
    const adapter = readAdapter(await pthAdapter(), weights);
    const got = mergeAdapter(weights, adapter, { alpha: ALPHA, keepsF32: true });
    expect(got.tensors.get("head.weight")!.dtype).toBe("f32");
    expect(got.tensors.get("blocks.0.att.value.weight")!.dtype).toBe("bf16");
  });

  test("matrices in blocks become f16, and those of GGUF that were divided get their share divided", async () => {
    const six = syntheticModel("6", { ...SIZES, nEmbd: 64, nFfn: 96 });
    const source = canonicalWeights(checkpointOf(six));
    const sink = new MemorySink();
    await writeGguf(sink, ggufTensors(source, "q8_0"), ggufMetadata(source, "q8_0"));
    const weights = canonicalWeights(await openCheckpoint(bytesSource(sink.bytes(), "q8_0.gguf")));
    const file = await pthAdapter(six);
    const got = merged(weights, file);
    expect(got.tensors.get("head.weight")!.dtype).toBe("f16");
    expect(got.tensors.get("blocks.1.att.key.weight")!.dtype).toBe("q8_0");
    const plain = await logitsOf(canonicalWeights(checkpointOf(changed(six))));
    const difference = Math.max(...(await logitsOf(got)).map((value, i) => Math.abs(value - plain[i]!)));
    // 8-bit weights of size 0.5, rows of 64: about 0.02; without the adapter logits differ by more than 1
    expect(difference).toBeLessThan(0.3);
    const divided = merged({ ...weights, rescaleEveryNLayers: 1 }, file);
    const [whole, half] = [got, divided].map(({ tensors }) => tensors.get("blocks.1.att.output.weight")!);
    const [base] = [weights.tensors.get("blocks.1.att.output.weight")!];
    const [w, h, b] = [await readValues(whole!), await readValues(half!), await readValues(base)];
    for (let i = 0; i < w.length; i++) expect(h[i]! - b[i]!).toBeCloseTo((w[i]! - b[i]!) / 2, 2);
  });
});

describe("fingerprints", () => {
  const model = syntheticModel("7");
  const weights = canonicalWeights(checkpointOf(model));
  const contents = { alpha: ALPHA, pairs: factorsOf(model) };
  const of = async (options: WriteAdapterOptions, alpha = ALPHA): Promise<string> => {
    const adapter = readAdapter(await adapterFile(contents, options), weights);
    const changedWeights = mergeAdapter(weights, adapter, { alpha, keepsF32: false });
    return adaptedFingerprint(await fingerprint(changedWeights), adapter, alpha);
  };

  test("a merged model has one of its own, whatever file the adapter came from", async () => {
    const pth = await of({ format: "pth" });
    expect(pth).toMatch(/^[0-9a-f]{64}$/);
    expect(pth).not.toBe(await fingerprint(weights));
    expect(await of({ format: "safetensors" })).toBe(pth);
    expect(await of({ format: "pth" }, 7)).not.toBe(pth);
    expect(await of({ format: "pth", dtype: "bf16" })).not.toBe(pth);
  });
});

describe("what is refused", () => {
  const model = syntheticModel("7");
  const weights = canonicalWeights(checkpointOf(model));

  function reading(entries: readonly [string, number[]][], options: Parameters<typeof checkpointOf>[1] = {}) {
    const tensors = entries.map(([name, shape]): [string, TensorValues] => [
      name,
      { shape, values: new Float32Array(shape.reduce((product, n) => product * n, 1)) },
    ]);
    return () => readAdapter(checkpointOf(new Map(tensors), { name: "adapter.pth", ...options }), weights);
  }
  const KEY: [string, number[]][] = [
    ["blocks.0.att.key.lora_A", [4, 16]],
    ["blocks.0.att.key.lora_B", [16, 4]],
  ];

  test.each<[string, readonly [string, number[]][], RegExp]>([
    ["half a pair", KEY.slice(0, 1), /"blocks.0.att.key.lora_A" is half of a low-rank pair/],
    [
      "ranks that differ",
      [KEY[0]!, ["blocks.0.att.key.lora_B", [16, 5]]],
      /rank 4 in "blocks.0.att.key.lora_A" and rank 5 in "blocks.0.att.key.lora_B"/,
    ],
    [
      "another width",
      [["blocks.0.att.key.lora_A", [4, 32]], KEY[1]!],
      /makes a matrix of \[16, 32\], but the model's is \[16, 16\]/,
    ],
    [
      "a layer that the model lacks",
      [
        ["blocks.7.att.key.lora_A", [4, 16]],
        ["blocks.7.att.key.lora_B", [16, 4]],
      ],
      /is for "blocks.7.att.key.weight", which synthetic \(RWKV 7, 2 layers\) does not have/,
    ],
    [
      "a pair for a vector",
      [
        ["blocks.0.ln1.lora_A", [4, 16]],
        ["blocks.0.ln1.lora_B", [16, 4]],
      ],
      /"blocks.0.ln1.weight", which is no matrix of full rank/,
    ],
    ["a whole tensor of another shape", [...KEY, ["ln_out.weight", [17]]], /"ln_out.weight".*shape \[17\]/],
    [
      "a whole tensor that is none",
      [...KEY, ["blocks.0.att.time_faaaa", [2, 8]]],
      /which synthetic .* does not have/,
    ],
    ["a pair and the whole of it", [...KEY, ["blocks.0.att.key.weight", [16, 16]]], /both a low-rank pair/],
    ["two of a kind", [...KEY, ["blocks.0.att.key.lora_A.weight", [4, 16]]], /second of its kind/],
    ["factors that are no matrices", [["blocks.0.att.key.lora_A", [4, 2, 8]], KEY[1]!], /should be a matrix/],
    [
      "factors of rank 0",
      [
        ["blocks.0.att.key.lora_A", [0, 16]],
        ["blocks.0.att.key.lora_B", [16, 0]],
      ],
      /should be a matrix/,
    ],
    ["no pair at all", [["ln_out.weight", [16]]], /none of the 1 tensors is half of a low-rank pair/],
  ])("%s", (_, entries, message) => {
    expect(reading(entries)).toThrow(FormatError);
    expect(reading(entries)).toThrow(message);
  });

  test.each([
    "blocks.0.att.key.disha",
    "blocks.0.att.key.init_lora_A",
    "a.lora_magnitude_vector",
    "emb.lora_embedding_A",
  ])("an adapter of another kind, %s", (name) => {
    expect(reading([[name, [4, 16]]])).toThrow(UnsupportedError);
  });

  test("an adapter in another container", () => {
    expect(reading(KEY, { format: "gguf" })).toThrow(UnsupportedError);
    expect(reading(KEY, { format: "gguf" })).toThrow(/is a gguf file; adapters are read from/);
  });

  test("an alpha that is no number", () => {
    const metadata = new Map([["rwkv.loraAlpha", "many"]]);
    expect(reading(KEY, { format: "safetensors", metadata })).toThrow(
      /"rwkv.loraAlpha" should be a number, but is "many"/,
    );
  });

  test("factors that are not finite, when they are read", async () => {
    const pairs: Values = new Map();
    for (const { name, a, b } of factorsOf(model)) {
      pairs.set(`${name}.lora_A`, { shape: [RANK, a.length / RANK], values: a.map(() => NaN) });
      pairs.set(`${name}.lora_B`, { shape: [b.length / RANK, RANK], values: b });
    }
    const weightsOf = merged(weights, checkpointOf(pairs));
    await expect(logitsOf(weightsOf)).rejects.toThrow(FormatError);
    await expect(logitsOf(weightsOf)).rejects.toThrow(/holds NaN. The training diverged/);
  });

  test("to write what no adapter is", async () => {
    const [pair] = factorsOf(model);
    const writing = (contents: AdapterContents, dtype?: "f16") =>
      writeAdapter(new MemorySink(), contents, { format: "pth", dtype });
    await expect(writing({ alpha: 1, pairs: [] })).rejects.toThrow(UsageError);
    await expect(writing({ alpha: NaN, pairs: [pair!] })).rejects.toThrow(/alpha is NaN/);
    await expect(writing({ alpha: 1, pairs: [{ ...pair!, rank: 0 }] })).rejects.toThrow(/rank 0/);
    await expect(writing({ alpha: 1, pairs: [{ ...pair!, a: new Float32Array(7) }] })).rejects.toThrow(
      ShapeError,
    );
    await expect(writing({ alpha: 1, pairs: [{ ...pair!, a: pair!.a.map(() => NaN) }] })).rejects.toThrow(
      /holds NaN/,
    );
    await expect(
      writing({ alpha: 1, pairs: [{ ...pair!, a: pair!.a.map(() => 1e6) }] }, "f16"),
    ).rejects.toThrow(/which f16 cannot/);
  });
});
