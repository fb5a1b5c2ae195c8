// The native kernels as a program: threads, aborting, disposing, and processes that end.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { buildProgram, seededRandom, uploadOf } from "../../packages/rwkv/src/backends/cpu/testing.ts";
import { createCpuBackend } from "../../packages/rwkv/src/backends/cpu/cpu.ts";
import { NATIVE_LAYOUT } from "../../packages/rwkv/src/backends/cpu/host-native.ts";
import type { NativeAddon } from "../../packages/rwkv/src/core/native.ts";
import type { Backend, Program } from "../../packages/rwkv/src/ops/backend.ts";
import { NATIVE } from "../support/backends.ts";

const random = seededRandom(11);
const randomValues = (n: number): Float32Array => Float32Array.from({ length: n }, () => random() - 0.5);

/** nProducts products of rows of `width` with one matrix, each activated. */
async function productsProgram(
  backend: Backend,
  matrix: Float32Array,
  width: number,
  nProducts: number,
): Promise<Program> {
  const builder = backend.createBuilder({ maxRows: 64 });
  const w = await builder.weight(uploadOf("w", [width, width], matrix));
  return buildProgram(builder, width, width, ({ x }) => {
    const products = [0, 1].map((i) => builder.scratch(`product ${String(i)}`, [width], "token"));
    return (ops) => {
      let from = x;
      for (let i = 0; i < nProducts; i++) {
        const to = products[i % 2]!;
        ops.matmul(to, w, from);
        ops.activate(to, to, "tanh");
        from = to;
      }
      return from;
    };
  });
}

describe.skipIf(NATIVE.length === 0)("native kernels", () => {
  const withThreads = async (nThreads: number): Promise<Backend> => {
    const addon = (await import("rwkv-native")).addon as NativeAddon;
    const kernelSet = addon.kernelSets[0]!;
    return createCpuBackend({ loadNative: () => Promise.resolve({ addon, kernelSet }), threads: nThreads });
  };

  test("the addon was built for the layout of today", async () => {
    const addon = (await import("rwkv-native")).addon as NativeAddon;
    expect(addon.layout).toBe(NATIVE_LAYOUT);
  });

  test("1, 2, 3 and 7 threads give the same bits, also where there is less than a panel for each", async () => {
    for (const width of [5, 33, 200]) {
      const matrix = randomValues(width * width);
      const rows = randomValues(9 * width);
      const results: Float32Array[] = [];
      for (const nThreads of [1, 2, 3, 7]) {
        const program = await productsProgram(await withThreads(nThreads), matrix, width, 3);
        const slot = program.createSlot();
        results.push((await program.step([{ slot, nRows: 9, logits: "all" }], [rows])).slice());
        program.dispose();
      }
      for (const result of results) expect(result).toEqual(results[0]);
    }
  });

  test("all kernel sets give the same bits for products", async () => {
    const width = 96;
    const matrix = randomValues(width * width);
    const rows = randomValues(7 * width);
    const results: Float32Array[] = [];
    for (const { create } of NATIVE) {
      const builder = (await create()).createBuilder({ maxRows: 7 });
      const w = await builder.weight(uploadOf("w", [width, width], matrix));
      const program = await buildProgram(builder, width, width, ({ x }) => {
        const product = builder.scratch("product", [width], "token");
        return (ops) => {
          ops.matmul(product, w, x);
          return product;
        };
      });
      const slot = program.createSlot();
      results.push((await program.step([{ slot, nRows: 7, logits: "all" }], [rows])).slice());
      program.dispose();
    }
    for (const result of results) expect(result).toEqual(results[0]);
  });

  test("an abort ends a step long before its last record, and the program goes on", async () => {
    const width = 512;
    const program = await productsProgram(await withThreads(2), randomValues(width * width), width, 2000);
    const slot = program.createSlot();
    const rows = randomValues(64 * width);
    const run = [{ slot, nRows: 64, logits: "last" }] as const;
    const start = performance.now();
    await program.step(run, [rows]);
    const wholeMs = performance.now() - start;
    const controller = new AbortController();
    const reason = new Error("enough");
    const step = program.step(run, [rows], { signal: controller.signal });
    const aborted = performance.now();
    setImmediate(() => controller.abort(reason));
    await expect(step).rejects.toBe(reason);
    expect(performance.now() - aborted).toBeLessThan(wholeMs / 2);
    expect(await program.step([{ slot, nRows: 1, logits: "all" }], [rows.subarray(0, width)])).toHaveLength(
      width,
    );
    program.dispose();
  });

  test("the event loop turns while a step runs", async () => {
    const width = 512;
    const program = await productsProgram(await withThreads(1), randomValues(width * width), width, 500);
    const slot = program.createSlot();
    let isDone = false;
    const step = program.step([{ slot, nRows: 64, logits: "last" }], [randomValues(64 * width)]).then(() => {
      isDone = true;
    });
    let nTurns = 0;
    while (!(isDone as boolean)) {
      await new Promise((resolve) => setImmediate(resolve));
      nTurns += 1;
    }
    await step;
    expect(nTurns).toBeGreaterThan(10);
    program.dispose();
  });

  test("steps of several programs on the same threads keep apart", async () => {
    const backend = await withThreads(2);
    const width = 64;
    const rows = randomValues(4 * width);
    const matrices = [1, 2, 3].map(() => randomValues(width * width));
    const programs = await Promise.all(matrices.map((matrix) => productsProgram(backend, matrix, width, 5)));
    const steps = (): Promise<Float32Array[]> =>
      Promise.all(
        programs.map(async (program) => {
          const slot = program.createSlot();
          const result = (await program.step([{ slot, nRows: 4, logits: "all" }], [rows])).slice();
          program.releaseSlot(slot);
          return result;
        }),
      );
    const first = await steps();
    for (let i = 0; i < 300; i++) expect(await steps()).toEqual(first);
    for (const program of programs) program.dispose();
  });

  test("a program disposed during a step rejects that step, and its memory goes afterwards", async () => {
    const width = 256;
    const backend = await withThreads(2);
    for (let i = 0; i < 20; i++) {
      const program = await productsProgram(backend, randomValues(width * width), width, 50);
      const slot = program.createSlot();
      const step = program.step([{ slot, nRows: 64, logits: "last" }], [randomValues(64 * width)]);
      program.dispose();
      await expect(step).rejects.toThrow(/disposed/);
    }
  });

  test("a process with idle threads, or with a step in progress, ends by itself", async () => {
    const script = `
      const { addon } = await import("rwkv-native");
      const pool = addon.createPool(addon.kernelSets[0], 3);
      const memory = addon.createMemory();
      new Uint32Array(addon.memoryBuffer(memory, 65536)).fill(0);
      await addon.step(pool, memory, 64, 0);
      console.log("stepped");
      if (process.argv[1] === "exit") { addon.step(pool, memory, 64, 0); process.exit(0); }
    `;
    for (const mode of ["idle", "exit"]) {
      const { stdout } = await promisify(execFile)(
        process.execPath,
        ["--input-type=module", "--eval", script, mode],
        { timeout: 30_000 },
      );
      expect(stdout).toBe("stepped\n");
    }
  });
});
