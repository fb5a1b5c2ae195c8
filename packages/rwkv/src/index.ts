// What both entry points share: types, errors, and everything that needs no platform.

export { chatParts, renderChat } from "./chat/render.ts";
export type { ChatPart } from "./chat/render.ts";
export { WORLD_CHAT } from "./chat/template.ts";
export type { ChatMessage, ChatRole, ChatTemplate } from "./chat/template.ts";
export { blobSource, bytesSource } from "./core/byte-source.ts";
export type { ByteSource } from "./core/byte-source.ts";
export type { ByteSink } from "./core/byte-sink.ts";
export { ENCODED_DTYPES } from "./core/decode.ts";
export type { EncodedDType } from "./core/decode.ts";
export type { DType, WeightDType } from "./core/dtype.ts";
export {
  DeviceError,
  fileErrorCode,
  FormatError,
  RwkvError,
  ShapeError,
  UnsupportedError,
  UsageError,
} from "./core/errors.ts";
export type { ErrorCode } from "./core/errors.ts";
export type { WeightLayout } from "./core/layout.ts";
export type { Logger } from "./core/logger.ts";
export type { CheckpointFormat, MetadataValue } from "./formats/checkpoint.ts";
export type { AdapterContents, LoraFactors, TrainedTensor } from "./model/adapter/export.ts";
export type { ModelConfig } from "./model/config.ts";
export type { DTypePolicy } from "./model/policy.ts";
export type { StateTensor } from "./model/state.ts";
export type { StateOrientation } from "./model/weights/orientation.ts";
export { writeAdapter } from "./runtime/adapter.ts";
export type { LoraOptions, WriteAdapterOptions } from "./runtime/adapter.ts";
export type { OpenOptions } from "./runtime/api.ts";
export { BACKEND_NAMES, DEVICE_NAMES } from "./runtime/backends.ts";
export type { BackendName, DeviceDescription, DeviceName } from "./runtime/backends.ts";
export type { CompareOptions, CompareProgress, Comparison, WeightDifference } from "./runtime/compare.ts";
export { CONVERT_DTYPES } from "./runtime/convert.ts";
export type { ConvertDType, ConvertFormat, ConvertOptions } from "./runtime/convert.ts";
export type { Prompt } from "./runtime/engine.ts";
export { evaluateChoices } from "./runtime/evaluation/choices.ts";
export type { ChoiceCase, ChoiceOptions, ChoiceResult, ChoiceScore } from "./runtime/evaluation/choices.ts";
export type { EvaluationOptions, EvaluationProgress, ScoreOptions } from "./runtime/evaluation/cases.ts";
export { evaluateExact } from "./runtime/evaluation/exact.ts";
export type { ExactAnswer, ExactCase, ExactOptions, ExactResult } from "./runtime/evaluation/exact.ts";
export { evaluateLastWords } from "./runtime/evaluation/last-word.ts";
export type { LastWordCase, LastWordResult } from "./runtime/evaluation/last-word.ts";
export type { ContinuationScore } from "./runtime/evaluation/score.ts";
export { evaluateText } from "./runtime/evaluation/text.ts";
export type { TextScore } from "./runtime/evaluation/text.ts";
export { Generation } from "./runtime/generation.ts";
export type {
  FinishReason,
  GenerateOptions,
  GenerationChunk,
  GenerationResult,
  GenerationTimings,
} from "./runtime/generation.ts";
export type { CheckpointSummary, TensorSummary } from "./runtime/inspect.ts";
export type { LoadOptions } from "./runtime/load.ts";
export { Model } from "./runtime/model.ts";
export type { ZeroInputs } from "./ops/backend.ts";
export type { ModelInfo, RestoreOptions, SessionOptions } from "./runtime/model.ts";
export type { LoadProgress, TokenProgress } from "./runtime/progress.ts";
export type { MatrixPreview, QuantizeOptions, QuantizePreview } from "./runtime/quantize.ts";
export type { LogitsWanted } from "./runtime/scheduler.ts";
export { Session } from "./runtime/session.ts";
export type { AppendOptions, ForwardOptions } from "./runtime/session.ts";
export type { FileSource } from "./runtime/source.ts";
export { writeTunedState } from "./runtime/tuned-state.ts";
export type { WriteTunedStateOptions } from "./runtime/tuned-state.ts";
export { createSampler } from "./sampler/chain.ts";
export type { Sampler, SamplerState, SamplingOptions } from "./sampler/chain.ts";
export { createByteTokenizer } from "./tokenizer/bytes.ts";
export type { Tokenizer } from "./tokenizer/tokenizer.ts";
export { Utf8Decoder } from "./tokenizer/utf8.ts";
