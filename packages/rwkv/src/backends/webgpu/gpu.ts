// One GPU device, shared by all programs on it: its limits, its buffers, which are counted, its compiled pipelines, and
// its failures, which WebGPU tells late and elsewhere and which are turned into errors of the call that meets them here.

import { DeviceError } from "../../core/errors.ts";
import { findAdapter, type FoundAdapter } from "./adapters.ts";
import { findFeatures, wantedExtensions } from "./features.ts";
import type { KernelFeatures } from "./kernels/product.ts";
import { Pipelines } from "./pipelines.ts";
import { findRestrictions, type Restrictions } from "./restrictions.ts";
import type { Verdict } from "./trust.ts";
import { MAP_READ } from "./usage.ts";

/** A tenth of a second on a GPU of 0.3 TFLOPS, far below what drivers put up with. */
const SUBMITTED_WORK = 2 ** 34;

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

/** What the devices of one WebGPU have in common. */
interface Common {
  readonly restrictions: Restrictions;
  /** By adapter. */
  readonly verdicts: Map<string, Verdict>;
  readonly devices: Map<string | null, Promise<Gpu>>;
}

export class Gpu {
  /** Of the adapter and its driver, one line for people. */
  readonly description: string;
  /** Whether the adapter says that the processor does its work. */
  readonly isSoftware: boolean;
  readonly features: KernelFeatures;
  readonly pipelines: Pipelines;
  readonly device: GPUDevice;
  readonly verdict: Verdict;
  readonly #restrictions: Restrictions;
  readonly #buffers = new Map<GPUBuffer, number>();
  #byteLength = 0;
  #failure: DeviceError | null = null;

  private constructor(
    device: GPUDevice,
    features: KernelFeatures,
    { description, isSoftware }: FoundAdapter,
    { restrictions, verdicts }: Common,
  ) {
    this.verdict = verdicts.get(description) ?? { trusted: new Set(), failure: null };
    verdicts.set(description, this.verdict);
    this.device = device;
    this.features = features;
    this.description = description;
    this.isSoftware = restrictions.isSoftware ?? isSoftware;
    this.pipelines = new Pipelines(device, restrictions.compiles);
    this.#restrictions = restrictions;
    device.addEventListener("uncapturederror", (event) => {
      const { message } = event.error;
      this.#failure ??= new DeviceError(`The GPU (${description}) refused a command: ${message}`);
    });
    void device.lost.then(({ reason, message }) => {
      this.#failure = new DeviceError(
        `The GPU (${description}) was lost${reason === "destroyed" ? ", being destroyed" : ""}: ${message || "no reason given"} ` +
          `What was on it is gone: model.reload() opens it anew, and sessions go on where they were.`,
      );
    });
  }

  /** @throws DeviceError if the adapter gives no device */
  static async open(webgpu: GPU, found: FoundAdapter, common: Common): Promise<Gpu> {
    const { adapter, description } = found;
    const { without = [] } = common.restrictions;
    const requiredLimits = Object.fromEntries(WANTED_LIMITS.map((limit) => [limit, adapter.limits[limit]]));
    const requiredFeatures = wantedExtensions(adapter, without);
    try {
      const device = await adapter.requestDevice({ requiredLimits, requiredFeatures });
      const features = await findFeatures(webgpu, adapter, device, without);
      return new Gpu(device, features, found, common);
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
    const { limits } = this.device;
    const { maxBufferSize, maxStorageBufferBindingSize } = { ...this.#restrictions.limits };
    const most = Math.min(
      maxBufferSize ?? limits.maxBufferSize,
      maxStorageBufferBindingSize ?? limits.maxStorageBufferBindingSize,
    );
    return Math.floor(most / 4) * 4;
  }

  /** Most multiply-adds of one submission, or those of one dispatch. */
  get submittedWork(): number {
    return this.#restrictions.submittedWork ?? SUBMITTED_WORK;
  }

  /** Where bindings of uniform buffers may begin: at multiples of this. */
  get uniformAlignment(): number {
    return this.device.limits.minUniformBufferOffsetAlignment;
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
    const { memoryBytes = Infinity } = this.#restrictions;
    if (this.#byteLength > memoryBytes) failure ??= new Error(`There are ${memoryBytes} bytes.`);
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

const opened = new WeakMap<GPU, Common>();

/**
 * The device of an adapter, opened once for all its users; anew after a loss.
 * @param adapter - as in `findAdapter`
 * @throws DeviceError if there is no such adapter, or it gives no device
 */
export function openGpu(webgpu: GPU, adapter: string | null): Promise<Gpu> {
  const common = opened.get(webgpu) ?? {
    restrictions: findRestrictions(webgpu),
    verdicts: new Map<string, Verdict>(),
    devices: new Map<string | null, Promise<Gpu>>(),
  };
  opened.set(webgpu, common);
  const { devices } = common;
  const open = async (): Promise<Gpu> => Gpu.open(webgpu, await findAdapter(webgpu, adapter), common);
  const opening = devices.get(adapter)?.then((before) => (before.isLost ? open() : before), open) ?? open();
  devices.set(adapter, opening);
  return opening;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
