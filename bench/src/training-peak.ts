// A thread of bench:training: products of square matrices that stay in its cache, in f32, until told to stop. All threads of
// a measurement work at the same time. Posts how many multiplications and additions it made, and in how many milliseconds.

import { parentPort, workerData } from "node:worker_threads";
import { loadTrainKernels } from "rwkv-train/kernels";

const SIZE = 256;
const ROOM = 3 * SIZE * SIZE * Float32Array.BYTES_PER_ELEMENT;

/** When all threads begin and end, in milliseconds of `performance.timeOrigin` plus `performance.now()`. */
const { start, end } = workerData as { start: number; end: number };
const now = (): number => performance.timeOrigin + performance.now();

const module = await loadTrainKernels();
const memory = module.createMemory(module.reservedByteLength + ROOM);
const kernels = module.open(memory);
const buffer = memory instanceof WebAssembly.Memory ? memory.buffer : memory;
const [a, b, c] = [0, 1, 2].map(
  (i) => new Float32Array(buffer, module.reservedByteLength + (i * ROOM) / 3, SIZE * SIZE),
);
a!.fill(0.5);
b!.fill(0.25);
const multiply = (): void => kernels.gemm(c!, a!, b!, SIZE, SIZE, SIZE, "nt", false);

for (let i = 0; i < 3; i++) multiply();
while (now() < start);
const begin = now();
let nProducts = 0;
for (; now() < end; nProducts++) multiply();
parentPort!.postMessage({ flops: nProducts * 2 * SIZE ** 3, ms: now() - begin });
