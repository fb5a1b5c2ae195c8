// Subpath `rwkv/ops`: the interface of operations, for training and for adapters to other maths libraries.

export { createOps } from "./create-ops.ts";
export { operandsOf, SIGNATURES } from "./signature.ts";
export type { OpArguments, OpCall, Operand, OpName, Role } from "./signature.ts";
export type { Activation, LoraWeights, NormWeights, Ops, Wkv4State } from "./ops.ts";
export type { RowKind, Tensor, TensorKind } from "./tensor.ts";
export type {
  Backend,
  BuilderOptions,
  Program,
  ProgramBuilder,
  Recording,
  Run,
  StepOptions,
  TappedProgram,
  TensorDeclarer,
  WeightUpload,
} from "./backend.ts";
export type { Tap } from "./taps.ts";
