// Kernels in WebAssembly, for where there is no addon, the browser among them. The module works on shared memory, so that
// all threads see the weights; each thread has an instance of its own, with room at the end of the memory, which grows for
// it. What WebAssembly lacks is done by the reference set in f32, on the same memory.

import { DeviceError } from "rwkv";
import {
  CALL_NAMES,
  SIGNATURES,
  type CallName,
  type KernelArgument,
  type KernelCall,
  type KernelCalls,
} from "./calls.ts";
import type { KernelModule, TrainKernels } from "./kernels.ts";
import { outsideKernels } from "./outside.ts";
import { referenceKernels } from "./reference/reference.ts";

const PAGE_BYTES = 65536;
/** Of a WebAssembly memory. */
const MAX_PAGES = 65536;

/** Address 0 stands for null: nothing lies there. */
const RESERVED_BYTES = 64;

/** Instructions that kernels are made of; `relaxed` multiplies and adds at once where the processor can. */
export type TrainSimd = "simd" | "relaxed";

/**
 * @param simd - the best that this engine has, if left out
 * @throws DeviceError if this engine has no WebAssembly with 128-bit SIMD and threads
 */
export async function wasmKernels(simd?: TrainSimd): Promise<KernelModule> {
  const relaxed = simd === "simd" ? null : await compile("relaxed");
  const module = simd === "relaxed" ? relaxed : (relaxed ?? (await compile("simd")));
  if (module === null) {
    throw new DeviceError(
      `the kernels of training need WebAssembly with 128-bit ${simd === "relaxed" ? "relaxed " : ""}SIMD and threads, ` +
        `which this engine refuses. Use Node ${simd === "relaxed" ? "22" : "20.19"} or later, or a current Chromium, Firefox or Safari.`,
    );
  }
  const name = module === relaxed ? "wasm-relaxed" : "wasm-simd";
  return {
    name,
    precision: "f32",
    reservedByteLength: RESERVED_BYTES,
    createMemory(byteLength) {
      const initial = Math.ceil(byteLength / PAGE_BYTES);
      try {
        return new WebAssembly.Memory({ initial, maximum: MAX_PAGES, shared: true });
      } catch (cause) {
        throw new DeviceError(
          `no WebAssembly memory of ${byteLength} bytes for training, which may have ${MAX_PAGES * PAGE_BYTES}. Use ` +
            `fewer tokens per piece or a smaller model.`,
          { cause },
        );
      }
    },
    open(memory) {
      if (!(memory instanceof WebAssembly.Memory)) {
        throw new DeviceError(`${name}: the memory is not WebAssembly's. Use what createMemory gave.`);
      }
      return open(name, module, memory);
    },
  };
}

/** @returns null if this engine refuses the module */
async function compile(simd: TrainSimd): Promise<WebAssembly.Module | null> {
  const { KERNELS_BASE64 } = await (simd === "relaxed"
    ? import("./generated/kernels-relaxed.ts")
    : import("./generated/kernels.ts"));
  const bytes = Uint8Array.from(atob(KERNELS_BASE64), (character) => character.charCodeAt(0));
  return WebAssembly.validate(bytes) ? WebAssembly.compile(bytes) : null;
}

function open(name: string, module: WebAssembly.Module, memory: WebAssembly.Memory): TrainKernels {
  const exports = new WebAssembly.Instance(module, { env: { memory } }).exports as Readonly<
    Partial<Record<CallName, (...args: number[]) => number | undefined>> & { roomBytes: () => number }
  >;
  const reference = referenceKernels("f32").open(memory);
  // Growing first: the buffer of before ends where it ended.
  const room = grow(memory, exports.roomBytes());
  const fixed = new Float32Array(memory.buffer, room, exports.roomBytes() / 4);
  const words = new Words(memory);
  const isThere = (callName: CallName): boolean => exports[callName] !== undefined;
  // Those that are not there are replaced below.
  const calls = Object.fromEntries(
    CALL_NAMES.filter(isThere).map((callName) => [callName, callOf(callName, exports[callName]!, words)]),
  ) as unknown as KernelCalls;
  const outside = outsideKernels(name, calls, { fixed, forWkv4: (nRows) => new Float32Array(nRows) });
  return {
    ...outside,
    ...Object.fromEntries(
      Object.entries(reference).filter(([key, value]) => typeof value === "function" && !(key in exports)),
    ),
    // Heads that leave a vector cut short are not worth a kernel.
    wkv7: (...args) => ((args[11] / args[12]) % 4 === 0 ? outside.wkv7(...args) : reference.wkv7(...args)),
    wkv7Backward: (...args) =>
      (args[16] / args[17]) % 4 === 0 ? outside.wkv7Backward(...args) : reference.wkv7Backward(...args),
  };
}

/** @returns the address of `byteLength` new bytes at the end of the memory. @throws DeviceError if it cannot grow */
function grow(memory: WebAssembly.Memory, byteLength: number): number {
  try {
    return memory.grow(Math.ceil(byteLength / PAGE_BYTES)) * PAGE_BYTES;
  } catch (cause) {
    throw new DeviceError(
      `no room for ${byteLength} bytes more in the WebAssembly memory, which has ${memory.buffer.byteLength}. Use fewer ` +
        `threads or a smaller model.`,
      { cause },
    );
  }
}

/** Room of one thread for lists, and for whole numbers that do not lie in the memory. Emptied by each call. */
class Words {
  readonly #memory: WebAssembly.Memory;
  #address: number;
  #nWords = PAGE_BYTES / 4;
  #used = 0;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
    this.#address = grow(memory, PAGE_BYTES);
  }

  /** @returns room for at least `nWords` between this and the next call of this function */
  clear(nWords: number): void {
    this.#used = 0;
    if (nWords <= this.#nWords) return;
    this.#address = grow(this.#memory, 4 * nWords);
    this.#nWords = nWords;
  }

  /** @returns the address of a copy */
  put(values: ArrayLike<number>): number {
    const address = this.#address + 4 * this.#used;
    new Int32Array(this.#memory.buffer, address, values.length).set(values);
    this.#used += values.length;
    return address;
  }
}

/** A kernel that takes addresses as one that takes arrays. */
function callOf(name: CallName, run: (...args: number[]) => number | undefined, words: Words): KernelCall {
  const signature = SIGNATURES[name];
  const addressOf = (array: KernelArgument): number =>
    array === null ? 0 : (array as Float32Array | Int32Array).byteOffset;
  return (...args) => {
    let nWords = 0;
    for (const arg of args) if (arg instanceof Int32Array || Array.isArray(arg)) nWords += arg.length;
    words.clear(nWords);
    const passed = args.map((arg, i) => {
      if (signature[i] === "n") return arg as number;
      if (arg instanceof Int32Array) return words.put(arg);
      if (signature[i] === "l") return words.put((arg as readonly KernelArgument[]).map(addressOf));
      return addressOf(arg);
    });
    return run(...passed) ?? 0;
  };
}
