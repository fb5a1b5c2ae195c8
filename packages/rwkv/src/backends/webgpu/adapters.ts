// Which adapters there are. WebGPU has no list of them: it gives one for each wish that it knows, and the same one for several.

import { DeviceError } from "../../core/errors.ts";

const WISHES: readonly GPURequestAdapterOptions[] = [
  { powerPreference: "high-performance" },
  { powerPreference: "low-power" },
  { forceFallbackAdapter: true },
];

/** What is known of an adapter before it is used. */
export interface AdapterDescription {
  /** One line for people. */
  readonly description: string;
  /** Whether it says that the processor does its work. */
  readonly isSoftware: boolean;
}

/** An adapter, which gives one device. */
export interface FoundAdapter extends AdapterDescription {
  readonly adapter: GPUAdapter;
}

/**
 * All adapters that WebGPU gives, the one that it thinks fastest first.
 * @throws DeviceError if there is none
 */
export async function findAdapters(webgpu: GPU): Promise<FoundAdapter[]> {
  const found: FoundAdapter[] = [];
  for (const wish of WISHES) {
    const adapter = await request(webgpu, wish);
    if (adapter === null) continue;
    const one = describe(adapter);
    if (found.every(({ description }) => description !== one.description)) found.push(one);
  }
  if (found.length === 0) throw noAdapter();
  return found;
}

/**
 * @param name - its number in the list of `findAdapters`, or a part of its description in any case; null for the first
 * @throws DeviceError if there is none, or none of that name
 */
export async function findAdapter(webgpu: GPU, name: string | null): Promise<FoundAdapter> {
  if (name === null) {
    const adapter = await request(webgpu, WISHES[0]!);
    if (adapter === null) throw noAdapter();
    return describe(adapter);
  }
  const found = await findAdapters(webgpu);
  const chosen = /^\d+$/.test(name)
    ? found[Number(name)]
    : found.find(({ description }) => description.toLowerCase().includes(name.toLowerCase()));
  if (chosen !== undefined) return chosen;
  const list = found.map(({ description }, i) => `${i}: ${description}`).join("; ");
  throw new DeviceError(
    `WebGPU has no adapter "${name}". It gives ${list}. Name one by its number or a part of its name.`,
  );
}

async function request(webgpu: GPU, wish: GPURequestAdapterOptions): Promise<GPUAdapter | null> {
  try {
    return await webgpu.requestAdapter(wish);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new DeviceError(`WebGPU gives no adapter: ${message}`, { cause });
  }
}

function describe(adapter: GPUAdapter): FoundAdapter {
  const { description, vendor, architecture, device, isFallbackAdapter } = adapter.info;
  const name = description || [vendor, architecture, device].filter(Boolean).join(" ") || "unnamed adapter";
  return { adapter, description: name.replace(/\s+/g, " "), isSoftware: isFallbackAdapter };
}

function noAdapter(): DeviceError {
  return new DeviceError("WebGPU finds no adapter: there is no GPU, or no driver that it can use.");
}
