// WebGPU in Node: Dawn, through the npm package `webgpu`, an optional peer that brings no part of this package's own.

import { DeviceError } from "../../core/errors.ts";

/** The part of the package that is used. */
interface DawnModule {
  create(options: readonly string[]): GPU;
}

let opened: Promise<GPU> | null = null;

/**
 * The same object at every call, so that models share a device.
 * @throws DeviceError if the package is not installed or does not load
 */
export function loadWebgpu(): Promise<GPU> {
  opened ??= open();
  return opened;
}

async function open(): Promise<GPU> {
  try {
    const dawn = (await import("webgpu")) as unknown as DawnModule;
    return dawn.create([]);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message.split("\n")[0]! : String(cause);
    throw new DeviceError(
      `WebGPU in Node needs the package "webgpu" (npm install webgpu), which does not load: ${message}`,
      { cause },
    );
  }
}
