// The operations on rows of every set that runs here, forward and backward, against the reference set in f64.

import { describe, test } from "vitest";
import type { Activation } from "rwkv/ops";
import {
  expectLikeReference,
  fillers,
  MODES,
  modulesHere,
  outputsOfCase,
  SHAPES,
  type KernelCase,
} from "./testing.ts";

const ACTIVATIONS: readonly Activation[] = [
  "none",
  "sigmoid",
  "silu",
  "tanh",
  "reluSquared",
  "decay6",
  "decay7",
];

describe.each(await modulesHere())("$name", (module) => {
  const check = (run: KernelCase, nRoundings: number): void => expectLikeReference(module, run, nRoundings);

  describe.each(SHAPES)("$title", (shape) => {
    const { runs, rows, width, heads, N } = shape;

    test.each([1, heads])("norm in %d groups", (groups) => {
      check((kernels, arrays) => {
        const { row, weightList } = fillers(arrays, shape);
        // The mean is seven times the deviation, so that a rounding of x counts as seven of (x - mean) * inverse.
        const x = arrays.uniform(rows * width, 3, 5);
        const [weight, bias] = weightList(2);
        const [out, stats] = [row(), arrays.uniform(2 * rows * groups)];
        kernels.norm(out, stats, x, weight!, bias!, rows, width, groups, 64e-5);
        return { out, stats };
      }, 7 * width);
    });

    test.each([1, 3, 6])("token shift of %d mixes", (nOuts) => {
      check((kernels, arrays) => {
        const { row, rowList, weightList, perRun } = fillers(arrays, shape);
        const [x, shift, shiftOut] = [row(), perRun(), perRun()];
        const [outs, mix] = [rowList(nOuts), weightList(nOuts)];
        kernels.tokenShift(outs, shiftOut, x, shift, mix, runs, width);
        return { shiftOut, ...Object.fromEntries(outs.map((out, o) => [`outs[${o}]`, out])) };
      }, 3);
    });

    test("shift delta", () => {
      check((kernels, arrays) => {
        const { row, perRun } = fillers(arrays, shape);
        const [x, out, shift, shiftOut] = [row(), row(), perRun(), perRun()];
        kernels.shiftDelta(out, shiftOut, x, shift, runs, width);
        return { out, shiftOut };
      }, 1);
    });

    test("addMul, addScaled, mul, lerp and scaleKey, also onto an input", () => {
      check((kernels, arrays) => {
        const { row, rowList, weight } = fillers(arrays, shape);
        const nElements = rows * width;
        const [x, y, z, vector] = [row(), row(), row(), weight()];
        const outs = rowList(6);
        kernels.addMul(outs[0]!, x, y, z, nElements, nElements);
        kernels.addMul(outs[1]!, x, y, vector, nElements, width);
        kernels.addScaled(outs[2]!, x, y, 0.75, nElements);
        kernels.mul(outs[3]!, x, y, nElements);
        kernels.lerp(outs[4]!, x, y, z, nElements);
        kernels.scaleKey(outs[5]!, x, y, vector, rows, width);
        kernels.scaleKey(x, x, y, vector, rows, width);
        kernels.lerp(z, z, x, y, nElements);
        kernels.addScaled(y, y, y, -0.25, nElements);
        return { x, y, z, ...Object.fromEntries(outs.map((out, o) => [`outs[${o}]`, out])) };
      }, 8);
    });

    test("l2NormHeads and addBonus", () => {
      check((kernels, arrays) => {
        const { row, rowList, weight } = fillers(arrays, shape);
        const [x, y, r, k] = rowList(4);
        x!.fill(0, 0, N);
        const [out, bonus, scale, inverses] = [row(), row(), weight(), arrays.uniform(rows * heads)];
        kernels.l2NormHeads(out, inverses, x!, scale, rows, width, heads, 0.125);
        kernels.addBonus(bonus, y!, r!, k!, x!, scale, rows, width, heads);
        return { out, inverses, bonus };
      }, N + 4);
    });

    test.each(ACTIVATIONS)("%s, its bias and its gradient", (f) => {
      check((kernels, arrays) => {
        const { row, rowList, weight } = fillers(arrays, shape);
        const x = arrays.uniform(rows * width, -6, 6);
        const [bias, dBias, dOut, plain] = [weight(), weight(), row(), row()];
        const [out, dx, dxPlain] = rowList(3);
        kernels.activate(out!, x, bias, rows, width, f);
        kernels.activateBackward(dx!, dBias, dOut, x, out!, bias, rows, width, f);
        kernels.activate(plain, x, null, rows, width, f);
        kernels.activateBackward(dxPlain!, null, dOut, x, plain, null, rows, width, f);
        kernels.activateBackward(dOut, null, dOut, x, plain, null, rows, width, f);
        kernels.activate(x, x, bias, rows, width, f);
        return { out: out!, dx: dx!, dBias, plain, dxPlain: dxPlain!, dOut, x };
        // exp(x) of x up to 7 has seven times the rounding of its argument, exp(exp(x)) e times that again.
      }, 64 + rows);
    });

    describe.each(MODES)("$title", (mode) => {
      const { added } = mode;

      test.each([1, heads])("norm backward in %d groups", (groups) => {
        check((kernels, arrays) => {
          const { rowList, weight, dWeight } = fillers(arrays, shape, mode);
          const [x, dOut, dx] = rowList(3);
          const [weights, dWeights, dBias] = [weight(), dWeight(), dWeight()];
          const stats = arrays.uniform(2 * rows * groups, 0.5, 1.5);
          kernels.normBackward(dx!, dWeights, dBias, dOut!, x!, stats, weights, rows, width, groups, added);
          return outputsOfCase({ dx: dx!, dWeights, dBias });
        }, width + rows);
      });

      test.each([1, 6])("token shift backward of %d mixes", (nOuts) => {
        check(
          (kernels, arrays) => {
            const { row, rowList, weightList, perRun, dPerRun } = fillers(arrays, shape, mode);
            const [x, dx, shift, dShift] = [row(), row(), perRun(), dPerRun()];
            const [dOuts, mix, all] = [rowList(nOuts), weightList(nOuts), weightList(nOuts)];
            const dMix = all.map((array) => (mode.isWanted ? array : null));
            kernels.tokenShiftBackward(dx, dShift, dMix, dOuts, x, shift, mix, runs, width, added);
            return outputsOfCase({ dx, dShift, first: all[0]!, last: all.at(-1)! });
          },
          3 * nOuts + rows,
        );
      });

      test("shift delta backward", () => {
        check((kernels, arrays) => {
          const { row, dPerRun } = fillers(arrays, shape, mode);
          const [dx, dOut, dShift] = [row(), row(), dPerRun()];
          kernels.shiftDeltaBackward(dx, dShift, dOut, runs, width, added);
          return outputsOfCase({ dx, dShift });
        }, 3);
      });

      test.each(["rows", "a weight"])("addMul backward with %s", (kind) => {
        check((kernels, arrays) => {
          const { rowList } = fillers(arrays, shape, mode);
          const bElements = kind === "rows" ? rows * width : width;
          const [da, dOut, a] = rowList(3);
          const [b, db] = [arrays.uniform(bElements), arrays.uniform(bElements)];
          const isWanted = mode.isWanted || kind === "rows";
          kernels.addMulBackward(da!, isWanted ? db : null, dOut!, a!, b, rows * width, bElements, added);
          return { da: da!, db };
        }, rows + 2);
      });

      test("mul and lerp backward", () => {
        check((kernels, arrays) => {
          const { rowList } = fillers(arrays, shape, mode);
          const [x, y, weight, dOut] = rowList(4);
          const [dx, dy, dFrom, dTarget, dWeight] = rowList(5);
          kernels.mulBackward(dx!, dy!, dOut!, x!, y!, rows * width, added);
          kernels.lerpBackward(dFrom!, dTarget!, dWeight!, dOut!, x!, y!, weight!, rows * width, added);
          return { dx: dx!, dy: dy!, dFrom: dFrom!, dTarget: dTarget!, dWeight: dWeight! };
        }, 4);
      });

      test("l2NormHeads backward", () => {
        check(
          (kernels, arrays) => {
            const { rowList, weight, dWeight } = fillers(arrays, shape, mode);
            const [x, dOut, out, dx] = rowList(4);
            const [scale, dScale] = [weight(), dWeight()];
            const inverses = arrays.uniform(rows * heads, 0.5, 2);
            // The last head is shorter than eps.
            inverses[inverses.length - 1] = 1000;
            kernels.l2NormHeadsBackward(
              ...([dx!, dScale, dOut!, out!, inverses, x!, scale] as const),
              ...([rows, width, heads, 2e-3, added] as const),
            );
            return outputsOfCase({ dx: dx!, dScale });
          },
          N + rows + 4,
        );
      });

      test("scaleKey backward", () => {
        check((kernels, arrays) => {
          const { rowList, weight, dWeight } = fillers(arrays, shape, mode);
          const [k, a, dOut, dk, da] = rowList(5);
          const [kA, dKA] = [weight(), dWeight()];
          kernels.scaleKeyBackward(dk!, da!, dKA, dOut!, k!, a!, kA, rows, width, added);
          return outputsOfCase({ dk: dk!, da: da!, dKA });
        }, rows + 4);
      });

      test("addBonus backward", () => {
        check(
          (kernels, arrays) => {
            const { rowList, weight, dWeight } = fillers(arrays, shape, mode);
            const [r, k, v, dOut, dr, dk, dv] = rowList(7);
            const [rK, dRK] = [weight(), dWeight()];
            kernels.addBonusBackward(
              ...([dr!, dk!, dv!, dRK, dOut!, r!, k!, v!, rK] as const),
              ...([rows, width, heads, added] as const),
            );
            return outputsOfCase({ dr: dr!, dk: dk!, dv: dv!, dRK });
          },
          2 * N + rows,
        );
      });
    });
  });
});
