// TrainKernels by kernels outside JavaScript: checks the arguments of each call and hands them over by the convention of
// calls.ts. Both native and WebAssembly kernels come through here.

import { ACTIVATIONS, GEMM_FORMS, type KernelCalls } from "./calls.ts";
import { headSizeOf, need, needAll, needLists, needTargets, rowsOf, stateHeadSizeOf } from "./check.ts";
import { countChunks, type Numbers, type TrainKernels } from "./kernels.ts";

/** Room for what a kernel needs during a call. */
export interface Room {
  /** Of a fixed length; for kernels but wkv4Backward. */
  readonly fixed: Float32Array;
  /** For wkv4Backward. @param nRows - of the longest run */
  readonly forWkv4: (nRows: number) => Float32Array;
}

export function outsideKernels(name: string, calls: KernelCalls, room: Room): TrainKernels {
  return {
    name,
    precision: "f32",
    ...productsAndNorms(calls, room),
    ...shifts(calls),
    ...pointwise(calls),
    ...headwise(calls),
    ...recurrences4(calls, room),
    ...recurrences6(calls, room),
    ...recurrences7(calls, room),
    ...training(calls),
  };
}

type Kernels<K extends keyof TrainKernels> = Pick<TrainKernels, K>;

function productsAndNorms(calls: KernelCalls, room: Room): Kernels<"gemm" | "norm" | "normBackward"> {
  return {
    gemm(c, a, b, m, n, k, form, accumulate) {
      need("gemm", "c", c, m * n);
      need("gemm", "a", a, m * k);
      need("gemm", "b", b, n * k);
      calls.gemm(c, a, b, m, n, k, GEMM_FORMS[form], accumulate ? 1 : 0, room.fixed);
    },
    norm(out, stats, x, weight, bias, rows, width, groups, eps) {
      headSizeOf("norm", width, groups);
      needAll("norm", rows * width, { out, x });
      needAll("norm", width, { weight, bias });
      need("norm", "stats", stats, 2 * rows * groups);
      calls.norm(out, stats, x, weight, bias, rows, width, groups, eps);
    },
    normBackward(dx, dWeight, dBias, dOut, x, stats, weight, rows, width, groups, added) {
      headSizeOf("normBackward", width, groups);
      needAll("normBackward", rows * width, { dx, dOut, x });
      needAll("normBackward", width, { dWeight, dBias, weight });
      need("normBackward", "stats", stats, 2 * rows * groups);
      calls.normBackward(dx, dWeight, dBias, dOut, x, stats, weight, rows, width, groups, added);
    },
  };
}

function shifts(
  calls: KernelCalls,
): Kernels<"tokenShift" | "tokenShiftBackward" | "shiftDelta" | "shiftDeltaBackward"> {
  const needEach = (
    kernel: string,
    argument: string,
    list: readonly (Numbers | null)[],
    nElements: number,
  ): void => {
    for (const array of list) if (array !== null) need(kernel, argument, array, nElements);
  };
  return {
    tokenShift(outs, shiftOut, x, shift, mix, runs, width) {
      const nElements = rowsOf("tokenShift", runs) * width;
      const nRuns = runs.length - 1;
      needLists("tokenShift", outs, mix);
      needEach("tokenShift", "outs", outs, nElements);
      needEach("tokenShift", "mix", mix, width);
      needAll("tokenShift", nRuns * width, { shiftOut, shift });
      need("tokenShift", "x", x, nElements);
      calls.tokenShift(outs, shiftOut, x, shift, mix, outs.length, runs, nRuns, width);
    },
    tokenShiftBackward(dx, dShift, dMix, dOuts, x, shift, mix, runs, width, added) {
      const nElements = rowsOf("tokenShiftBackward", runs) * width;
      const nRuns = runs.length - 1;
      needLists("tokenShiftBackward", dOuts, dMix, mix);
      needEach("tokenShiftBackward", "dOuts", dOuts, nElements);
      needEach("tokenShiftBackward", "dMix", dMix, width);
      needEach("tokenShiftBackward", "mix", mix, width);
      needAll("tokenShiftBackward", nElements, { dx, x });
      needAll("tokenShiftBackward", nRuns * width, { dShift, shift });
      calls.tokenShiftBackward(
        dx,
        dShift,
        dMix,
        dOuts,
        x,
        shift,
        mix,
        dOuts.length,
        runs,
        nRuns,
        width,
        added,
      );
    },
    shiftDelta(out, shiftOut, x, shift, runs, width) {
      needAll("shiftDelta", rowsOf("shiftDelta", runs) * width, { out, x });
      const nRuns = runs.length - 1;
      needAll("shiftDelta", nRuns * width, { shiftOut, shift });
      calls.shiftDelta(out, shiftOut, x, shift, runs, nRuns, width);
    },
    shiftDeltaBackward(dx, dShift, dOut, runs, width, added) {
      needAll("shiftDeltaBackward", rowsOf("shiftDeltaBackward", runs) * width, { dx, dOut });
      const nRuns = runs.length - 1;
      needAll("shiftDeltaBackward", nRuns * width, { dShift });
      calls.shiftDeltaBackward(dx, dShift, dOut, runs, nRuns, width, added);
    },
  };
}

type Pointwise =
  | "addMul"
  | "addMulBackward"
  | "activate"
  | "activateBackward"
  | "addScaled"
  | "mul"
  | "mulBackward"
  | "lerp"
  | "lerpBackward"
  | "scaleKey"
  | "scaleKeyBackward";

function pointwise(calls: KernelCalls): Kernels<Pointwise> {
  return {
    addMul(out, x, a, b, nElements, bElements) {
      // A whole number of rows.
      headSizeOf("addMul", nElements, nElements / bElements);
      needAll("addMul", nElements, { out, x, a });
      need("addMul", "b", b, bElements);
      calls.addMul(out, x, a, b, nElements, bElements);
    },
    addMulBackward(da, db, dOut, a, b, nElements, bElements, added) {
      headSizeOf("addMulBackward", nElements, nElements / bElements);
      needAll("addMulBackward", nElements, { da, dOut, a });
      needAll("addMulBackward", bElements, { db, b });
      calls.addMulBackward(da, db, dOut, a, b, nElements, bElements, added);
    },
    activate(out, x, bias, rows, width, f) {
      needAll("activate", rows * width, { out, x });
      needAll("activate", width, { bias });
      calls.activate(out, x, bias, rows, width, ACTIVATIONS[f]);
    },
    activateBackward(dx, dBias, dOut, x, out, bias, rows, width, f) {
      needAll("activateBackward", rows * width, { dx, dOut, x, out });
      needAll("activateBackward", width, { dBias, bias });
      calls.activateBackward(dx, dBias, dOut, x, out, bias, rows, width, ACTIVATIONS[f]);
    },
    addScaled(out, x, y, scale, nElements) {
      needAll("addScaled", nElements, { out, x, y });
      calls.addScaled(out, x, y, scale, nElements);
    },
    mul(out, x, y, nElements) {
      needAll("mul", nElements, { out, x, y });
      calls.mul(out, x, y, nElements);
    },
    mulBackward(dx, dy, dOut, x, y, nElements, added) {
      needAll("mulBackward", nElements, { dx, dy, dOut, x, y });
      calls.mulBackward(dx, dy, dOut, x, y, nElements, added);
    },
    lerp(out, x, target, weight, nElements) {
      needAll("lerp", nElements, { out, x, target, weight });
      calls.lerp(out, x, target, weight, nElements);
    },
    lerpBackward(dx, dTarget, dWeight, dOut, x, target, weight, nElements, added) {
      needAll("lerpBackward", nElements, { dx, dTarget, dWeight, dOut, x, target, weight });
      calls.lerpBackward(dx, dTarget, dWeight, dOut, x, target, weight, nElements, added);
    },
    scaleKey(out, k, a, kA, rows, width) {
      needAll("scaleKey", rows * width, { out, k, a });
      need("scaleKey", "kA", kA, width);
      calls.scaleKey(out, k, a, kA, rows, width);
    },
    scaleKeyBackward(dk, da, dKA, dOut, k, a, kA, rows, width, added) {
      needAll("scaleKeyBackward", rows * width, { dk, da, dOut, k, a });
      needAll("scaleKeyBackward", width, { dKA, kA });
      calls.scaleKeyBackward(dk, da, dKA, dOut, k, a, kA, rows, width, added);
    },
  };
}

function headwise(
  calls: KernelCalls,
): Kernels<"l2NormHeads" | "l2NormHeadsBackward" | "addBonus" | "addBonusBackward"> {
  return {
    l2NormHeads(out, inverses, x, scale, rows, width, heads, eps) {
      headSizeOf("l2NormHeads", width, heads);
      needAll("l2NormHeads", rows * width, { out, x });
      need("l2NormHeads", "inverses", inverses, rows * heads);
      need("l2NormHeads", "scale", scale, width);
      calls.l2NormHeads(out, inverses, x, scale, rows, width, heads, eps);
    },
    l2NormHeadsBackward(dx, dScale, dOut, out, inverses, x, scale, rows, width, heads, eps, added) {
      headSizeOf("l2NormHeadsBackward", width, heads);
      needAll("l2NormHeadsBackward", rows * width, { dx, dOut, out, x });
      need("l2NormHeadsBackward", "inverses", inverses, rows * heads);
      needAll("l2NormHeadsBackward", width, { dScale, scale });
      calls.l2NormHeadsBackward(dx, dScale, dOut, out, inverses, x, scale, rows, width, heads, eps, added);
    },
    addBonus(out, y, r, k, v, rK, rows, width, heads) {
      headSizeOf("addBonus", width, heads);
      needAll("addBonus", rows * width, { out, y, r, k, v });
      need("addBonus", "rK", rK, width);
      calls.addBonus(out, y, r, k, v, rK, rows, width, heads);
    },
    addBonusBackward(dr, dk, dv, dRK, dOut, r, k, v, rK, rows, width, heads, added) {
      headSizeOf("addBonusBackward", width, heads);
      needAll("addBonusBackward", rows * width, { dr, dk, dv, dOut, r, k, v });
      needAll("addBonusBackward", width, { dRK, rK });
      calls.addBonusBackward(dr, dk, dv, dRK, dOut, r, k, v, rK, rows, width, heads, added);
    },
  };
}

function recurrences4(calls: KernelCalls, room: Room): Kernels<"wkv4" | "wkv4Backward"> {
  return {
    wkv4(y, aaOut, bbOut, ppOut, k, v, decay, first, aa, bb, pp, runs, width) {
      needAll("wkv4", rowsOf("wkv4", runs) * width, { y, k, v });
      const nRuns = runs.length - 1;
      needAll("wkv4", nRuns * width, { aaOut, bbOut, ppOut, aa, bb, pp });
      needAll("wkv4", width, { decay, first });
      calls.wkv4(y, aaOut, bbOut, ppOut, k, v, decay, first, aa, bb, pp, runs, nRuns, width);
    },
    wkv4Backward(dk, dv, dDecay, dFirst, dAa, dBb, dy, k, v, decay, first, aa, bb, pp, runs, width, added) {
      needAll("wkv4Backward", rowsOf("wkv4Backward", runs) * width, { dk, dv, dy, k, v });
      const nRuns = runs.length - 1;
      needAll("wkv4Backward", nRuns * width, { dAa, dBb, aa, bb, pp });
      needAll("wkv4Backward", width, { dDecay, dFirst, decay, first });
      let longest = 0;
      for (let i = 0; i < nRuns; i++) longest = Math.max(longest, runs[i + 1]! - runs[i]!);
      const states = room.forWkv4(longest);
      calls.wkv4Backward(
        ...[dk, dv, dDecay, dFirst, dAa, dBb, dy, k, v, decay, first, aa, bb, pp, runs],
        ...[nRuns, width, added, states],
      );
    },
  };
}

function recurrences6(calls: KernelCalls, room: Room): Kernels<"wkv6" | "wkv6Backward"> {
  return {
    wkv6(y, stateOut, checkpoints, r, k, v, decay, first, state, runs, width, heads, isDecayPerRow) {
      const headSize = stateHeadSizeOf("wkv6", width, heads);
      const nElements = rowsOf("wkv6", runs) * width;
      const nRuns = runs.length - 1;
      needAll("wkv6", nElements, { y, r, k, v });
      need("wkv6", "decay", decay, isDecayPerRow ? nElements : width);
      need("wkv6", "first", first, width);
      needAll("wkv6", nRuns * width * headSize, { stateOut, state });
      need("wkv6", "checkpoints", checkpoints, countChunks(runs) * width * headSize);
      calls.wkv6(
        ...[y, stateOut, checkpoints, r, k, v, decay, first, state, runs],
        ...[nRuns, width, heads, isDecayPerRow ? 1 : 0],
      );
    },
    wkv6Backward(dr, dk, dv, dDecay, dFirst, dState, dy, r, k, v, decay, first, checkpoints, runs, ...sizes) {
      const [width, heads, isDecayPerRow, added] = sizes;
      const headSize = stateHeadSizeOf("wkv6Backward", width, heads);
      const nElements = rowsOf("wkv6Backward", runs) * width;
      const nRuns = runs.length - 1;
      needAll("wkv6Backward", nElements, { dr, dk, dv, dy, r, k, v });
      needAll("wkv6Backward", isDecayPerRow ? nElements : width, { dDecay, decay });
      needAll("wkv6Backward", width, { dFirst, first });
      needAll("wkv6Backward", nRuns * width * headSize, { dState });
      need("wkv6Backward", "checkpoints", checkpoints, countChunks(runs) * width * headSize);
      calls.wkv6Backward(
        ...[dr, dk, dv, dDecay, dFirst, dState, dy, r, k, v, decay, first, checkpoints, runs],
        ...[nRuns, width, heads, isDecayPerRow ? 1 : 0, added, room.fixed],
      );
    },
  };
}

function recurrences7(calls: KernelCalls, room: Room): Kernels<"wkv7" | "wkv7Backward"> {
  return {
    wkv7(y, stateOut, checkpoints, r, w, k, v, kk, a, state, runs, width, heads) {
      const headSize = stateHeadSizeOf("wkv7", width, heads);
      const nRuns = runs.length - 1;
      needAll("wkv7", rowsOf("wkv7", runs) * width, { y, r, w, k, v, kk, a });
      needAll("wkv7", nRuns * width * headSize, { stateOut, state });
      need("wkv7", "checkpoints", checkpoints, countChunks(runs) * width * headSize);
      calls.wkv7(
        ...[y, stateOut, checkpoints, r, w, k, v, kk, a, state, runs],
        ...[nRuns, width, heads, room.fixed],
      );
    },
    wkv7Backward(dr, dw, dk, dv, dkk, da, dState, dy, r, w, k, v, kk, a, checkpoints, runs, ...sizes) {
      const [width, heads, added] = sizes;
      const headSize = stateHeadSizeOf("wkv7Backward", width, heads);
      const nElements = rowsOf("wkv7Backward", runs) * width;
      const nRuns = runs.length - 1;
      needAll("wkv7Backward", nElements, { dr, dw, dk, dv, dkk, da, dy, r, w, k, v, kk, a });
      needAll("wkv7Backward", nRuns * width * headSize, { dState });
      need("wkv7Backward", "checkpoints", checkpoints, countChunks(runs) * width * headSize);
      calls.wkv7Backward(
        ...[dr, dw, dk, dv, dkk, da, dState, dy, r, w, k, v, kk, a, checkpoints, runs],
        ...[nRuns, width, heads, added, room.fixed],
      );
    },
  };
}

function training(calls: KernelCalls): Kernels<"crossEntropy" | "sumOfSquares" | "adamw"> {
  return {
    crossEntropy(losses, dLogits, logits, targets, weights, rows, vocab, pull) {
      needAll("crossEntropy", rows, { losses, weights });
      needAll("crossEntropy", rows * vocab, { dLogits, logits });
      needTargets("crossEntropy", targets, rows, vocab);
      calls.crossEntropy(losses, dLogits, logits, targets, weights, rows, vocab, pull);
    },
    sumOfSquares(x, nElements) {
      need("sumOfSquares", "x", x, nElements);
      return calls.sumOfSquares(x, nElements);
    },
    adamw(
      weight,
      m,
      v,
      gradient,
      nElements,
      rate,
      beta1,
      beta2,
      eps,
      decay,
      correction1,
      correction2,
      scale,
    ) {
      needAll("adamw", nElements, { weight, m, v, gradient });
      calls.adamw(
        ...[weight, m, v, gradient, nElements, rate, beta1, beta2, eps, decay],
        ...[correction1, correction2, scale],
      );
    },
  };
}
