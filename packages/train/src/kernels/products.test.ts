// Matrix products, the loss and the optimiser of every set that runs here, against the reference set in f64; what is
// refused; and that results depend on sizes alone.

import { describe, expect, test } from "vitest";
import { expectLikeReference, modulesHere, Arrays, type KernelCase } from "./testing.ts";

const MODULES = await modulesHere();

describe.each(MODULES)("$name", (module) => {
  const check = (run: KernelCase, nRoundings: number): void => expectLikeReference(module, run, nRoundings);

  describe.each(["nt", "nn", "tn"] as const)("gemm %s", (form) => {
    test.each([
      [1, 1, 1],
      [7, 13, 5],
      [65, 37, 300],
      [130, 530, 21],
      [12, 32, 0],
      [6, 17, 520],
    ])("%d rows, %d columns, %d terms, set and added to", (m, n, k) => {
      for (const accumulate of [false, true]) {
        check((kernels, arrays) => {
          const [a, b, c] = [arrays.uniform(m * k), arrays.uniform(n * k), arrays.uniform(m * n)];
          kernels.gemm(c, a, b, m, n, k, form, accumulate);
          return { c };
        }, k + 2);
      }
    });
  });

  test("an element of a product has the same bits alone and among others", () => {
    const [m, n, k] = [20, 40, 300];
    const memory = module.createMemory(1 << 20);
    const kernels = module.open(memory);
    const arrays = new Arrays(module, memory);
    const [a, b] = [arrays.uniform(m * k), arrays.uniform(n * k)];
    const [all, one] = [arrays.zeros(m * n), arrays.zeros(1)];
    kernels.gemm(all, a, b, m, n, k, "nt", false);
    for (const [row, column] of [
      [0, 0],
      [7, 33],
      [19, 39],
    ] as const) {
      kernels.gemm(one, a.subarray(row * k), b.subarray(column * k), 1, 1, k, "nt", false);
      expect(one[0]).toBe(all[row * n + column]);
    }
  });

  test.each([1, 5, 37, 1024])("cross-entropy over %d tokens", (vocab) => {
    const rows = 7;
    const targets = Int32Array.from({ length: rows }, (_, row) => (row === 3 ? -1 : (row * 31) % vocab));
    for (const pull of [0, 0.1]) {
      check(
        (kernels, arrays) => {
          const [logits, weights] = [arrays.uniform(rows * vocab, -8, 8), arrays.uniform(rows, 0, 1)];
          // Two logits are the largest.
          if (vocab > 4) logits.fill(9, 3, 5);
          const [losses, dLogits, lossesAlone] = [
            arrays.uniform(rows),
            arrays.uniform(rows * vocab),
            arrays.uniform(rows),
          ];
          kernels.crossEntropy(losses, dLogits, logits, targets, weights, rows, vocab, pull);
          kernels.crossEntropy(lossesAlone, null, logits, targets, weights, rows, vocab, pull);
          kernels.crossEntropy(losses, logits, logits, targets, weights, rows, vocab, pull);
          return { losses, dLogits, lossesAlone, logits };
          // exp of differences up to 17 has up to 17 times the rounding of its argument.
        },
        vocab / 8 + 40,
      );
    }
  });

  test("cross-entropy of logits far apart and far from zero", () => {
    check((kernels, arrays) => {
      const logits = arrays.uniform(3 * 20, -1, 1);
      logits[5] = 300;
      for (let i = 20; i < 40; i++) logits[i] = logits[i]! - 500;
      logits[50] = -Infinity;
      const [losses, dLogits, weights] = [arrays.uniform(3), arrays.uniform(60), arrays.uniform(3, 1, 2)];
      kernels.crossEntropy(losses, dLogits, logits, Int32Array.of(4, 1, 2), weights, 3, 20, 0);
      return { losses, dLogits };
    }, 60);
  });

  test.each([1, 7, 65, 1000])("sum of squares of %d elements", (nElements) => {
    check((kernels, arrays) => {
      const x = arrays.uniform(nElements, 0, 1e3);
      const sum = arrays.zeros(1);
      sum[0] = kernels.sumOfSquares(x, nElements);
      return { sum };
    }, 2);
  });

  test("AdamW, with decay and without, for ordinary gradients and those next to nothing", () => {
    for (const [size, decay, eps] of [
      [1, 0, 1e-18],
      [1e-12, 0.1, 1e-18],
      [1e3, 0.01, 1e-8],
      [0, 0.1, 1e-18],
    ] as const) {
      check((kernels, arrays) => {
        const n = 37;
        const weight = arrays.uniform(n);
        const [m, v] = [arrays.uniform(n, -size, size), arrays.uniform(n, 0, size * size)];
        const gradient = arrays.uniform(n, -size, size);
        const [correction1, correction2] = [1 - 0.9 ** 3, 1 - 0.99 ** 3];
        kernels.adamw(weight, m, v, gradient, n, 1e-2, 0.9, 0.99, eps, decay, correction1, correction2, 0.5);
        return { weight, m, v };
        // 1 - 0.99 as f32 is off by 50 roundings of a number near 1, of which the squares get a hundredth.
      }, 20);
    }
  });
});

const OUTSIDE = MODULES.filter(({ name }) => name !== "reference");

describe.each(OUTSIDE)("$name refuses", (module) => {
  const memory = module.createMemory(1 << 20);
  const kernels = module.open(memory);
  const arrays = new Arrays(module, memory);
  const rows = arrays.uniform(3 * 20);
  const runs = Int32Array.of(0, 3);

  test("arrays that are too short", () => {
    expect(() => kernels.gemm(rows, rows, rows, 10, 7, 2, "nt", false)).toThrow(
      /gemm: c has 60 elements, but needs at least 70/,
    );
    expect(() => kernels.mul(rows, rows, arrays.uniform(2), 60)).toThrow(/mul: y has 2/);
    expect(() => kernels.sumOfSquares(rows, NaN)).toThrow(/needs at least NaN/);
  });

  test("f64", () => {
    expect(() => kernels.sumOfSquares(new Float64Array(4), 4)).toThrow(/x is f64/);
  });

  test("heads that do not fit, and those that are too wide", () => {
    expect(() => kernels.l2NormHeads(rows, rows, rows, rows, 3, 20, 3, 1e-12)).toThrow(
      /rows of 20 elements cannot be cut into 3 heads/,
    );
    expect(() =>
      kernels.wkv7(rows, rows, rows, rows, rows, rows, rows, rows, rows, rows, runs, 132, 1),
    ).toThrow(/heads of 132 elements; these kernels go up to 128/);
  });

  test("runs that do not increase, and none", () => {
    const shift = (bad: number[]): void =>
      kernels.tokenShift([rows], rows, rows, rows, [rows], Int32Array.from(bad), 20);
    expect(() => shift([0, 2, 2])).toThrow(/runs\[2\] is 2; runs must begin with 0 and increase/);
    expect(() => shift([1, 2])).toThrow(/runs\[0\] is 1/);
    expect(() => shift([0])).toThrow(/runs has 1 elements/);
  });

  test("lists of different lengths, or too long", () => {
    const shift = (nOuts: number, nMixes: number): void => {
      const list = (n: number): Float32Array[] => Array<Float32Array>(n).fill(rows as Float32Array);
      kernels.tokenShift(list(nOuts), rows, rows, rows, list(nMixes), runs, 20);
    };
    expect(() => shift(2, 1)).toThrow(/lists of 2 and 1 arrays/);
    expect(() => shift(9, 9)).toThrow(/from 1 to 8/);
    expect(() => shift(0, 0)).toThrow(/from 1 to 8/);
  });

  test("targets that are no tokens", () => {
    const loss = (targets: number[]): void =>
      kernels.crossEntropy(rows, rows, rows, Int32Array.from(targets), rows, 3, 20, 0);
    expect(() => loss([0, 20, 1])).toThrow(/targets\[1\] is 20; expected -1 or a token below 20/);
    expect(() => loss([0, -2, 1])).toThrow(/targets\[1\] is -2/);
    expect(() => loss([0])).toThrow(/targets has 1 elements/);
  });
});
