// From stored vectors to the form in which the forward pass uses them, and from the gradient of the one to that of the
// other.

import type { VectorMeaning } from "rwkv/model";
import type { Numbers } from "../kernels/kernels.ts";
import type { Parameter } from "./parameters.ts";

interface Form {
  readonly use: (stored: number) => number;
  /** Its derivative, given what it returned. */
  readonly slope: (stored: number, used: number) => number;
}

const AS_STORED: Form = { use: (x) => x, slope: () => 1 };

const FORMS: Readonly<Record<VectorMeaning, Form>> = {
  asStored: AS_STORED,
  bonus5: AS_STORED,
  currentShare: { use: (share) => 1 - share, slope: () => -1 },
  logDecay4: { use: (raw) => -Math.exp(raw), slope: (_, used) => used },
  decay5: {
    use: (raw) => Math.exp(-Math.exp(raw)),
    slope: (raw, used) => -used * Math.exp(raw),
  },
};

/** Fills the used form, `[nElements * repeat]`. */
export function writeUsed({ meaning, repeat, nElements }: Parameter, stored: Numbers, used: Numbers): void {
  const { use } = FORMS[meaning];
  for (let i = 0; i < nElements; i++) used.fill(use(stored[i]!), i * repeat, (i + 1) * repeat);
}

/** Turns the gradient of the used form into that of the stored one, in the same place; what is left over becomes zero. */
export function storedGradient(
  { meaning, repeat, nElements }: Parameter,
  stored: Numbers,
  used: Numbers,
  gradient: Numbers,
): void {
  const { slope } = FORMS[meaning];
  for (let i = 0; i < nElements; i++) {
    let sum = 0;
    for (let j = i * repeat; j < (i + 1) * repeat; j++) sum += gradient[j]!;
    gradient[i] = sum * slope(stored[i]!, used[i * repeat]!);
  }
  gradient.fill(0, nElements, nElements * repeat);
}
