// Subpath `rwkv/native`: the search for the native addon, for training, which has kernels in it too. Node alone.

export type { KernelSet, NativeAddon, NativeKernels } from "./core/native.ts";
export { findNative } from "./platform/node/native.ts";
export type { NativeSearch } from "./platform/node/native.ts";
