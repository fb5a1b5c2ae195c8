// The entry point: training of RWKV models on the CPU, in Node.

export { freshConfig, readTrainConfig } from "./runtime/config.ts";
export type { FreshModel, TrainConfig } from "./runtime/config.ts";
export type { LossLine } from "./runtime/losses.ts";
export { lossChart, runningMeans } from "./runtime/chart.ts";
export { train } from "./runtime/train.ts";
export type { TrainOptions, TrainResult, TrainStart, TrainStep } from "./runtime/train.ts";
export type { TrainedParts } from "./parameters/parameters.ts";
export type { BatchOptions } from "./data/batches.ts";
export type { KernelName } from "./kernels/load.ts";
