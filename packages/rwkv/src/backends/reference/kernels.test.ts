import { describe, expect, test } from "vitest";
import { createOps } from "../../ops/create-ops.ts";
import type { Activation, Ops } from "../../ops/ops.ts";
import type { Tensor, TensorKind } from "../../ops/tensor.ts";
import { ACTIVATIONS } from "./elementwise.ts";
import { compute } from "./kernels.ts";
import type { RunRows, StepData } from "./step-data.ts";

/** A step over f64 values in which every tensor is at hand; states are kept per run. */
class Bench {
  readonly #values = new Map<Tensor, Float64Array>();
  readonly #states = new Map<Tensor, Float64Array[]>();
  readonly #runs: readonly RunRows[];
  readonly #logitRows: readonly number[];

  constructor(runs: readonly number[] = [1], logitRows: readonly number[] = []) {
    let start = 0;
    this.#runs = runs.map((nRows, slot) => ({ slot, start, end: (start += nRows) }));
    this.#logitRows = logitRows;
  }

  #declare(kind: TensorKind, rows: Tensor["rows"], name: string, shape: readonly number[]): Tensor {
    return { index: this.#values.size + this.#states.size, kind, rows, name, shape, dtype: "f32" };
  }

  /** Rows of `width`, filled with NaN where no values are given. */
  rows(name: string, width: number, values?: readonly number[], kind: "token" | "logit" = "token"): Tensor {
    const nRows = kind === "logit" ? this.#logitRows.length : this.#runs.at(-1)!.end;
    const tensor = this.#declare("scratch", kind, name, [width]);
    this.#values.set(tensor, Float64Array.from(values ?? new Array<number>(nRows * width).fill(NaN)));
    return tensor;
  }

  weight(name: string, shape: readonly number[], values: readonly number[]): Tensor {
    const tensor = this.#declare("weight", "none", name, shape);
    this.#values.set(tensor, Float64Array.from(values));
    return tensor;
  }

  /** The same values for each run. */
  state(name: string, shape: readonly number[], values: readonly number[]): Tensor {
    const tensor = this.#declare("state", "none", name, shape);
    this.#states.set(
      tensor,
      this.#runs.map(() => Float64Array.from(values)),
    );
    return tensor;
  }

  get ops(): Ops {
    const step: StepData = {
      values: (tensor) => this.#values.get(tensor)!,
      state: (tensor, run) => this.#states.get(tensor)![run.slot]!,
      runs: this.#runs,
      logitRows: this.#logitRows,
    };
    return createOps((call) => {
      compute(step, call);
    });
  }

  read(tensor: Tensor, run = 0): number[] {
    return [...(this.#values.get(tensor) ?? this.#states.get(tensor)![run]!)];
  }
}

function expectClose(got: readonly number[], want: readonly number[]): void {
  expect(got.length).toBe(want.length);
  want.forEach((value, i) => {
    expect(got[i]).toBeCloseTo(value, 12);
  });
}

describe("norms", () => {
  test("layerNorm divides by the biased deviation, eps inside the root, then weight and bias", () => {
    const bench = new Bench([2]);
    const x = bench.rows("x", 2, [1, 3, 10, 10]);
    const norm = { weight: bench.weight("w", [2], [2, 3]), bias: bench.weight("b", [2], [10, 20]) };
    bench.ops.layerNorm(x, x, norm, 3);
    expect(bench.read(x)).toEqual([9, 21.5, 10, 20]);
  });

  test("groupNorm normalises each head on its own, weight and bias per channel", () => {
    const bench = new Bench();
    const x = bench.rows("x", 4, [1, 3, 10, 30]);
    const out = bench.rows("out", 4);
    const norm = {
      weight: bench.weight("w", [4], [1, 2, 3, 4]),
      bias: bench.weight("b", [4], [0, 0, 0, 1]),
    };
    bench.ops.groupNorm(out, x, norm, 2, 0);
    expect(bench.read(out)).toEqual([-1, 2, -3, 5]);
  });

  test("groupNorm of a constant head is exactly the bias", () => {
    const bench = new Bench();
    const bias = Array.from({ length: 128 }, (_, i) => Math.fround(i / 7));
    const y = bench.rows("y", 128, new Array<number>(128).fill(Math.fround(0.7)));
    const norm = {
      weight: bench.weight("w", [128], new Array<number>(128).fill(1.5)),
      bias: bench.weight("b", [128], bias),
    };
    bench.ops.groupNorm(y, y, norm, 2, 64e-5);
    expect(bench.read(y)).toEqual(bias);
  });

  test("l2NormHeads gives each head length 1, a zero head zeros, and divides by eps at least", () => {
    const bench = new Bench();
    const x = bench.rows("x", 6, [3, 2, 0, 0, 0.5e-12, 0]);
    const out = bench.rows("out", 6);
    bench.ops.l2NormHeads(out, x, bench.weight("scale", [6], [1, 2, 1, 1, 1, 1]), 3, 1e-12);
    expectClose(bench.read(out), [0.6, 0.8, 0, 0, 0.5, 0]);
  });
});

describe("rows", () => {
  test("tokenShift mixes in the row before, the state before the first row of a run, and keeps the last", () => {
    const bench = new Bench([2, 1]);
    const x = bench.rows("x", 1, [1, 2, 5]);
    const outs = [bench.rows("out", 1), bench.rows("out2", 1)];
    const shift = bench.state("shift", [1], [10]);
    bench.ops.tokenShift(outs, x, shift, [bench.weight("m", [1], [0.25]), bench.weight("n", [1], [1])]);
    expect(bench.read(outs[0]!)).toEqual([3.25, 1.75, 6.25]);
    expect(bench.read(outs[1]!)).toEqual([10, 1, 10]);
    expect([bench.read(shift, 0), bench.read(shift, 1)]).toEqual([[2], [5]]);
  });

  test("shiftDelta is the row before less the row", () => {
    const bench = new Bench([2, 1]);
    const x = bench.rows("x", 2, [1, 1, 2, 4, 5, 6]);
    const out = bench.rows("out", 2);
    const shift = bench.state("shift", [2], [10, 20]);
    bench.ops.shiftDelta(out, x, shift);
    expect(bench.read(out)).toEqual([9, 19, -1, -3, 5, 14]);
    expect([bench.read(shift, 0), bench.read(shift, 1)]).toEqual([
      [2, 4],
      [5, 6],
    ]);
  });

  test("selectRows closes up the wanted rows", () => {
    const bench = new Bench([4], [1, 3]);
    const x = bench.rows("x", 2, [0, 1, 2, 3, 4, 5, 6, 7]);
    const out = bench.rows("out", 2, undefined, "logit");
    bench.ops.selectRows(out, x);
    expect(bench.read(out)).toEqual([2, 3, 6, 7]);
  });
});

describe("element-wise", () => {
  test("addMul takes b from a row or from a weight", () => {
    const bench = new Bench([2]);
    const [x, a] = [bench.rows("x", 2, [1, 2, 3, 4]), bench.rows("a", 2, [1, 1, 2, 2])];
    const out = bench.rows("out", 2);
    bench.ops.addMul(out, x, a, bench.weight("b", [2], [10, 100]));
    expect(bench.read(out)).toEqual([11, 102, 23, 204]);
    bench.ops.addMul(a, x, a, bench.rows("b", 2, [1, 2, 3, 4]));
    expect(bench.read(a)).toEqual([2, 4, 9, 12]);
  });

  test("add, mul, lerp and copy follow their formulas", () => {
    const bench = new Bench();
    const [x, y, half] = [
      bench.rows("x", 2, [1, 2]),
      bench.rows("y", 2, [5, 6]),
      bench.rows("w", 2, [0.5, 1]),
    ];
    bench.ops.add(x, y, 4);
    expect(bench.read(x)).toEqual([21, 26]);
    bench.ops.mul(x, y);
    expect(bench.read(x)).toEqual([105, 156]);
    bench.ops.lerp(x, y, half);
    expect(bench.read(x)).toEqual([55, 6]);
    bench.ops.copy(x, y);
    expect(bench.read(x)).toEqual([5, 6]);
  });

  test("scaleKey multiplies by 1 + (a - 1) * kA", () => {
    const bench = new Bench();
    const k = bench.rows("k", 2, [2, 3]);
    bench.ops.scaleKey(k, bench.rows("a", 2, [0.5, 1]), bench.weight("kA", [2], [0.4, 7]));
    expectClose(bench.read(k), [1.6, 3]);
  });

  test("addBonus sums r * k * rK over the head, then adds it times v", () => {
    const bench = new Bench();
    const y = bench.rows("y", 4, [1, 1, 0, 0]);
    bench.ops.addBonus(
      y,
      bench.rows("r", 4, [1, 2, 1, 1]),
      bench.rows("k", 4, [3, 4, 1, 0]),
      bench.rows("v", 4, [2, -1, 3, 5]),
      bench.weight("rK", [4], [1, 0.5, 2, 2]),
      2,
    );
    expect(bench.read(y)).toEqual([15, -6, 6, 10]);
  });
});

describe("activations", () => {
  const DECAY7_LEAST = 0.545239211892605; // exp(-exp(-0.5))
  test.each<[Activation, number, number]>([
    ["none", -3, -3],
    ["sigmoid", 0, 0.5],
    ["sigmoid", Math.log(3), 0.75],
    ["sigmoid", -1000, 0],
    ["sigmoid", 1000, 1],
    ["silu", Math.log(3), 0.75 * Math.log(3)],
    ["silu", -1000, -0],
    ["tanh", 0.5 * Math.log(3), 0.5],
    ["tanh", 1000, 1],
    ["reluSquared", -3, 0],
    ["reluSquared", 3, 9],
    ["decay6", 0, Math.exp(-1)],
    ["decay6", -1000, 1],
    ["decay6", 1000, 0],
    ["decay7", 0, Math.sqrt(DECAY7_LEAST)],
    ["decay7", 1000, DECAY7_LEAST],
    ["decay7", -1000, 1],
  ])("%s of %d is %d", (f, x, want) => {
    expect(ACTIVATIONS[f](x)).toBeCloseTo(want, 14);
  });

  test("decay7 equals its other published form, exp(-exp(-softplus(-x) - 0.5))", () => {
    for (let x = -8; x <= 8; x += 0.25) {
      const softplus = Math.log1p(Math.exp(-x));
      expect(ACTIVATIONS.decay7(x)).toBeCloseTo(Math.exp(-Math.exp(-softplus - 0.5)), 14);
    }
  });

  test("activate applies the function to every element", () => {
    const bench = new Bench([2]);
    const x = bench.rows("x", 1, [-1, 2]);
    bench.ops.activate(x, x, "reluSquared");
    expect(bench.read(x)).toEqual([0, 4]);
  });
});

describe("products", () => {
  test("matmul takes the weight as [out, in]", () => {
    const bench = new Bench([2]);
    const out = bench.rows("out", 2);
    const w = bench.weight("w", [2, 3], [1, 2, 3, 4, 5, 6]);
    bench.ops.matmul(out, w, bench.rows("x", 3, [1, 0, -1, 1, 1, 1]));
    expect(bench.read(out)).toEqual([-2, -2, 6, 15]);
  });

  test("lora is outer(bias + up * inner(down * x))", () => {
    const bench = new Bench();
    const out = bench.rows("out", 2);
    const x = bench.rows("x", 2, [1, 2]);
    const down = bench.weight("down", [1, 2], [0.25, 0.5]);
    const up = bench.weight("up", [2, 1], [2, -1]);
    bench.ops.lora(out, x, { down, up, bias: bench.weight("bias", [2], [0.5, 3]) }, "tanh", "reluSquared");
    const z = Math.tanh(1.25);
    expectClose(bench.read(out), [(0.5 + 2 * z) ** 2, (3 - z) ** 2]);
    bench.ops.lora(out, x, { down, up, bias: null }, "none", "none");
    expect(bench.read(out)).toEqual([2.5, -1.25]);
  });
});

describe("wkv4", () => {
  const setUp = (k: readonly number[], v: readonly number[], w: number, u: number) => {
    const bench = new Bench([k.length]);
    const y = bench.rows("y", 1);
    const state = {
      aa: bench.state("aa", [1], [0]),
      bb: bench.state("bb", [1], [0]),
      pp: bench.state("pp", [1], [-1e30]),
    };
    bench.ops.wkv4(
      y,
      state,
      bench.rows("k", 1, k),
      bench.rows("v", 1, v),
      bench.weight("decay", [1], [w]),
      bench.weight("first", [1], [u]),
    );
    return { bench, y, state };
  };

  test("the first token from the initial state gives v exactly, and the state (v, 1, k)", () => {
    const { bench, y, state } = setUp([0.3], [0.7], -0.5, 0.9);
    expect(bench.read(y)).toEqual([0.7]);
    expect([state.aa, state.bb, state.pp].map((tensor) => bench.read(tensor)[0])).toEqual([0.7, 1, 0.3]);
  });

  test("each token is the average of all values, weighted by exp of decayed keys, first for the newest", () => {
    const [k, v, w, u] = [[0.3, -1, 2, 0.1], [0.7, 2, -3, 5], -0.5, 0.9];
    const { bench, y } = setUp(k, v, w, u);
    const want = k.map((_, t) => {
      let [sum, weights] = [Math.exp(u + k[t]!) * v[t]!, Math.exp(u + k[t]!)];
      for (let i = 0; i < t; i++) {
        const weight = Math.exp((t - 1 - i) * w + k[i]!);
        sum += weight * v[i]!;
        weights += weight;
      }
      return sum / weights;
    });
    expectClose(bench.read(y), want);
  });

  test("exponents far beyond those of floats do not overflow", () => {
    const { bench, y } = setUp([2000, -2000, 1999], [1, 100, 3], -0.5, 0);
    const weight = Math.exp(-0.5); // exp(1999) of the third token against exp(2000 - 0.5) of the first
    expectClose(bench.read(y), [1, 1, (1 + 3 * weight) / (1 + weight)]);
  });
});

describe("wkv6", () => {
  test("the first token from a zero state gives (sum of r * first * k) * v and S = k v^T", () => {
    const bench = new Bench();
    const [y, S] = [bench.rows("y", 2), bench.state("wkv", [1, 2, 2], [0, 0, 0, 0])];
    bench.ops.wkv6(
      y,
      S,
      bench.rows("r", 2, [1, 2]),
      bench.rows("k", 2, [3, 5]),
      bench.rows("v", 2, [7, 11]),
      bench.rows("decay", 2, [0.5, 0.25]),
      bench.weight("first", [2], [2, -1]),
    );
    expect(bench.read(y)).toEqual([-4 * 7, -4 * 11]);
    expect(bench.read(S)).toEqual([21, 33, 35, 55]);
  });

  test("y reads the state before the update; decay belongs to the key's index", () => {
    const bench = new Bench();
    const [y, S] = [bench.rows("y", 2), bench.state("wkv", [1, 2, 2], [1, 2, 3, 4])];
    bench.ops.wkv6(
      y,
      S,
      bench.rows("r", 2, [1, 10]),
      bench.rows("k", 2, [1, 0]),
      bench.rows("v", 2, [100, 200]),
      bench.weight("decay", [2], [0.5, 0.25]),
      bench.weight("first", [2], [0, 0]),
    );
    expect(bench.read(y)).toEqual([31, 42]);
    expect(bench.read(S)).toEqual([100.5, 201, 0.75, 1]);
  });

  test("a decay per token and a decay for all tokens agree where they are the same", () => {
    const [r, k, v] = [
      [1, -2, 3, 0.5, 4, 1],
      [0.1, 0.7, -1, 2, 0.3, 1],
      [2, 1, 0.4, -1, 1, 6],
    ];
    const outputs = [false, true].map((isWeight) => {
      const bench = new Bench([3]);
      const [y, S] = [bench.rows("y", 2), bench.state("wkv", [2, 1, 1], [0.5, -1])];
      const decay = isWeight
        ? bench.weight("decay", [2], [0.9, 0.3])
        : bench.rows("decay", 2, [0.9, 0.3, 0.9, 0.3, 0.9, 0.3]);
      bench.ops.wkv6(
        y,
        S,
        bench.rows("r", 2, r),
        bench.rows("k", 2, k),
        bench.rows("v", 2, v),
        decay,
        bench.weight("first", [2], [1, 2]),
      );
      return [bench.read(y), bench.read(S)];
    });
    expect(outputs[0]).toEqual(outputs[1]);
  });
});

describe("wkv7", () => {
  const run = (
    S0: readonly number[],
    rows: Readonly<Record<"r" | "w" | "k" | "v" | "kk" | "a", readonly number[]>>,
  ) => {
    const bench = new Bench();
    const [y, S] = [bench.rows("y", 2), bench.state("wkv", [1, 2, 2], S0)];
    const t = (name: keyof typeof rows): Tensor => bench.rows(name, 2, rows[name]);
    bench.ops.wkv7(y, S, t("r"), t("w"), t("k"), t("v"), t("kk"), t("a"));
    return { y: bench.read(y), S: bench.read(S) };
  };

  test("the first token from a zero state gives S = v k^T and y = v * (sum of r * k)", () => {
    const rows = { r: [1, 2], w: [0.6, 0.7], k: [3, 5], v: [7, 11], kk: [0.6, 0.8], a: [0.5, 0.5] };
    expect(run([0, 0, 0, 0], rows)).toEqual({ y: [7 * 13, 11 * 13], S: [21, 35, 33, 55] });
  });

  test("removal reads the undecayed state, and y the new one; rows follow v, columns k", () => {
    // S diag(w) = [[0.5, 2], [1.5, 4]]; S kk = [1, 3]; kk * a = [0.5, 0]; v k^T = [[10, -10], [20, -20]]
    const rows = { r: [1, 2], w: [0.5, 1], k: [1, -1], v: [10, 20], kk: [1, 0], a: [0.5, 0.25] };
    expect(run([1, 2, 3, 4], rows)).toEqual({ y: [-6, -12], S: [10, -8, 20, -16] });
  });

  test("a removal key of zeros removes nothing", () => {
    const rows = { r: [1, 1], w: [0.5, 1], k: [0, 0], v: [0, 0], kk: [0, 0], a: [0.5, 0.5] };
    expect(run([1, 2, 3, 4], rows)).toEqual({ y: [2.5, 5.5], S: [0.5, 2, 1.5, 4] });
  });
});
