// The calling convention of kernels outside JavaScript, native or WebAssembly: the arguments of each in the order of
// kernels.ts, with forms and activations as numbers, the length of a list behind the last list, the number of runs behind
// `runs`, and room at the end. Both sides have the signatures, so that kernels of another version are noticed.

import type { Activation } from "rwkv/ops";
import type { GemmForm, Numbers } from "./kernels.ts";

/** `p` array or null, `l` list of arrays, `n` number. */
export const SIGNATURES = {
  gemm: "pppnnnnnp",
  norm: "pppppnnnn",
  normBackward: "pppppppnnnn",
  tokenShift: "lppplnpnn",
  tokenShiftBackward: "ppllpplnpnnn",
  shiftDelta: "pppppnn",
  shiftDeltaBackward: "ppppnnn",
  addMul: "ppppnn",
  addMulBackward: "pppppnnn",
  activate: "pppnnn",
  activateBackward: "ppppppnnn",
  addScaled: "pppnn",
  mul: "pppn",
  mulBackward: "pppppnn",
  lerp: "ppppn",
  lerpBackward: "pppppppnn",
  l2NormHeads: "ppppnnnn",
  l2NormHeadsBackward: "pppppppnnnnn",
  scaleKey: "ppppnn",
  scaleKeyBackward: "pppppppnnn",
  addBonus: "ppppppnnn",
  addBonusBackward: "pppppppppnnnn",
  wkv4: "ppppppppppppnn",
  wkv4Backward: "pppppppppppppppnnnp",
  wkv6: "ppppppppppnnnn",
  wkv6Backward: "ppppppppppppppnnnnnp",
  wkv7: "pppppppppppnnnp",
  wkv7Backward: "ppppppppppppppppnnnnp",
  crossEntropy: "pppppnnn",
  sumOfSquares: "pn",
  adamw: "ppppnnnnnnnnn",
} as const;

export type CallName = keyof typeof SIGNATURES;

export const CALL_NAMES = Object.keys(SIGNATURES) as readonly CallName[];

export type KernelArgument = number | null | Numbers | Int32Array | readonly (Numbers | null)[];

/** Each returns a number, which means something for `sumOfSquares` alone. */
export type KernelCall = (...args: KernelArgument[]) => number;

export type KernelCalls = Readonly<Record<CallName, KernelCall>>;

export const GEMM_FORMS: Readonly<Record<GemmForm, number>> = { nt: 0, nn: 1, tn: 2 };

/** Most arrays in a list. */
export const MAX_LIST = 8;

/** The greatest head size of wkv6 and wkv7, for whose backward there is room. */
export const MAX_HEAD_SIZE = 128;

/** As the engine's kernels number them. */
export const ACTIVATIONS: Readonly<Record<Activation, number>> = {
  none: 0,
  sigmoid: 1,
  silu: 2,
  tanh: 3,
  reluSquared: 4,
  decay6: 5,
  decay7: 6,
};
