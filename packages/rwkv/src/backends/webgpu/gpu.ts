// One GPU device, shared by all programs on it: its limits, its buffers, which are counted, its compiled pipelines, and
// its failures, which WebGPU tells late and elsewhere and which are turned into errors of the call that meets them here.

import { DeviceError } from "../../core/errors.ts";
import { findFeatures, wantedExtensions, type GpuFeature } from "./features.ts";
import type { KernelFeatures } from "./kernels/product.ts";
import { Pipelines } from "./pipelines.ts";

/** Usage flags of WebGPU, whose global constants Node does not have. */
export const USAGE = { mapRead: 1, copySrc: 4, copyDst: 8, uniform: 64, storage: 128 } as const;

/** The mode of a mapping for reading. */
const MAP_READ = 1;

/** What is asked of an adapter beyond the defaults, as much as it has. */
const WANTED_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
] as const;

/** What a device holds at a moment. */
export interface BufferCount {
  readonly nBuffers: number;
  readonly byteLength: number;
}

export class Gpu {
  /** Of the adapter, one line for people. */
  readonly description: string;
  /** Whether the adapter says that the processor does its work. */
  readonly isSoftware: boolean;
  readonly limits: GPUSupportedLimits;
  readonly features: KernelFeatures;
  readonly pipelines: Pipelines;
  readonly device: GPUDevice;
  readonly #buffers = new Map<GPUBuffer, number>();
  #byteLength = 0;
  #failure: DeviceError | null = null;

  private constructor(device: GPUDevice, features: KernelFeatures, description: string, isSoftware: boolean) {
    this.device = device;
    this.features = features;
    this.isSoftware = isSoftware;
    this.description = description;
    this.limits = device.limits;
    this.pipelines = new Pipelines(device);
    device.addEventListener("uncapturederror", (event) => {
      const { message } = event.error;
      this.#failure ??= new DeviceError(`The GPU (${description}) refused a command: ${message}`);
    });
    void device.lost.then(({ reason, message }) => {
      this.#failure = new DeviceError(
        `The GPU (${description}) was lost${reason === "destroyed" ? ", being destroyed" : ""}: ${message || "no reason given"} ` +
          `What was on it is gone: load the model again, and go on from saved sessions.`,
      );
    });
  }

  /** @throws DeviceError if the adapter gives no device */
  static async open(webgpu: GPU, adapter: GPUAdapter, without: readonly GpuFeature[]): Promise<Gpu> {
    const description = describeAdapter(adapter);
    const requiredLimits = Object.fromEntries(WANTED_LIMITS.map((limit) => [limit, adapter.limits[limit]]));
    const requiredFeatures = wantedExtensions(adapter, without);
    try {
      const device = await adapter.requestDevice({ requiredLimits, requiredFeatures });
      const features = await findFeatures(webgpu, adapter, device, without);
      return new Gpu(device, features, description, adapter.info.isFallbackAdapter);
    } catch (cause) {
      throw new DeviceError(`The GPU (${description}) gives no device: ${messageOf(cause)}`, { cause });
    }
  }

  get isLost(): boolean {
    return this.#failure !== null;
  }

  /** @throws DeviceError if the device was lost or has refused a command */
  checkAlive(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  count(): BufferCount {
    return { nBuffers: this.#buffers.size, byteLength: this.#byteLength };
  }

  /** Most bytes of a buffer that a kernel can see. */
  get maxBindingBytes(): number {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.limits;
    return Math.floor(Math.min(maxBufferSize, maxStorageBufferBindingSize) / 4) * 4;
  }

  /**
   * Makes a buffer of zeros. Whether there was memory for it shows in `allocating`.
   * @param byteLength - a multiple of 4, within the limits
   */
  createBuffer(label: string, byteLength: number, usage: number, isMapped = false): GPUBuffer {
    const buffer = this.device.createBuffer({ label, size: byteLength, usage, mappedAtCreation: isMapped });
    this.#buffers.set(buffer, byteLength);
    this.#byteLength += byteLength;
    return buffer;
  }

  destroyBuffer(buffer: GPUBuffer): void {
    this.#byteLength -= this.#buffers.get(buffer) ?? 0;
    this.#buffers.delete(buffer);
    buffer.destroy();
  }

  /**
   * Runs `allocate`, which makes buffers; if it fails in any way they are destroyed again.
   * @param what - what the buffers are for, for the message
   * @throws DeviceError if there is no memory for them
   */
  async allocating<T>(what: string, allocate: () => T): Promise<T> {
    this.checkAlive();
    const before = new Set(this.#buffers.keys());
    this.device.pushErrorScope("validation");
    this.device.pushErrorScope("out-of-memory");
    let result: T | undefined;
    let failure: unknown = null;
    try {
      result = allocate();
    } catch (error) {
      failure = error;
    }
    const made = [...this.#buffers.keys()].filter((buffer) => !before.has(buffer));
    const wanted = made.reduce((sum, buffer) => sum + this.#buffers.get(buffer)!, 0);
    const errors = await Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]);
    failure ??= errors.find((error) => error !== null) ?? null;
    if (failure === null) return result as T;
    const held = this.#byteLength - wanted;
    for (const buffer of made) this.destroyBuffer(buffer);
    this.checkAlive();
    throw new DeviceError(
      `The GPU (${this.description}) has no memory for ${what}: ${wanted} bytes beside ${held} in use. ` +
        `Quantise the model further, close other programs that use the GPU, or use the cpu backend.`,
      { cause: failure },
    );
  }

  /**
   * Copies what a mappable buffer holds once the GPU is done with it.
   * @param target - takes as many bytes from the beginning of the buffer as it has room for
   * @throws DeviceError if the device was lost or has refused a command
   */
  async read(buffer: GPUBuffer, target: Float32Array): Promise<void> {
    try {
      await buffer.mapAsync(MAP_READ, 0, target.byteLength);
    } catch (cause) {
      await this.#settled();
      this.checkAlive();
      throw new DeviceError(`The GPU (${this.description}) gave no result: ${messageOf(cause)}`, { cause });
    }
    target.set(new Float32Array(buffer.getMappedRange(0, target.byteLength)));
    buffer.unmap();
    this.checkAlive();
  }

  /** Resolves when all commands so far are done. @throws DeviceError as `checkAlive` */
  async done(): Promise<void> {
    try {
      await this.device.queue.onSubmittedWorkDone();
    } catch (cause) {
      await this.#settled();
      this.checkAlive();
      throw new DeviceError(`The GPU (${this.description}) failed: ${messageOf(cause)}`, { cause });
    }
    this.checkAlive();
  }

  /** Lets a loss that is being told arrive before its consequences are. */
  #settled(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, 0));
  }
}

const opened = new WeakMap<GPU, Map<string, Promise<Gpu>>>();

/**
 * The device of the default adapter, opened once for all its users; anew after a loss.
 * @param without - features that are not to be used; devices with and without are kept apart
 * @throws DeviceError if there is no adapter, or it gives no device
 */
export function openGpu(gpu: GPU, without: readonly GpuFeature[] = []): Promise<Gpu> {
  const devices = opened.get(gpu) ?? new Map<string, Promise<Gpu>>();
  opened.set(gpu, devices);
  const key = [...without].sort().join(" ");
  const again = (): Promise<Gpu> => requestGpu(gpu, without);
  const opening = devices.get(key)?.then((before) => (before.isLost ? again() : before), again) ?? again();
  devices.set(key, opening);
  return opening;
}

async function requestGpu(gpu: GPU, without: readonly GpuFeature[]): Promise<Gpu> {
  let adapter: GPUAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (cause) {
    throw new DeviceError(`WebGPU gives no adapter: ${messageOf(cause)}`, { cause });
  }
  if (adapter === null) {
    throw new DeviceError("WebGPU finds no adapter: there is no GPU, or no driver that it can use.");
  }
  return Gpu.open(gpu, adapter, without);
}

/** One line for people. */
export function describeAdapter({ info }: GPUAdapter): string {
  const name = info.description || [info.vendor, info.architecture, info.device].filter(Boolean).join(" ");
  return (name || "unnamed adapter").replace(/\s+/g, " ");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
