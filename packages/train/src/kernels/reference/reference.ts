// The reference set of kernels: plain loops, obvious rather than fast, in f64 for checks of gradients or in f32 where no
// other set can run. Arithmetic is f64 either way; only a store rounds.

import { DeviceError } from "rwkv";
import type { KernelModule, Precision, TrainKernels } from "../kernels.ts";
import { adamw, crossEntropy, sumOfSquares } from "./loss.ts";
import { addBonus, addBonusBackward, l2NormHeads, l2NormHeadsBackward, norm, normBackward } from "./norms.ts";
import {
  activate,
  activateBackward,
  addMul,
  addMulBackward,
  addScaled,
  lerp,
  lerpBackward,
  mul,
  mulBackward,
  scaleKey,
  scaleKeyBackward,
} from "./pointwise.ts";
import { gemm } from "./products.ts";
import { shiftDelta, shiftDeltaBackward, tokenShift, tokenShiftBackward } from "./shift.ts";
import { wkv4, wkv4Backward } from "./wkv4.ts";
import { wkv6, wkv6Backward } from "./wkv6.ts";
import { wkv7, wkv7Backward } from "./wkv7.ts";

export function referenceKernels(precision: Precision): KernelModule {
  const kernels: TrainKernels = {
    name: "reference",
    precision,
    gemm,
    norm,
    normBackward,
    tokenShift,
    tokenShiftBackward,
    shiftDelta,
    shiftDeltaBackward,
    addMul,
    addMulBackward,
    activate,
    activateBackward,
    addScaled,
    mul,
    mulBackward,
    lerp,
    lerpBackward,
    l2NormHeads,
    l2NormHeadsBackward,
    scaleKey,
    scaleKeyBackward,
    addBonus,
    addBonusBackward,
    wkv4,
    wkv4Backward,
    wkv6,
    wkv6Backward,
    wkv7,
    wkv7Backward,
    crossEntropy,
    sumOfSquares,
    adamw,
  };
  return {
    name: "reference",
    precision,
    reservedByteLength: 0,
    createMemory: createSharedMemory,
    open: () => kernels,
  };
}

/** Memory for kernels that take arrays wherever they lie. @throws DeviceError if there is not so much */
export function createSharedMemory(byteLength: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(byteLength);
  } catch (cause) {
    throw new DeviceError(
      `no memory for training: ${byteLength} bytes could not be had. Use fewer tokens per piece or a smaller model.`,
      { cause },
    );
  }
}
