// Subpath `rwkv-train/kernels`: the interface of training kernels, for those who write a faster set.

export { countChunks, WKV_CHUNK } from "./kernels.ts";
export { loadTrainKernels } from "./load.ts";
export { referenceKernels } from "./reference/reference.ts";
export type { GemmForm, KernelModule, Numbers, Precision, TrainKernels, TrainMemory } from "./kernels.ts";
