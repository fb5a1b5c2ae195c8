// Fresh weights of a RWKV-7 model, as the routine of the official trainer writes them (BlinkDL/RWKV-LM,
// RWKV-v7/train_temp/src/model.py). Drawn tensor by tensor from one seeded generator, in f64.

import { UnsupportedError } from "rwkv";
import { Random, weightRules, type ModelConfig, type WeightRule } from "rwkv/model";

/**
 * @param seed - a whole number; the same one gives the same weights
 * @returns by official name, in the shape of the weight's rule (`[out, in]`)
 * @throws UnsupportedError for versions other than 7
 */
export function freshWeights(config: ModelConfig, seed: number): Map<string, Float64Array> {
  if (config.version !== "7") {
    throw new UnsupportedError(
      `Fresh weights are made for RWKV-7 only, not for ${config.version}: give a model file to train further.`,
    );
  }
  const random = Random.fromSeed(seed);
  return new Map(weightRules(config).map((rule) => [rule.name, freshWeight(rule, config, random)]));
}

function freshWeight(rule: WeightRule, config: ModelConfig, random: Random): Float64Array {
  const { name, kind, shape } = rule;
  const { nEmbd, nVocab } = config;
  const [nOut, nIn] = shape as readonly [number, number];
  if (kind === "vector") return freshVector(name, shape[0]!, config);
  if (name === "emb.weight") {
    return Float64Array.from({ length: nOut * nIn }, () => 1e-4 * (2 * random.nextUnit() - 1));
  }
  if (name === "head.weight") {
    return orthogonal(nOut, nIn, nVocab > nEmbd ? 0.5 * Math.sqrt(nVocab / nEmbd) : 0.5, random);
  }
  if (kind === "loraDown" || name.endsWith(".att.output.weight") || name.endsWith(".ffn.value.weight")) {
    return new Float64Array(nOut * nIn);
  }
  // The files hold [rank, out], and the gain grows with the root of rows by columns of that, if it is above 1.
  if (kind === "loraUp") return orthogonal(nOut, nIn, 0.1 * Math.max(1, Math.sqrt(nIn / nOut)), random);
  return orthogonal(nOut, nIn, name.endsWith(".att.key.weight") ? 0.1 : 1, random);
}

function freshVector(name: string, n: number, { nLayer, headSize }: ModelConfig): Float64Array {
  const [, block = "0", part = name] = /^blocks\.(\d+)\.(.*)$/.exec(name) ?? [];
  const layer = Number(block);
  const N = headSize!;
  const r01 = nLayer > 1 ? layer / (nLayer - 1) : 0;
  const r10 = 1 - layer / nLayer;
  const each = (f: (c: number) => number): Float64Array => Float64Array.from({ length: n }, (_, c) => f(c));
  const lin = (c: number): number => c / (n - 1) - 0.5;
  const zig = (c: number): number => {
    const z = ((c % N) - (N - 1) / 2) / ((N - 1) / 2);
    return z * Math.abs(z);
  };
  const share = (power: number): Float64Array => each((c) => 1 - (c / n) ** power);
  switch (part) {
    case "att.x_r":
    case "att.x_g":
      return share(0.2 * r10);
    case "att.x_w":
    case "att.x_a":
      return share(0.9 * r10);
    case "att.x_k":
    case "att.x_v":
      return share(0.7 * r10);
    case "ffn.x_k":
      return share(r10 ** 4);
    case "att.w0":
      return each((c) => -6 + 6 * (c / (n - 1)) ** (1 + r01 ** 0.3) + 0.5 + 2.5 * zig(c));
    case "att.a0":
      return each((c) => -0.19 + 0.3 * zig(c) + 0.4 * lin(c));
    case "att.v0":
      return each((c) => 0.73 - 0.4 * lin(c));
    case "att.k_k":
      return each((c) => 0.71 - 0.1 * lin(c));
    case "att.k_a":
      return each(() => 1.02);
    case "att.r_k":
      return each(() => -0.04);
    case "att.ln_x.weight":
      return each(() => ((1 + layer) / nLayer) ** 0.7);
    default: // norms
      return each(() => (part.endsWith(".weight") ? 1 : 0));
  }
}

/** `[rows, columns]`: a random matrix whose shorter side's vectors are orthogonal and of length `gain`. */
function orthogonal(rows: number, columns: number, gain: number, random: Random): Float64Array {
  const length = Math.max(rows, columns);
  const count = Math.min(rows, columns);
  const vectors: Float64Array[] = [];
  for (let i = 0; i < count; i++) {
    const vector = Float64Array.from({ length }, () => gaussian(random));
    // twice, since one pass of Gram-Schmidt leaves rounding errors that grow with the number of vectors
    for (let pass = 0; pass < 2; pass++) {
      for (const other of vectors) {
        let dot = 0;
        for (let j = 0; j < length; j++) dot += vector[j]! * other[j]!;
        for (let j = 0; j < length; j++) vector[j] = vector[j]! - dot * other[j]!;
      }
    }
    const norm = Math.hypot(...vector);
    for (let j = 0; j < length; j++) vector[j] = vector[j]! / norm;
    vectors.push(vector);
  }
  const result = new Float64Array(rows * columns);
  for (const [i, vector] of vectors.entries()) {
    for (let j = 0; j < length; j++) {
      result[rows >= columns ? j * columns + i : i * columns + j] = gain * vector[j]!;
    }
  }
  return result;
}

/** A draw from the normal distribution, by Box and Muller. */
function gaussian(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.nextUnit())) * Math.cos(2 * Math.PI * random.nextUnit());
}
