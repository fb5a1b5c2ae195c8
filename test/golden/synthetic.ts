// Tiny models of every version whose weights come from a hash, so that tests need no files, and their published logits
// and states. Weights: FNV-1a of the name, mixed with the element's index; values checked against two independent
// implementations and the official one-token functions.

import { encodeFromF32 } from "../../packages/rwkv/src/core/decode.ts";
import type {
  Checkpoint,
  CheckpointFormat,
  CheckpointTensor,
} from "../../packages/rwkv/src/formats/checkpoint.ts";

export type SyntheticVersion = "4" | "5.0" | "5.1" | "5.2" | "6" | "7";

export interface SyntheticSizes {
  readonly nLayer: number;
  readonly nVocab: number;
  readonly nEmbd: number;
  readonly heads: number;
  readonly nFfn: number;
  /** v6: of the token shift and the decay. */
  readonly ranks6: readonly [number, number];
  /** v7: decay, rate, value, gate. */
  readonly ranks7: readonly [number, number, number, number];
}

/** Those of the published vectors. */
export const SIZES: SyntheticSizes = {
  nLayer: 2,
  nVocab: 12,
  nEmbd: 16,
  heads: 2,
  nFfn: 32,
  ranks6: [4, 6],
  ranks7: [4, 5, 3, 6],
};

/** Wide enough for blocks of 64 inputs and for panels. */
export const WIDE_SIZES: SyntheticSizes = { ...SIZES, nVocab: 20, nEmbd: 64, nFfn: 128 };

export const TOKENS: readonly number[] = [1, 5, 3, 9];

/** Value of element `e` of the tensor `name`. */
export function syntheticValues(name: string, nElements: number): Float32Array {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) h = Math.imul(h ^ byte, 0x01000193) >>> 0;
  const values = new Float32Array(nElements);
  for (let e = 0; e < nElements; e++) {
    let s = (h + Math.imul(e, 0x9e3779b1)) >>> 0;
    s = Math.imul(s ^ (s >>> 16), 0x85ebca6b) >>> 0;
    s = Math.imul(s ^ (s >>> 13), 0xc2b2ae35) >>> 0;
    s = (s ^ (s >>> 16)) >>> 0;
    const t = 2 * (s / 4294967296) - 1;
    if (/(ln[012]|ln_out|ln_x)\.weight$|\.k_k$|\.k_a$/.test(name)) values[e] = 1 + 0.2 * t;
    else if (/time_mix_[kvrg]$|time_maa_[xwkvrg]$|\.x_[rwkvag]$/.test(name)) values[e] = 0.5 + 0.5 * t;
    else if (/\.(time_decay|w0)$/.test(name)) values[e] = -1 + 2 * t;
    else values[e] = 0.5 * t;
  }
  return values;
}

/** Names and shapes of the official file. */
export function officialShapes(
  version: SyntheticVersion,
  { nLayer, nVocab, nEmbd: C, heads: H, nFfn: F, ranks6, ranks7 }: SyntheticSizes = SIZES,
): Map<string, number[]> {
  const N = C / H;
  const shapes = new Map<string, number[]>();
  const norm = (name: string): void => {
    shapes.set(`${name}.weight`, [C]);
    shapes.set(`${name}.bias`, [C]);
  };
  shapes.set("emb.weight", [nVocab, C]);
  for (let i = 0; i < nLayer; i++) {
    const att = `blocks.${i}.att`;
    const ffn = `blocks.${i}.ffn`;
    if (i === 0) norm("blocks.0.ln0");
    norm(`blocks.${i}.ln1`);
    norm(`blocks.${i}.ln2`);
    const mixes = (prefix: string, letters: string): void => {
      for (const letter of letters) shapes.set(`${prefix}_${letter}`, [1, 1, C]);
    };
    for (const name of ["receptance", "key", "value", "output"]) shapes.set(`${att}.${name}.weight`, [C, C]);
    shapes.set(`${ffn}.key.weight`, [F, C]);
    shapes.set(`${ffn}.value.weight`, [C, F]);
    if (version !== "4") norm(`${att}.ln_x`);
    if (version !== "7") shapes.set(`${ffn}.receptance.weight`, [C, C]);
    if (version === "4" || version.startsWith("5")) {
      mixes(`${att}.time_mix`, version === "4" || version === "5.0" ? "kvr" : "kvrg");
      mixes(`${ffn}.time_mix`, "kr");
    }
    if (version === "4") {
      shapes.set(`${att}.time_decay`, [C]);
      shapes.set(`${att}.time_first`, [C]);
    } else if (version === "7") {
      mixes(`${att}.x`, "rwkvag");
      mixes(`${ffn}.x`, "k");
      ["w", "a", "v", "g"].forEach((letter, q) => {
        if (letter !== "g") shapes.set(`${att}.${letter}0`, [1, 1, C]);
        shapes.set(`${att}.${letter}1`, [C, ranks7[q]!]);
        shapes.set(`${att}.${letter}2`, [ranks7[q]!, C]);
      });
      shapes.set(`${att}.k_k`, [1, 1, C]);
      shapes.set(`${att}.k_a`, [1, 1, C]);
      shapes.set(`${att}.r_k`, [H, N]);
    } else if (version === "6") {
      const [D, Dd] = ranks6;
      mixes(`${att}.time_maa`, "xwkvrg");
      mixes(`${ffn}.time_maa`, "kr");
      shapes.set(`${att}.time_maa_w1`, [C, 5 * D]);
      shapes.set(`${att}.time_maa_w2`, [5, D, C]);
      shapes.set(`${att}.time_decay`, [1, 1, C]);
      shapes.set(`${att}.time_decay_w1`, [C, Dd]);
      shapes.set(`${att}.time_decay_w2`, [Dd, C]);
      shapes.set(`${att}.time_faaaa`, [H, N]);
      shapes.set(`${att}.gate.weight`, [C, C]);
    } else {
      const perHead = version === "5.2" ? [H, N] : [H];
      shapes.set(`${att}.time_decay`, perHead);
      shapes.set(`${att}.${version === "5.0" ? "time_first" : "time_faaaa"}`, perHead);
      if (version !== "5.0") shapes.set(`${att}.gate.weight`, [C, C]);
    }
  }
  norm("ln_out");
  shapes.set("head.weight", [nVocab, C]);
  return shapes;
}

/** A tensor in memory. */
export interface TensorValues {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** The official model as values, for tests to rename and rearrange. */
export function syntheticModel(
  version: SyntheticVersion,
  sizes: SyntheticSizes = SIZES,
): Map<string, TensorValues> {
  const model = new Map<string, TensorValues>();
  for (const [name, shape] of officialShapes(version, sizes)) {
    model.set(name, {
      shape,
      values: syntheticValues(
        name,
        shape.reduce((a, b) => a * b, 1),
      ),
    });
  }
  return model;
}

/** Adds the tuned initial state of the published "+state" vectors. */
export function addTimeState(
  model: Map<string, TensorValues>,
  { nLayer, nEmbd, heads }: SyntheticSizes = SIZES,
): void {
  for (let i = 0; i < nLayer; i++) {
    const name = `blocks.${i}.att.time_state`;
    const shape = [heads, nEmbd / heads, nEmbd / heads];
    model.set(name, {
      shape,
      values: syntheticValues(
        name,
        shape.reduce((a, b) => a * b, 1),
      ),
    });
  }
}

export interface CheckpointOptions {
  readonly format?: CheckpointFormat;
  readonly name?: string;
  readonly dtype?: "f32" | "f16" | "bf16";
  readonly metadata?: Checkpoint["metadata"];
}

/** A checkpoint in memory, as a reader would return it. */
export function checkpointOf(
  model: ReadonlyMap<string, TensorValues>,
  options: CheckpointOptions = {},
): Checkpoint {
  const { format = "pth", name = "synthetic", dtype = "f32", metadata = new Map() } = options;
  const tensors = new Map<string, CheckpointTensor>();
  for (const [tensorName, { shape, values }] of model) {
    const byteLength = values.length * (dtype === "f32" ? 4 : 2);
    const bytes = new Uint8Array(byteLength);
    encodeFromF32(dtype, values, bytes);
    tensors.set(tensorName, {
      name: tensorName,
      dtype,
      shape,
      byteLength,
      read(target) {
        target.set(bytes);
        return Promise.resolve();
      },
    });
  }
  return { format, name, formatVersion: null, tensors, metadata, close: () => Promise.resolve() };
}

/** Published logits: the first four after the first token, all after the four tokens. */
export const LOGITS: Readonly<
  Record<string, { readonly first: readonly number[]; readonly last: readonly number[] }>
> = {
  "4": {
    first: [-1.869426, 0.254493, -0.66167, -1.445083],
    last: [
      0.664312, 1.438768, 0.164661, -0.339436, 0.565893, 1.440861, 1.141168, 2.323955, 0.256294, 1.682009,
      -1.288215, 1.617494,
    ],
  },
  "5.0": {
    first: [0.02289, 0.637365, -1.017639, -0.034554],
    last: [
      1.027433, 0.601398, 0.341439, -0.132329, -1.341163, 1.883009, 1.437652, 2.39132, 1.548091, 0.966507,
      1.403085, 1.488001,
    ],
  },
  "5.1": {
    first: [-2.88728, -0.349371, -0.536831, -0.767855],
    last: [
      1.384278, 1.233374, -0.341051, -0.01648, 0.151739, 0.938029, 1.096062, 2.352921, -1.260887, 0.807934,
      -1.388073, 1.953214,
    ],
  },
  "5.2": {
    first: [-2.14553, -0.245961, -0.27116, -1.430143],
    last: [
      1.055551, 1.340087, -0.183264, 0.045068, 0.200842, 0.732256, 0.604391, 2.116093, -1.71912, -0.140411,
      -1.454426, 1.856226,
    ],
  },
  "6": {
    first: [-1.731727, -0.437072, -0.772328, -0.75616],
    last: [
      -0.872403, 0.048697, -0.144562, 2.464738, -0.149749, -0.750056, 1.800747, 0.329541, -2.233206, 0.877422,
      -0.385323, 1.404366,
    ],
  },
  "6+state": {
    first: [],
    last: [
      -0.813626, -0.007737, 0.391247, 1.600781, 0.073494, 0.446747, 2.08891, 1.368318, -1.146272, 1.184908,
      0.270001, 1.574468,
    ],
  },
  "7": {
    first: [-1.636557, 0.158441, -0.401181, -1.838172],
    last: [
      -1.129291, 0.753984, -0.357007, 1.3506, -0.729519, -0.040299, 1.108472, 1.910291, -1.10527, 1.111957,
      -0.87553, 1.669148,
    ],
  },
  "7+state": {
    first: [],
    last: [
      -1.026492, 0.799097, -0.411181, 1.258582, -0.723296, 0.10887, 1.05065, 1.986777, -1.095515, 1.118661,
      -0.948971, 1.72517,
    ],
  },
};

/** Published states after the four tokens, layer 1: shifts, then wkv[1][0][0..2] and wkv[1][0..2][0]. */
export const STATES: Readonly<
  Record<
    string,
    {
      readonly att: readonly number[];
      readonly ffn: readonly number[];
      readonly row: readonly number[];
      readonly column: readonly number[];
    }
  >
> = {
  "5.0": {
    att: [0.535688, 0.073725],
    ffn: [0.397752, 0.042689],
    row: [-0.157947, -0.11519, 0.257621],
    column: [-0.157947, -3.445768, -2.430662],
  },
  "5.1": {
    att: [-0.28756, 0.376002],
    ffn: [0.334799, -0.644216],
    row: [-0.945965, 1.384611, 0.943778],
    column: [-0.945965, -3.172214, -2.080837],
  },
  "5.2": {
    att: [0.357354, -0.292923],
    ffn: [0.798489, -1.20832],
    row: [-1.373146, 1.570455, 1.02295],
    column: [-1.373146, -4.930743, -1.59491],
  },
  "6": {
    att: [-0.563202, 0.255996],
    ffn: [0.147512, 0.129392],
    row: [0.530209, -1.52376, -1.765367],
    column: [0.530209, -0.360688, -0.79411],
  },
  "6+state": {
    att: [-0.951439, 0.779377],
    ffn: [-0.046812, 1.00224],
    row: [0.481792, -0.626368, -0.866719],
    column: [0.481792, 1.00862, -0.838612],
  },
  "7": {
    att: [0.493383, 0.81865],
    ffn: [1.454407, 0.152367],
    row: [-0.102482, -0.348558, -0.35114],
    column: [-0.102482, 0.107509, -0.044232],
  },
  "7+state": {
    att: [0.443525, 0.716068],
    ffn: [1.312509, 0.109793],
    row: [-0.099172, -0.31016, -0.336666],
    column: [-0.099172, 0.467435, -0.365226],
  },
};

/** v4, layer 1, channels 0 and 1. */
export const STATE4 = {
  attShift: [0.005374, 0.625528],
  ffnShift: [0.990296, 0.483728],
  aa: [-1.967017, -1.137307],
  bb: [2.060088, 2.371446],
  pp: [1.13251, 0.825471],
} as const;
