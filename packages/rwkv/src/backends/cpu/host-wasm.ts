// Programs in WebAssembly: weights and tables share one memory. How steps run: replay.ts and pool.ts.

import { byteLengthOf } from "../../core/dtype.ts";
import { Arena } from "./arena.ts";
import type { HostFactory, ProgramHost } from "./host.ts";
import type { Replayer } from "./replay.ts";

export function wasmHosts(replayer: Replayer, description: string): HostFactory {
  return { description, kernels: "wasm-simd", hasInt8Activations: false, create: () => createHost(replayer) };
}

function createHost(replayer: Replayer): ProgramHost {
  const memory = replayer.createMemory();
  const arena = new Arena(memory);
  return {
    arena,
    nThreads: replayer.nThreads,
    placeWeight({ name, shape, dtype }) {
      const byteLength = byteLengthOf(dtype, shape);
      const address = arena.allocate(byteLength, `weight "${name}"`);
      return {
        address,
        layout: "rows",
        bytes: () => new Uint8Array(memory.buffer, address, byteLength),
        seal: () => undefined,
        release: () => arena.free(address),
      };
    },
    start: (encoded, commands) => replayer.start(memory, encoded, commands),
  };
}
