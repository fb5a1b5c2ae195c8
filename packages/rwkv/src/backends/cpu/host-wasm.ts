// Programs in WebAssembly: weights and tables share one memory, and steps are cut into slices, between which the event
// loop gets its turn.

import { Arena } from "./arena.ts";
import type { HostFactory, ProgramHost, Replay, StepPlan } from "./host.ts";
import { instantiateKernels, type RunKernels } from "./kernels.ts";
import { Pacer } from "./pacer.ts";

export function wasmHosts(module: WebAssembly.Module): HostFactory {
  const pacer = new Pacer();
  return {
    description: "cpu: WebAssembly SIMD, 1 thread",
    hasInt8Activations: false,
    create: () => createHost(module, pacer),
  };
}

function createHost(module: WebAssembly.Module, pacer: Pacer): ProgramHost {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const arena = new Arena(memory);
  return {
    arena,
    placeWeight({ name, byteLength }) {
      const address = arena.allocate(byteLength, `weight "${name}"`);
      return {
        address,
        bytes: () => new Uint8Array(memory.buffer, address, byteLength),
        seal: () => undefined,
        release: () => arena.free(address),
      };
    },
    // The memory goes when nothing refers to it any more.
    dispose: () => undefined,
    async start(): Promise<Replay> {
      const run = await instantiateKernels(module, memory);
      return (step) => replayInSlices(run, pacer, step);
    },
  };
}

/** Runs all commands; a command too long for a slice is cut into parts, as threads would share it. */
async function replayInSlices(run: RunKernels, pacer: Pacer, step: StepPlan): Promise<void> {
  const { context, nCommands, signal } = step;
  let first = 0;
  while (first < nCommands) {
    const budget = pacer.workPerSlice;
    let work = step.workOf(first);
    let last = first + 1;
    while (last < nCommands && work + step.workOf(last) <= budget) {
      work += step.workOf(last);
      last += 1;
    }
    const nParts = last - first > 1 ? 1 : Math.max(1, Math.ceil(work / budget));
    for (let part = 0; part < nParts; part++) {
      const start = performance.now();
      run(context, first, last, part, nParts);
      const now = performance.now();
      pacer.record(work / nParts, now - start);
      if (pacer.isPauseDue(now)) {
        await pacer.pause();
        signal?.throwIfAborted();
        step.checkAlive();
      }
    }
    first = last;
  }
}
