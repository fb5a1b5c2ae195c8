// Compiled kernels of a device, kept by their text: models and layers that compute alike share them. Those of one program
// are compiled side by side.

import { DeviceError } from "../../core/errors.ts";
import type { KernelBinding } from "./kernels/kernel.ts";

/** `GPUShaderStage.COMPUTE`. */
const COMPUTE_STAGE = 4;

export class Pipelines {
  readonly #device: GPUDevice;
  readonly #rewrite: (text: string) => string;
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();

  /** @param rewrite - for tests: what is compiled in place of a text */
  constructor(device: GPUDevice, rewrite: (text: string) => string = (text) => text) {
    this.#device = device;
    this.#rewrite = rewrite;
  }

  /** The layout of bind groups: two uniform buffers, then storage buffers. */
  layout(bindings: readonly KernelBinding[]): GPUBindGroupLayout {
    const key = bindings.map(({ isWritten }) => (isWritten ? "w" : "r")).join("");
    let layout = this.#layouts.get(key);
    if (layout === undefined) {
      const types = [
        "uniform",
        "uniform",
        ...bindings.map(({ isWritten }) => (isWritten ? "storage" : "read-only-storage")),
      ];
      layout = this.#device.createBindGroupLayout({
        entries: types.map((type, binding) => ({
          binding,
          visibility: COMPUTE_STAGE,
          buffer: { type: type as GPUBufferBindingType },
        })),
      });
      this.#layouts.set(key, layout);
    }
    return layout;
  }

  /** Whether the kernel is compiled, or on the way. */
  has(text: string): boolean {
    return this.#pipelines.has(text);
  }

  /** @throws DeviceError if the driver does not compile it */
  compile(label: string, text: string, layout: GPUBindGroupLayout): Promise<GPUComputePipeline> {
    let pipeline = this.#pipelines.get(text);
    if (pipeline === undefined) {
      pipeline = this.#compile(label, text, layout);
      this.#pipelines.set(text, pipeline);
    }
    return pipeline;
  }

  async #compile(label: string, text: string, layout: GPUBindGroupLayout): Promise<GPUComputePipeline> {
    const module = this.#device.createShaderModule({ label, code: this.#rewrite(text) });
    try {
      return await this.#device.createComputePipelineAsync({
        label,
        layout: this.#device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: "main" },
      });
    } catch (cause) {
      const { messages } = await module.getCompilationInfo();
      const first = messages[0];
      const where = first === undefined ? "" : ` Line ${first.lineNum}: ${first.message}`;
      throw new DeviceError(
        `The GPU's driver does not compile the kernel of ${label}: ${(cause as Error).message}${where}`,
        { cause },
      );
    }
  }
}
