// What both entry points share: types, errors, and everything that needs no platform.

export { templateFormat } from "./chat/format.ts";
export type { ChatFormat } from "./chat/format.ts";
export {
  CHAT_TEMPLATES,
  G1_CHAT,
  PILE_QA,
  PILE_TEXT,
  RAVEN_CHAT,
  RAVEN_INSTRUCT,
  WORLD_CHAT,
} from "./chat/formats.ts";
export { jinjaFormat } from "./chat/jinja.ts";
export type { JinjaSource } from "./chat/jinja.ts";
export { parseChatPrompt } from "./chat/prompt-file.ts";
export type { ChatPrompt } from "./chat/prompt-file.ts";
export { chatParts, renderChat } from "./chat/render.ts";
export type { ChatPart } from "./chat/render.ts";
export { THINK_MODES } from "./chat/template.ts";
export type {
  ChatMessage,
  ChatRole,
  ChatTemplate,
  LineBreaks,
  ThinkMode,
  TurnForm,
} from "./chat/template.ts";
export { splitThoughts, ThoughtSplitter } from "./chat/thoughts.ts";
export type { WrittenPiece } from "./chat/thoughts.ts";
export { jsonTranscript, markdownTranscript } from "./chat/transcript.ts";
export { blobSource, bytesSource } from "./core/byte-source.ts";
export type { ByteSource, FileHandle } from "./core/byte-source.ts";
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
export type { EngineWorker } from "./core/port.ts";
export type { WeightLayout } from "./core/layout.ts";
export type { Shortlist, ShortlistWanted } from "./core/shortlist.ts";
export type { Logger } from "./core/logger.ts";
export type { CheckpointFormat, MetadataValue } from "./formats/checkpoint.ts";
export type { SessionDType } from "./formats/session-file.ts";
export { writeTrace } from "./formats/trace-file.ts";
export type { Trace, TraceFormat, TraceOrigin, TraceTensor } from "./formats/trace-file.ts";
export type { AdapterContents, LoraFactors, TrainedTensor } from "./model/adapter/export.ts";
export type { ModelConfig } from "./model/config.ts";
export type { DTypePolicy } from "./model/policy.ts";
export { combineStates, interpolateStates, mergeStates } from "./model/state-arithmetic.ts";
export type { StateTerm } from "./model/state-arithmetic.ts";
export { cosineSimilarity, stateEmbedding } from "./model/state-embedding.ts";
export type { StateEmbeddingOptions } from "./model/state-embedding.ts";
export type { StateTensor } from "./model/state.ts";
export { stateView } from "./model/state-view.ts";
export type { LayerStateView, StateOwner } from "./model/state-view.ts";
export type { StateOrientation } from "./model/weights/orientation.ts";
export { writeAdapter } from "./runtime/adapter.ts";
export type { LoraOptions, WriteAdapterOptions } from "./runtime/adapter.ts";
export type { OpenOptions } from "./runtime/api.ts";
export { BACKEND_NAMES, DEVICE_NAMES, isDeviceName } from "./runtime/backends.ts";
export type { BackendName, DeviceDescription, DeviceName } from "./runtime/backends.ts";
export { Answer } from "./runtime/chat/answer.ts";
export type { AnswerResult } from "./runtime/chat/answer.ts";
export { isChatFile } from "./runtime/chat/chat-file.ts";
export { CHAT_FORMATS, chatFormat } from "./runtime/chat/choose.ts";
export { Conversation } from "./runtime/chat/conversation.ts";
export type { ConversationOptions, SayOptions } from "./runtime/chat/conversation.ts";
export type { CompareOptions, CompareProgress, Comparison, WeightDifference } from "./runtime/compare.ts";
export { CONVERT_DTYPES } from "./runtime/convert.ts";
export type { ConvertDType, ConvertFormat, ConvertOptions } from "./runtime/convert.ts";
export type { Beam, BeamSearchOptions } from "./runtime/beam-search.ts";
export type { Choice, ChooseOptions, RankedChoice } from "./runtime/choose.ts";
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
  GuidanceOptions,
} from "./runtime/generation.ts";
export type { CheckpointSummary, TensorSummary } from "./runtime/inspect.ts";
export type { LoadOptions } from "./runtime/load.ts";
export { Model } from "./runtime/model.ts";
export type { ZeroInputs } from "./ops/backend.ts";
export type { ModelInfo, ReloadOptions, RestoreOptions, SessionOptions } from "./runtime/model.ts";
export type { KernelCount, LoadProgress, TokenProgress } from "./runtime/progress.ts";
export type { MatrixPreview, QuantizeOptions, QuantizePreview } from "./runtime/quantize.ts";
export type { LogitsWanted } from "./runtime/scheduler.ts";
export { Session } from "./runtime/session.ts";
export type { AppendOptions, ForwardOptions } from "./runtime/session.ts";
export { Snapshot } from "./runtime/snapshot.ts";
export type { SaveOptions } from "./runtime/snapshot.ts";
export type { FileSource } from "./runtime/source.ts";
export type { DrawnLogprob, TokenLogprob } from "./runtime/token-logprobs.ts";
export type { TraceOptions } from "./runtime/trace.ts";
export { diffTraces } from "./runtime/trace-difference.ts";
export type {
  TraceDifference,
  TracePlace,
  TraceTensorDifference,
  TraceTolerance,
} from "./runtime/trace-difference.ts";
export { writeTunedState } from "./runtime/tuned-state.ts";
export type { WriteTunedStateOptions } from "./runtime/tuned-state.ts";
export * as steps from "./sampler/all-steps.ts";
export type { LogitBias } from "./sampler/bias.ts";
export type { Candidates } from "./sampler/candidates.ts";
export { createChain } from "./sampler/chain.ts";
export type { Sampler } from "./sampler/chain.ts";
export type { History, TokenValues } from "./sampler/history.ts";
export { createSampler } from "./sampler/options.ts";
export type { MirostatOptions, SamplingOptions, XtcOptions } from "./sampler/options.ts";
export { parseChain } from "./sampler/parse.ts";
export type { PenaltyOptions } from "./sampler/penalties.ts";
export type { Random, RandomState } from "./sampler/random.ts";
export type { DryOptions, SequenceRepetitionOptions } from "./sampler/repeats.ts";
export type { Selector } from "./sampler/select.ts";
export type { Sorter } from "./sampler/sorter.ts";
export type { SamplerState } from "./sampler/state.ts";
export type {
  SamplerContext,
  SamplerFunction,
  SamplerStep,
  SamplerSteps,
  ShortOutcome,
  ShortStep,
  StepKind,
  Tail,
} from "./sampler/step.ts";
export { createByteTokenizer } from "./tokenizer/bytes.ts";
export type { Tokenizer } from "./tokenizer/tokenizer.ts";
export { Utf8Decoder } from "./tokenizer/utf8.ts";
