// Products with activations rounded to 8 bits, on every kernel set: near the formula at the head of
// packages/native/src/kernels/activations.h, and the same bits for a row alone, among others, on other kernels, and for a
// matrix that comes in panels already.

import { describe, expect, test } from "vitest";
import { createCpuBackend } from "../../packages/rwkv/src/backends/cpu/cpu.ts";
import {
  buildProgram,
  seededRandom,
  stepAll,
  uploadOf,
} from "../../packages/rwkv/src/backends/cpu/testing.ts";
import type { NativeAddon } from "../../packages/rwkv/src/core/native.ts";
import { DTYPES, isDType, isQuantized, type QuantDType } from "../../packages/rwkv/src/core/dtype.ts";
import { layoutByteLength, packMatrix, type WeightLayout } from "../../packages/rwkv/src/core/layout.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";
import { storedWeight, uniform } from "../contract/data.ts";
import { roundings } from "../contract/limits.ts";
import { NATIVE } from "../support/backends.ts";

const QUANT_DTYPES: readonly QuantDType[] = Object.keys(DTYPES).filter(isDType).filter(isQuantized);

/** Two panels and a part of one; two super-blocks. */
const [N_OUT, N_IN] = [37, 512];
/** All sizes of tiles, and more than what every thread rounds for itself. */
const N_ROWS = 17;

const random = seededRandom(5);
const rows = Float32Array.from({ length: N_ROWS * N_IN }, () => 4 * random() - 2);
rows.fill(0, 32, 64);
// A block of subnormal numbers, and one whose greatest activation stands alone.
rows.subarray(64, 96).fill(1e-40);
rows.fill(0, 96, 127);

const weightOf = (dtype: QuantDType): ReturnType<typeof storedWeight> =>
  storedWeight(dtype, [N_OUT, N_IN], uniform(0.5), seededRandom(7));

/** The product of all rows in one step, then of each row in a step of its own. */
async function products(
  backend: Backend,
  dtype: QuantDType,
  x: Float32Array,
  layout: WeightLayout = "rows",
): Promise<{ together: Float32Array; alone: Float32Array }> {
  const builder = backend.createBuilder({ maxRows: N_ROWS, activations: "int8" });
  const shape = [N_OUT, N_IN];
  const bytes = new Uint8Array(layoutByteLength(layout, dtype, shape));
  packMatrix(layout, dtype, shape, weightOf(dtype).bytes, bytes);
  const w = await builder.weight({
    ...uploadOf("w", shape, bytes, dtype),
    layout,
    byteLength: bytes.byteLength,
  });
  const program = await buildProgram(builder, N_IN, N_OUT, (inputs) => {
    const product = builder.scratch("product", [N_OUT], "token");
    return (ops) => {
      ops.matmul(product, w, inputs.x);
      return product;
    };
  });
  const slot = program.createSlot();
  const together = await stepAll(program, slot, x, N_IN);
  const alone = new Float32Array(together.length);
  for (let row = 0; row < x.length / N_IN; row++) {
    alone.set(await stepAll(program, slot, x.subarray(row * N_IN, (row + 1) * N_IN), N_IN), row * N_OUT);
  }
  program.dispose();
  return { together, alone };
}

/** Activations as the kernels see them. */
function rounded(x: Float32Array): Float64Array {
  const result = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += 32) {
    const block = x.subarray(at, at + 32);
    const greatest = Math.max(...block.map(Math.abs));
    const inverse = Math.fround(127 / greatest);
    if (!Number.isFinite(inverse)) continue;
    block.forEach((value, i) => {
      result[at + i] = Math.fround(greatest / 127) * nearestEven(Math.fround(value * inverse));
    });
  }
  return result;
}

function nearestEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

describe.skipIf(NATIVE.length === 0)("native int8 products", () => {
  test.each(QUANT_DTYPES)(
    "of %s are those of the rounded activations, with the same bits everywhere",
    async (dtype) => {
      const { values } = weightOf(dtype);
      const x = rounded(rows);
      const results: Float32Array[] = [];
      for (const { name, create } of NATIVE) {
        const { together, alone } = await products(await create(), dtype, rows);
        for (let row = 0; row < N_ROWS; row++) {
          for (let output = 0; output < N_OUT; output++) {
            let want = 0;
            let magnitude = 0;
            for (let k = 0; k < N_IN; k++) {
              const product = x[row * N_IN + k]! * values[output * N_IN + k]!;
              want += product;
              magnitude += Math.abs(product);
            }
            // Minimums cancel: what is added up may be 16 times the products.
            const limit = roundings(4 * (N_IN / 16), 16 * magnitude);
            const error = Math.abs(together[row * N_OUT + output]! - want);
            expect(error, `${name}: y[${row},${output}], wanted ${want}`).toBeLessThanOrEqual(limit);
          }
        }
        expect(alone).toEqual(together);
        results.push(together, (await products(await create(), dtype, rows, "panels")).together);
      }
      for (const result of results) expect(result).toEqual(results[0]);
    },
  );

  test("quants of -128 and activations of the greatest size are multiplied exactly", async () => {
    const nRows = 9; // more than every thread rounds for itself, and one behind the fours
    const [nOut, nIn] = [16, 64];
    const bytes = new Uint8Array((nOut * nIn * 34) / 32);
    const view = new DataView(bytes.buffer);
    for (let at = 0; at < bytes.length; at += 34) {
      view.setUint16(at, 0x3c00, true); // f16 of 1
      bytes.fill(at % 68 === 0 ? 128 : 127, at + 2, at + 34); // -128, then 127
    }
    const x = Float32Array.from({ length: nRows * nIn }, (_, i) =>
      Math.floor(i / nIn) % 2 === 0 ? 127 : -127,
    );
    for (const { create } of NATIVE) {
      const builder = (await create()).createBuilder({ maxRows: nRows, activations: "int8" });
      const w = await builder.weight(uploadOf("w", [nOut, nIn], bytes, "q8_0"));
      const program = await buildProgram(builder, nIn, nOut, (inputs) => {
        const product = builder.scratch("product", [nOut], "token");
        return (ops) => {
          ops.matmul(product, w, inputs.x);
          return product;
        };
      });
      const slot = program.createSlot();
      const want = Float32Array.from(
        { length: nRows * nOut },
        (_, i) => x[Math.floor(i / nOut) * nIn]! * -32,
      );
      expect(await stepAll(program, slot, x, nIn)).toEqual(want);
      expect(await stepAll(program, slot, x.subarray(0, nIn), nIn)).toEqual(want.subarray(0, nOut));
      program.dispose();
    }
  });

  test("1, 2 and 3 threads give the same bits", async () => {
    const addon = (await import("rwkv-native")).addon as NativeAddon;
    const loadNative = (): Promise<{ addon: NativeAddon; kernelSet: NativeAddon["kernelSets"][number] }> =>
      Promise.resolve({ addon, kernelSet: addon.kernelSets[0]! });
    const results = [];
    for (const threads of [1, 2, 3]) {
      results.push(await products(await createCpuBackend({ loadNative, threads }), "q4_k", rows));
    }
    for (const result of results) expect(result).toEqual(results[0]);
  });

  test.each([NaN, Infinity, -Infinity])(
    "an activation of %s leaves no number in its row, and others alone",
    async (value) => {
      const wrong = rows.slice();
      wrong[3 * N_IN + 200] = value;
      for (const { create } of NATIVE) {
        for (const dtype of ["q8_0", "q4", "q6_k"] as const) {
          const backend = await create();
          const want = (await products(backend, dtype, rows)).together;
          const got = (await products(backend, dtype, wrong)).together;
          expect(got.subarray(3 * N_OUT, 4 * N_OUT).every(Number.isNaN)).toBe(true);
          want.fill(0, 3 * N_OUT, 4 * N_OUT);
          got.fill(0, 3 * N_OUT, 4 * N_OUT);
          expect(got).toEqual(want);
        }
      }
    },
  );

  test("several products in a row on threads that share rounded rows keep apart", async () => {
    const { bytes } = weightOf("q8_0");
    const [{ create }] = NATIVE as [(typeof NATIVE)[number]];
    const builder = (await create()).createBuilder({ maxRows: 64, activations: "int8" });
    const w = await builder.weight(uploadOf("w", [N_OUT, N_IN], bytes, "q8_0"));
    const program = await buildProgram(builder, N_IN, N_OUT, (inputs) => {
      const [product, total] = ["product", "total"].map((name) => builder.scratch(name, [N_OUT], "token"));
      const x = ["x2", "x3"].map((name) => builder.scratch(name, [N_IN], "token"));
      return (ops) => {
        x.forEach((scaled) => {
          ops.copy(scaled, inputs.x);
          ops.add(scaled, inputs.x, 1);
        });
        ops.matmul(total!, w, inputs.x);
        for (let i = 0; i < 20; i++) {
          ops.matmul(product!, w, x[i % 2]!);
          ops.add(total!, product!, 1);
        }
        return total!;
      };
    });
    const slot = program.createSlot();
    const want = await stepAll(program, slot, rows, N_IN);
    for (let i = 0; i < 200; i++) expect(await stepAll(program, slot, rows, N_IN)).toEqual(want);
    const single = await stepAll(program, slot, rows.subarray(0, N_IN), N_IN);
    expect(single).toEqual(want.subarray(0, N_OUT));
    program.dispose();
  });
});
