// Subpath `rwkv/model`: what a model is made of, for training: configs, the list of weights, the forward pass to record,
// and the way from and to files. Not for applications; `rwkv` is.

export { encodeFromF32 } from "./core/decode.ts";
export { byteLengthOf, countElements } from "./core/dtype.ts";
export type { Checkpoint, CheckpointTensor } from "./formats/checkpoint.ts";
export { openCheckpoint } from "./formats/open.ts";
export { writeSafetensors } from "./formats/safetensors/safetensors.ts";
export { GROUP_NORM_EPS } from "./model/config.ts";
export type { LoraRanks, ModelConfig, RwkvVersion } from "./model/config.ts";
export { officialTensors, residualScale } from "./model/export.ts";
export { declareForward } from "./model/forward.ts";
export type { ForwardOptions } from "./model/forward.ts";
export { stateLayout } from "./model/state.ts";
export type { StateLayout, StateTensor } from "./model/state.ts";
export { readValues } from "./model/values.ts";
export { canonicalWeights } from "./model/weights/canonical.ts";
export type { CanonicalWeight, CanonicalWeights } from "./model/weights/canonical.ts";
export { weightRules } from "./model/weights/tables.ts";
export type { VectorMeaning, WeightKind, WeightRule } from "./model/weights/visitor.ts";
export { Random } from "./sampler/random.ts";
export type { RandomState } from "./sampler/random.ts";
