// The recurrences of every set that runs here, forward and backward, against the reference set in f64. Each case runs
// forward first, whose checkpoints belong to its set.

import { describe, test } from "vitest";
import { countChunks } from "./kernels.ts";
import {
  expectLikeReference,
  fillers,
  MODES,
  modulesHere,
  outputsOfCase,
  SHAPES,
  type KernelCase,
} from "./testing.ts";

describe.each(await modulesHere())("$name", (module) => {
  const check = (run: KernelCase, nRoundings: number): void => expectLikeReference(module, run, nRoundings);

  describe.each(SHAPES)("$title", (shape) => {
    const { runs, rows, width, heads, N } = shape;
    const nElements = rows * width;

    describe.each(MODES)("$title", (mode) => {
      const { added } = mode;

      test("wkv4", () => {
        check((kernels, arrays) => {
          const { rowList, weight, perRun, dWeight, dPerRun } = fillers(arrays, shape, mode);
          const [y, dy, v, dk, dv] = rowList(5);
          const k = arrays.uniform(nElements, -3, 3);
          const [decay, first] = [arrays.uniform(width, -2, -0.01), weight()];
          const [aa, bb] = [perRun(), arrays.uniform(shape.nRuns * width, 0.5, 2)];
          const pp = arrays.uniform(shape.nRuns * width, -2, 2);
          // The last run starts from nothing.
          pp.fill(-1e38, (shape.nRuns - 1) * width);
          aa.fill(0, (shape.nRuns - 1) * width);
          bb.fill(0, (shape.nRuns - 1) * width);
          const [aaOut, bbOut, ppOut] = [perRun(), perRun(), perRun()];
          kernels.wkv4(y!, aaOut, bbOut, ppOut, k, v!, decay, first, aa, bb, pp, runs, width);
          const [dDecay, dFirst, dAa, dBb] = [dWeight(), dWeight(), dPerRun(), dPerRun()];
          kernels.wkv4Backward(
            ...([dk!, dv!, dDecay, dFirst, dAa, dBb] as const),
            ...([dy!, k, v!, decay, first, aa, bb, pp, runs, width, added] as const),
          );
          return outputsOfCase({ y: y!, aaOut, bbOut, ppOut, dk: dk!, dv: dv!, dDecay, dFirst, dAa, dBb });
          // A row rounds each sum four times, exponents up to 8 by 8 roundings of a number near 1.
        }, 16 * rows);
      });

      test.each([true, false])("wkv6, decay per row: %s", (isDecayPerRow) => {
        check(
          (kernels, arrays) => {
            const { rowList, weight, state, dWeight, dState } = fillers(arrays, shape, mode);
            const [y, dy, r, k, v, dr, dk, dv] = rowList(8);
            const decay = arrays.uniform(isDecayPerRow ? nElements : width, 0.5, 1);
            const [first, stateIn, stateOut] = [weight(), state(), state()];
            const checkpoints = arrays.uniform(countChunks(runs) * width * N);
            kernels.wkv6(
              ...([y!, stateOut, checkpoints, r!, k!, v!, decay, first, stateIn] as const),
              ...([runs, width, heads, isDecayPerRow] as const),
            );
            const ofDecay = arrays.uniform(decay.length);
            const dDecay = isDecayPerRow || mode.isWanted ? ofDecay : null;
            const [dFirst, dStates] = [dWeight(), dState()];
            kernels.wkv6Backward(
              ...([dr!, dk!, dv!, dDecay, dFirst, dStates, dy!, r!, k!, v!, decay, first] as const),
              ...([checkpoints, runs, width, heads, isDecayPerRow, added] as const),
            );
            return outputsOfCase({ y: y!, stateOut, dr: dr!, dk: dk!, dv: dv!, dDecay, dFirst, dStates });
            // Decays of at most 1 let nothing grow: a state is a chain of two roundings a row, an output one of N.
          },
          4 * rows + 2 * N,
        );
      });

      test("wkv7", () => {
        check(
          (kernels, arrays) => {
            const { row, rowList, state, dState } = fillers(arrays, shape, mode);
            const [y, dy, r, k, v] = rowList(5);
            const [w, a, kk] = [arrays.uniform(nElements, 0.6, 1), arrays.uniform(nElements, 0, 1), row()];
            // As the model does: of length 1 in each head, so that the transition lengthens no vector.
            for (let at = 0; at < nElements; at += N) {
              const head = kk.subarray(at, at + N);
              const length = Math.hypot(...head);
              for (let j = 0; j < N; j++) head[j] = Math.fround(head[j]! / length);
            }
            const [stateIn, stateOut, dStates] = [state(), state(), dState()];
            const checkpoints = arrays.uniform(countChunks(runs) * width * N);
            kernels.wkv7(
              ...([y!, stateOut, checkpoints, r!, w, k!, v!, kk, a, stateIn] as const),
              ...([runs, width, heads] as const),
            );
            const [dr, dw, dk, dv, dkk, da] = rowList(6);
            kernels.wkv7Backward(
              ...([dr!, dw!, dk!, dv!, dkk!, da!, dStates, dy!, r!, w, k!, v!, kk, a] as const),
              ...([checkpoints, runs, width, heads, added] as const),
            );
            return outputsOfCase({
              ...{ y: y!, stateOut, dStates, dr: dr!, dw: dw!, dk: dk!, dv: dv!, dkk: dkk!, da: da! },
            });
            // A row rounds a state three times and a sum over it N times.
          },
          4 * rows + 4 * N,
        );
      });
    });
  });
});
