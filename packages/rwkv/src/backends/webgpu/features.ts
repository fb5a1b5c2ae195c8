// What a device offers beyond plain WebGPU, as far as kernels make use of it.
//
// WGSL does not say which threads of a workgroup share a subgroup. Kernels count on threads with consecutive numbers,
// which every driver known gives; a probe looks at it once before they do.

import type { KernelFeatures } from "./kernels/product.ts";
import { MAP_READ, USAGE } from "./usage.ts";

/** A feature that kernels use where it is there. */
export type GpuFeature = "subgroups" | "packed_4x8_integer_dot_product";

/** Those of them that a device must be asked for. */
export function wantedExtensions({ features }: GPUAdapter, without: readonly GpuFeature[]): GPUFeatureName[] {
  const name = "subgroups";
  return features.has(name) && !without.includes(name) ? [name] : [];
}

export async function findFeatures(
  { wgslLanguageFeatures }: GPU,
  { info }: GPUAdapter,
  device: GPUDevice,
  without: readonly GpuFeature[],
): Promise<KernelFeatures> {
  const packedDot = "packed_4x8_integer_dot_product";
  const hasSubgroups = device.features.has("subgroups") && (await areSubgroupsConsecutive(device));
  return {
    subgroupThreads: !hasSubgroups ? 0 : info.subgroupMinSize >= 16 ? 16 : 4,
    hasPackedDot: wgslLanguageFeatures.has(packedDot) && !without.includes(packedDot),
  };
}

const PROBED_THREADS = 128;

/** Each thread tells its place in its subgroup and that subgroup's size, which is a power of two. */
const PROBE = `enable subgroups;
@group(0) @binding(0) var<storage, read_write> places: array<vec2u, ${PROBED_THREADS}>;
@compute @workgroup_size(${PROBED_THREADS})
fn main(
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_invocation_id) place: u32,
  @builtin(subgroup_size) size: u32,
) { places[thread] = vec2u(place, size); }`;

async function areSubgroupsConsecutive(device: GPUDevice): Promise<boolean> {
  const size = 8 * PROBED_THREADS;
  const places = device.createBuffer({ size, usage: USAGE.storage | USAGE.copySrc });
  const staging = device.createBuffer({ size, usage: USAGE.copyDst | USAGE.mapRead });
  try {
    const pipeline = await device.createComputePipelineAsync({
      layout: "auto",
      compute: { module: device.createShaderModule({ code: PROBE }) },
    });
    const layout = pipeline.getBindGroupLayout(0);
    const entries = [{ binding: 0, resource: { buffer: places } }];
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(places, 0, staging, 0, size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(MAP_READ);
    const words = new Uint32Array(staging.getMappedRange());
    for (let thread = 0; thread < PROBED_THREADS; thread++) {
      if (words[2 * thread] !== thread % words[2 * thread + 1]!) return false;
    }
    return true;
  } finally {
    places.destroy();
    staging.destroy();
  }
}
