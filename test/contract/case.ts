// What a contract case declares: one call of one operation with its values, and how near a backend must come.

import type { WeightDType } from "../../packages/rwkv/src/core/dtype.ts";
import type { Run } from "../../packages/rwkv/src/ops/backend.ts";
import type { Ops } from "../../packages/rwkv/src/ops/ops.ts";
import type { OpName } from "../../packages/rwkv/src/ops/signature.ts";
import type { Tensor } from "../../packages/rwkv/src/ops/tensor.ts";

export interface WeightArgument {
  readonly kind: "weight";
  readonly dtype: WeightDType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
  /** What the bytes stand for. */
  readonly values: Float32Array;
  /** Whether the backend may keep it so that inputs of zero cost nothing. */
  readonly hasSparseInputs?: boolean;
}

/** A state, one block per run. */
export interface StateArgument {
  readonly kind: "state";
  readonly shape: readonly number[];
  readonly initial: number;
  /** `[runs, ...shape]` written before the first step, or null to begin with the initial value. */
  readonly values: Float32Array | null;
}

export interface RowsArgument {
  readonly kind: "rows";
  /** For messages: `[C]`, or `[H, N]` where the operation works by heads. */
  readonly shape: readonly number[];
  /** `[T, ...shape]`, or null for one that is only written. */
  readonly values: Float32Array | null;
}

/** A destination that is the same tensor as another argument. */
export interface AliasArgument {
  readonly kind: "alias";
  readonly of: string;
}

export type Argument = WeightArgument | StateArgument | RowsArgument | AliasArgument;

/** The numbers of one case, by argument. */
export interface CaseData {
  /** Rows of the longest run. */
  readonly nRows: number;
  /** As given; a state as it was before the first step; empty for an absent argument. */
  given(argument: string): Float32Array;
  /** What the reference gives in f64. */
  wanted(argument: string): Float64Array;
  /** Whether the backend may take a subnormal factor for zero, as WGSL allows. */
  readonly flushesFactors: boolean;
}

/** The greatest error allowed, for all elements or by index. 0 asks for the same bits. */
export type Limit = number | ((i: number) => number);

export interface ContractCase {
  readonly op: OpName;
  /** Shapes and what is special, such as `T=64 H=2 N=64 in place`. */
  readonly title: string;
  readonly seed: number;
  /** Rows of each run. */
  readonly runs: readonly number[];
  /** What the rows are; of logit rows there are as many as `logits` asks for. */
  readonly rows: "token" | "logit";
  /** Wanted logits of each run. */
  readonly logits: readonly Run["logits"][];
  /** By the names of ops/signature.ts; elements of a list as `outs[0]`. */
  readonly arguments: Readonly<Record<string, Argument>>;
  readonly call: (ops: Ops, tensor: (argument: string) => Tensor) => void;
  /** For each written argument. */
  readonly limits: (data: CaseData) => Readonly<Record<string, Limit>>;
}
