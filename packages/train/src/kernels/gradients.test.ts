// The backward of every kernel against central differences, operation by operation, in f64: each case says what it reads,
// how it runs forward and what its backward returns. The loss is a random sum of everything that the forward writes.

import { describe, expect, test } from "vitest";
import { Random } from "rwkv/model";
import { centralDifferences, relativeError, signed } from "../testing.ts";
import { countChunks, type TrainKernels } from "./kernels.ts";
import { referenceKernels } from "./reference/reference.ts";

const k: TrainKernels = referenceKernels("f64").open(new SharedArrayBuffer(8));

type Arrays = Readonly<Record<string, Float64Array>>;

interface Case {
  readonly name: string;
  /** Inputs by name with their length and what they are made of; each is checked. */
  readonly inputs: Readonly<Record<string, readonly [length: number, make?: (t: number) => number]>>;
  /** Outputs that the loss sees, by name with their length. */
  readonly outputs: Readonly<Record<string, number>>;
  readonly forward: (a: Arrays) => void;
  /** Adds to or sets `d<input>`; finds `d<output>` filled. */
  readonly backward: (a: Arrays) => void;
  /** Inputs that no gradient is taken of. */
  readonly constants?: readonly string[];
}

const decay = (t: number): number => 0.75 + 0.2 * t;
const unit = (t: number): number => 0.5 + 0.4 * t;
const around1 = (t: number): number => 1 + 0.3 * t;

/** Runs of 18 rows (two chunks), 1 and 4. */
const RUNS = Int32Array.from([0, 18, 19, 23]);
const ROWS = 23;
const N_RUNS = 3;
const [WIDTH, HEADS] = [6, 2];
const ALL = ROWS * WIDTH;
const STATE = (N_RUNS * WIDTH * WIDTH) / HEADS;
const CHUNKS = new Float64Array((countChunks(RUNS) * WIDTH * WIDTH) / HEADS);
const scratch = (length: number): Float64Array => new Float64Array(length);

function activation(f: Parameters<TrainKernels["activate"]>[5]): Case {
  return {
    name: `activate ${f} with a bias`,
    inputs: { x: [ALL, (t) => 3 * t], bias: [WIDTH] },
    outputs: { out: ALL },
    forward: (a) => k.activate(a["out"]!, a["x"]!, a["bias"]!, ROWS, WIDTH, f),
    backward: (a) =>
      k.activateBackward(a["dx"]!, a["dbias"]!, a["dout"]!, a["x"]!, a["out"]!, a["bias"]!, ROWS, WIDTH, f),
  };
}

function norm(groups: number): Case {
  const stats = scratch(2 * ROWS * groups);
  return {
    name: `norm over ${groups} group(s)`,
    inputs: { x: [ALL], weight: [WIDTH, around1], bias: [WIDTH] },
    outputs: { out: ALL },
    forward: (a) => k.norm(a["out"]!, stats, a["x"]!, a["weight"]!, a["bias"]!, ROWS, WIDTH, groups, 0.01),
    backward: (a) =>
      k.normBackward(
        a["dx"]!,
        a["dweight"]!,
        a["dbias"]!,
        a["dout"]!,
        a["x"]!,
        stats,
        a["weight"]!,
        ROWS,
        WIDTH,
        groups,
        0,
      ),
  };
}

const inverses = scratch(ROWS * HEADS);

function wkv6Case(isPerRow: boolean): Case {
  return {
    name: `wkv6 with a decay per ${isPerRow ? "row" : "channel"}`,
    inputs: {
      r: [ALL],
      k: [ALL],
      v: [ALL],
      decay: [isPerRow ? ALL : WIDTH, decay],
      first: [WIDTH],
      state: [STATE],
    },
    outputs: { y: ALL, after: STATE },
    forward: (a) =>
      k.wkv6(
        a["y"]!,
        a["after"]!,
        CHUNKS,
        a["r"]!,
        a["k"]!,
        a["v"]!,
        a["decay"]!,
        a["first"]!,
        a["state"]!,
        RUNS,
        WIDTH,
        HEADS,
        isPerRow,
      ),
    backward(a) {
      a["dstate"]!.set(a["dafter"]!);
      k.wkv6Backward(
        a["dr"]!,
        a["dk"]!,
        a["dv"]!,
        a["ddecay"]!,
        a["dfirst"]!,
        a["dstate"]!,
        a["dy"]!,
        a["r"]!,
        a["k"]!,
        a["v"]!,
        a["decay"]!,
        a["first"]!,
        CHUNKS,
        RUNS,
        WIDTH,
        HEADS,
        isPerRow,
        0,
      );
    },
  };
}

const CASES: readonly Case[] = [
  ...(["nt", "nn", "tn"] as const).map((form): Case => {
    const [m, n, depth] = [5, 7, 3];
    return {
      name: `gemm ${form}`,
      inputs: { a: [m * depth], b: [n * depth] },
      outputs: { c: m * n },
      forward: (a) => k.gemm(a["c"]!, a["a"]!, a["b"]!, m, n, depth, form, false),
      backward(a) {
        const [dc, left, right] = [a["dc"]!, a["a"]!, a["b"]!];
        if (form === "nt") {
          k.gemm(a["da"]!, dc, right, m, depth, n, "nn", false);
          k.gemm(a["db"]!, dc, left, n, depth, m, "tn", false);
        } else if (form === "nn") {
          k.gemm(a["da"]!, dc, right, m, depth, n, "nt", false);
          k.gemm(a["db"]!, left, dc, depth, n, m, "tn", false);
        } else {
          k.gemm(a["da"]!, right, dc, depth, m, n, "nt", false);
          k.gemm(a["db"]!, left, dc, depth, n, m, "nn", false);
        }
      },
    };
  }),
  norm(1),
  norm(HEADS),
  {
    name: "tokenShift with two mixes",
    inputs: { x: [ALL], shift: [N_RUNS * WIDTH], mix0: [WIDTH, unit], mix1: [WIDTH, unit] },
    outputs: { out0: ALL, out1: ALL, after: N_RUNS * WIDTH },
    forward: (a) =>
      k.tokenShift(
        [a["out0"]!, a["out1"]!],
        a["after"]!,
        a["x"]!,
        a["shift"]!,
        [a["mix0"]!, a["mix1"]!],
        RUNS,
        WIDTH,
      ),
    backward(a) {
      a["dshift"]!.set(a["dafter"]!);
      k.tokenShiftBackward(
        a["dx"]!,
        a["dshift"]!,
        [a["dmix0"]!, a["dmix1"]!],
        [a["dout0"]!, a["dout1"]!],
        a["x"]!,
        a["shift"]!,
        [a["mix0"]!, a["mix1"]!],
        RUNS,
        WIDTH,
        0,
      );
    },
  },
  {
    name: "shiftDelta",
    inputs: { x: [ALL], shift: [N_RUNS * WIDTH] },
    outputs: { out: ALL, after: N_RUNS * WIDTH },
    forward: (a) => k.shiftDelta(a["out"]!, a["after"]!, a["x"]!, a["shift"]!, RUNS, WIDTH),
    backward(a) {
      a["dshift"]!.set(a["dafter"]!);
      k.shiftDeltaBackward(a["dx"]!, a["dshift"]!, a["dout"]!, RUNS, WIDTH, 0);
    },
  },
  ...[WIDTH, ALL].map((bElements): Case => ({
    name: `addMul with b of ${bElements === ALL ? "rows" : "one row"}`,
    inputs: { x: [ALL], a: [ALL], b: [bElements] },
    outputs: { out: ALL },
    forward: (a) => k.addMul(a["out"]!, a["x"]!, a["a"]!, a["b"]!, ALL, bElements),
    backward(a) {
      a["dx"]!.set(a["dout"]!);
      k.addMulBackward(a["da"]!, a["db"]!, a["dout"]!, a["a"]!, a["b"]!, ALL, bElements, 0);
    },
  })),
  ...(["none", "sigmoid", "silu", "tanh", "reluSquared", "decay6", "decay7"] as const).map(activation),
  {
    name: "addScaled",
    inputs: { x: [ALL], y: [ALL] },
    outputs: { out: ALL },
    forward: (a) => k.addScaled(a["out"]!, a["x"]!, a["y"]!, 1.5, ALL),
    backward(a) {
      a["dx"]!.set(a["dout"]!);
      k.addScaled(a["dy"]!, a["dy"]!, a["dout"]!, 1.5, ALL);
    },
  },
  {
    name: "mul",
    inputs: { x: [ALL], y: [ALL] },
    outputs: { out: ALL },
    forward: (a) => k.mul(a["out"]!, a["x"]!, a["y"]!, ALL),
    backward: (a) => k.mulBackward(a["dx"]!, a["dy"]!, a["dout"]!, a["x"]!, a["y"]!, ALL, 0),
  },
  {
    name: "lerp",
    inputs: { x: [ALL], target: [ALL], weight: [ALL, unit] },
    outputs: { out: ALL },
    forward: (a) => k.lerp(a["out"]!, a["x"]!, a["target"]!, a["weight"]!, ALL),
    backward: (a) =>
      k.lerpBackward(
        a["dx"]!,
        a["dtarget"]!,
        a["dweight"]!,
        a["dout"]!,
        a["x"]!,
        a["target"]!,
        a["weight"]!,
        ALL,
        0,
      ),
  },
  // one length above, one below the floor
  ...[1e-12, 100].map((eps): Case => ({
    name: `l2NormHeads with a floor of ${eps}`,
    inputs: { x: [ALL], scale: [WIDTH, around1] },
    outputs: { out: ALL },
    forward: (a) => k.l2NormHeads(a["out"]!, inverses, a["x"]!, a["scale"]!, ROWS, WIDTH, HEADS, eps),
    backward: (a) =>
      k.l2NormHeadsBackward(
        a["dx"]!,
        a["dscale"]!,
        a["dout"]!,
        a["out"]!,
        inverses,
        a["x"]!,
        a["scale"]!,
        ROWS,
        WIDTH,
        HEADS,
        eps,
        0,
      ),
  })),
  {
    name: "scaleKey",
    inputs: { k: [ALL], a: [ALL, unit], kA: [WIDTH, around1] },
    outputs: { out: ALL },
    forward: (a) => k.scaleKey(a["out"]!, a["k"]!, a["a"]!, a["kA"]!, ROWS, WIDTH),
    backward: (a) =>
      k.scaleKeyBackward(
        a["dk"]!,
        a["da"]!,
        a["dkA"]!,
        a["dout"]!,
        a["k"]!,
        a["a"]!,
        a["kA"]!,
        ROWS,
        WIDTH,
        0,
      ),
  },
  {
    name: "addBonus",
    inputs: { y: [ALL], r: [ALL], k: [ALL], v: [ALL], rK: [WIDTH] },
    outputs: { out: ALL },
    forward: (a) => k.addBonus(a["out"]!, a["y"]!, a["r"]!, a["k"]!, a["v"]!, a["rK"]!, ROWS, WIDTH, HEADS),
    backward(a) {
      a["dy"]!.set(a["dout"]!);
      k.addBonusBackward(
        a["dr"]!,
        a["dk"]!,
        a["dv"]!,
        a["drK"]!,
        a["dout"]!,
        a["r"]!,
        a["k"]!,
        a["v"]!,
        a["rK"]!,
        ROWS,
        WIDTH,
        HEADS,
        0,
      );
    },
  },
  {
    // The true sums aa exp(pp) and bb exp(pp) are what the loss may see of the state after the rows.
    name: "wkv4",
    inputs: {
      k: [ALL, (t) => 2 * t],
      v: [ALL],
      decay: [WIDTH, (t) => -0.6 + 0.4 * t],
      first: [WIDTH],
      aa: [N_RUNS * WIDTH],
      bb: [N_RUNS * WIDTH, around1],
      pp: [N_RUNS * WIDTH],
    },
    constants: ["pp"],
    outputs: { y: ALL, sumA: N_RUNS * WIDTH, sumB: N_RUNS * WIDTH },
    forward(a) {
      const [aaAfter, bbAfter] = [a["sumA"]!, a["sumB"]!];
      k.wkv4(
        a["y"]!,
        aaAfter,
        bbAfter,
        wkv4Exponents,
        a["k"]!,
        a["v"]!,
        a["decay"]!,
        a["first"]!,
        a["aa"]!,
        a["bb"]!,
        a["pp"]!,
        RUNS,
        WIDTH,
      );
      for (const sums of [aaAfter, bbAfter]) {
        for (let i = 0; i < sums.length; i++) sums[i] = sums[i]! * Math.exp(wkv4Exponents[i]!);
      }
    },
    backward(a) {
      for (const [to, from] of [
        ["daa", "dsumA"],
        ["dbb", "dsumB"],
      ] as const) {
        for (let i = 0; i < a[to]!.length; i++) a[to]![i] = a[from]![i]! * Math.exp(wkv4Exponents[i]!);
      }
      k.wkv4Backward(
        a["dk"]!,
        a["dv"]!,
        a["ddecay"]!,
        a["dfirst"]!,
        a["daa"]!,
        a["dbb"]!,
        a["dy"]!,
        a["k"]!,
        a["v"]!,
        a["decay"]!,
        a["first"]!,
        a["aa"]!,
        a["bb"]!,
        a["pp"]!,
        RUNS,
        WIDTH,
        0,
      );
    },
  },
  wkv6Case(true),
  wkv6Case(false),
  {
    name: "wkv7",
    inputs: {
      r: [ALL],
      w: [ALL, decay],
      k: [ALL],
      v: [ALL],
      kk: [ALL, (t) => 0.6 * t],
      a: [ALL, unit],
      state: [STATE],
    },
    outputs: { y: ALL, after: STATE },
    forward: (a) =>
      k.wkv7(
        a["y"]!,
        a["after"]!,
        CHUNKS,
        a["r"]!,
        a["w"]!,
        a["k"]!,
        a["v"]!,
        a["kk"]!,
        a["a"]!,
        a["state"]!,
        RUNS,
        WIDTH,
        HEADS,
      ),
    backward(a) {
      a["dstate"]!.set(a["dafter"]!);
      k.wkv7Backward(
        a["dr"]!,
        a["dw"]!,
        a["dk"]!,
        a["dv"]!,
        a["dkk"]!,
        a["da"]!,
        a["dstate"]!,
        a["dy"]!,
        a["r"]!,
        a["w"]!,
        a["k"]!,
        a["v"]!,
        a["kk"]!,
        a["a"]!,
        CHUNKS,
        RUNS,
        WIDTH,
        HEADS,
        0,
      );
    },
  },
];

const wkv4Exponents = scratch(N_RUNS * WIDTH);

describe("backward against central differences, relative error below 1e-5", () => {
  test.each(CASES)("$name", ({ inputs, outputs, forward, backward, constants = [] }) => {
    const random = Random.fromSeed(3);
    const arrays: Record<string, Float64Array> = {};
    for (const [name, [length, make = (t: number) => t]] of Object.entries(inputs)) {
      arrays[name] = Float64Array.from({ length }, () => make(signed(random)));
      arrays[`d${name}`] = scratch(length);
    }
    for (const [name, length] of Object.entries(outputs)) {
      arrays[name] = scratch(length);
      arrays[`d${name}`] = Float64Array.from({ length }, () => signed(random));
    }
    const loss = (): number => {
      forward(arrays);
      let sum = 0;
      for (const name of Object.keys(outputs)) {
        const [values, weights] = [arrays[name]!, arrays[`d${name}`]!];
        for (let i = 0; i < values.length; i++) sum += values[i]! * weights[i]!;
      }
      return sum;
    };
    forward(arrays);
    backward(arrays);
    for (const name of Object.keys(inputs)) {
      if (constants.includes(name)) continue;
      const numeric = centralDifferences(arrays[name]!, loss);
      expect(relativeError(arrays[`d${name}`]!, numeric), `gradient of ${name}`).toBeLessThan(1e-5);
    }
  });

  test("crossEntropy, with the pull on the largest logit", () => {
    const [rows, vocab, pull] = [5, 7, 0.3];
    const random = Random.fromSeed(4);
    const logits = Float64Array.from({ length: rows * vocab }, () => 3 * signed(random));
    const targets = Int32Array.from([2, 0, -1, 6, 3]);
    const weights = Float64Array.from({ length: rows }, () => unit(signed(random)));
    const losses = scratch(rows);
    const dLogits = scratch(rows * vocab);
    k.crossEntropy(losses, dLogits, logits, targets, weights, rows, vocab, pull);
    const numeric = centralDifferences(logits, () => {
      k.crossEntropy(losses, null, logits, targets, weights, rows, vocab, pull);
      let sum = 0;
      for (let row = 0; row < rows; row++) {
        if (targets[row]! < 0) continue;
        const largest = Math.max(...logits.subarray(row * vocab, (row + 1) * vocab));
        // whose gradient is pull times the largest logit
        sum += weights[row]! * (losses[row]! + (pull * largest ** 2) / 2);
      }
      return sum;
    });
    expect(relativeError(dLogits, numeric)).toBeLessThan(1e-5);
    expect(losses[2]).toBe(0);
  });
});

describe("rules of the interface", () => {
  test("a gradient of rows is added to where its bit is set, and set where it is not", () => {
    const [x, y] = [Float64Array.from([2, 3]), Float64Array.from([5, 7])];
    const dOut = Float64Array.from([1, 10]);
    const [dx, dy] = [Float64Array.from([100, 100]), Float64Array.from([100, 100])];
    k.mulBackward(dx, dy, dOut, x, y, 2, 2);
    expect([...dx]).toEqual([5, 70]);
    expect([...dy]).toEqual([102, 130]);
  });

  test("adamw takes the step of Adam with decoupled decay and bias correction", () => {
    const weight = Float64Array.from([2]);
    const [m, v] = [Float64Array.from([0.5]), Float64Array.from([0.04])];
    const step = 3;
    k.adamw(
      weight,
      m,
      v,
      Float64Array.from([4]),
      1,
      0.1,
      0.9,
      0.99,
      1e-18,
      0.2,
      1 - 0.9 ** step,
      1 - 0.99 ** step,
      0.5,
    );
    const mean = 0.9 * 0.5 + 0.1 * 2;
    const square = 0.99 * 0.04 + 0.01 * 4;
    const want = 2 - 0.1 * (mean / (1 - 0.9 ** 3) / Math.sqrt(square / (1 - 0.99 ** 3)) + 0.2 * 2);
    expect(m[0]).toBeCloseTo(mean, 14);
    expect(v[0]).toBeCloseTo(square, 14);
    expect(weight[0]).toBeCloseTo(want, 14);
  });
});
