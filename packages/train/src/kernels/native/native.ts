// Native kernels, which the addon of rwkv-native brings. The addon is found by whoever runs on Node; here it is an
// argument, so that a browser's bundle carries no loader.

import { DeviceError } from "rwkv";
import { CALL_NAMES, SIGNATURES, type KernelCalls } from "../calls.ts";
import type { KernelModule } from "../kernels.ts";
import { outsideKernels } from "../outside.ts";
import { createSharedMemory } from "../reference/reference.ts";

/** What the addon gives for a kernel set; src/train_calls.h of rwkv-native describes it. */
export interface NativeTrainKernels {
  readonly roomElements: number;
  readonly wkv4RoomElements: number;
  readonly signatures: Readonly<Record<string, string>>;
  readonly calls: KernelCalls;
}

/** The part of the addon that training uses. */
export interface NativeTrainAddon {
  /** @returns null if this processor lacks the instructions of that set */
  trainKernels(kernelSet: string): NativeTrainKernels | null;
}

/**
 * @param kernelSet - `avx512`, `avx2` or `neon`
 * @throws DeviceError if the processor lacks its instructions, or if the addon was built for another version
 */
export function nativeKernels(addon: NativeTrainAddon, kernelSet: string): KernelModule {
  // An addon from before there were kernels of training lacks the function.
  const native = (addon as Partial<NativeTrainAddon>).trainKernels?.(kernelSet);
  if (native === undefined) {
    throw new DeviceError(
      `the native addon has no kernels of training. "npm run build:native" builds it anew.`,
    );
  }
  if (native === null) {
    throw new DeviceError(`this processor lacks the instructions of the native kernel set ${kernelSet}.`);
  }
  for (const name of CALL_NAMES) {
    const found = native.signatures[name];
    if (found === SIGNATURES[name]) continue;
    throw new DeviceError(
      `the native addon was built for another version: its kernel ${name} takes ${found ?? "nothing"}, expected ` +
        `${SIGNATURES[name]}. "npm run build:native" builds it anew.`,
    );
  }
  const name = `native-${kernelSet}`;
  return {
    name,
    precision: "f32",
    reservedByteLength: 0,
    createMemory: createSharedMemory,
    open: () =>
      outsideKernels(name, native.calls, {
        fixed: new Float32Array(native.roomElements),
        forWkv4: (nRows) => new Float32Array(nRows * native.wkv4RoomElements),
      }),
  };
}
