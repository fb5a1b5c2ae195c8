// Programs in WebAssembly: weights and tables share one memory. How steps run: replay.ts and pool.ts.

import { byteLengthOf } from "../../core/dtype.ts";
import {
  hasLayouts,
  layoutByteLength,
  PANEL_OUTPUTS,
  unpackMatrix,
  type WeightLayout,
} from "../../core/layout.ts";
import type { WeightUpload } from "../../ops/backend.ts";
import { Arena } from "./arena.ts";
import { dtypeNumber } from "./encode.ts";
import type { HostFactory, ProgramHost, WeightPlace } from "./host.ts";
import { instantiatePacking, type Packing, type Simd } from "./kernels.ts";
import type { Replayer } from "./replay.ts";

export function wasmHosts(replayer: Replayer, simd: Simd, description: string): HostFactory {
  return {
    description,
    kernels: `wasm-${simd}`,
    hasInt8Activations: true,
    create: () => createHost(replayer),
  };
}

function createHost(replayer: Replayer): ProgramHost {
  const memory = replayer.createMemory();
  const arena = new Arena(memory);
  let packing: Promise<Packing> | null = null;
  return {
    arena,
    nThreads: replayer.nThreads,
    placeWeight: (upload) =>
      placeWeight(arena, upload, () => (packing ??= instantiatePacking(replayer.module, memory))),
    start: (encoded, commands) => replayer.start(memory, encoded, commands),
  };
}

/** Matrices are kept in panels, unless they have f16 numbers that are not finite, which only kernels of rows heed. */
function placeWeight(
  arena: Arena,
  { name, shape, dtype }: WeightUpload,
  getPacking: () => Promise<Packing>,
): WeightPlace {
  const [nOut = 1, nIn] = shape;
  const rowsByteLength = byteLengthOf(dtype, shape);
  let layout: WeightLayout = nIn !== undefined && hasLayouts(dtype) ? "panels" : "rows";
  const byteLength = layout === "rows" ? rowsByteLength : layoutByteLength(layout, dtype, shape);
  const address = arena.allocate(byteLength, `weight "${name}"`);
  const bytes = (order: WeightLayout): Uint8Array =>
    arena.bytes.subarray(address, address + (order === "rows" ? rowsByteLength : byteLength));
  return {
    address,
    get layout() {
      return layout;
    },
    bytes,
    async seal(order) {
      if (layout === "rows") return;
      const packing = await getPacking();
      const rowBytes = rowsByteLength / nOut;
      if (order === "rows") {
        const scratch = arena.allocate(PANEL_OUTPUTS * rowBytes, "room to pack weights in");
        packing.pack(dtypeNumber(dtype), address, nOut, rowBytes, scratch);
        arena.free(scratch);
      }
      if (packing.isFinitePanels(dtypeNumber(dtype), address, byteLength) === 0) {
        unpackMatrix("panels", dtype, shape, bytes("panels").slice(), bytes("rows"));
        layout = "rows";
      }
    },
    release: () => arena.free(address),
  };
}
