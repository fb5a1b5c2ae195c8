// The entry point: training of RWKV models.

export type { KernelModule, TrainKernels } from "./kernels/kernels.ts";
