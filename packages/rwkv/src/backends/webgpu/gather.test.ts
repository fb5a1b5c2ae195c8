import { expect, test } from "vitest";
import type { Tensor } from "../../ops/tensor.ts";
import type { Product } from "./commands.ts";
import type { FusedCommand } from "./fusion.ts";
import { matricesToGather } from "./gather.ts";
import type { GpuDType } from "./kernels/formats.ts";
import { Memory } from "./memory.ts";
import { rowPacking } from "./packing.ts";
import type { Matrix } from "./weights.ts";

const ROWS = 4;
const COLUMNS = 64;
const F32_BYTES = 4 * ROWS * COLUMNS;

const matrices = new Map<Tensor, Matrix>();

function matrix(name: string, dtype: GpuDType = "f32", nParts = 1, isSparse = false): Tensor {
  const shape = [nParts * ROWS, COLUMNS];
  const tensor: Tensor = { index: matrices.size, kind: "weight", rows: "none", name, shape, dtype };
  const { words } = rowPacking(dtype, COLUMNS);
  const parts = Array.from({ length: nParts }, (_, i) => {
    const place = { memory: new Memory(name), at: 0, stride: words };
    return { firstRow: i * ROWS, nRows: ROWS, place, byteLength: 4 * words * ROWS };
  });
  matrices.set(tensor, { dtype, isSparse, parts });
  return tensor;
}

const row: Tensor = { index: 0, kind: "scratch", rows: "token", name: "x", shape: [COLUMNS], dtype: "f32" };

const products = (...list: Tensor[]): FusedCommand => ({
  op: "products",
  products: list.map((w): Product => {
    const nothing = { bias: null, activation: "none", factor: null, base: null, scale: 1 } as const;
    return { op: "product", out: row, w, x: row, ...nothing };
  }),
});

const gathered = (commands: readonly FusedCommand[], maxBytes: number): string[][] =>
  matricesToGather(commands, (tensor) => matrices.get(tensor)!, maxBytes).map((list) =>
    list.map(({ name }) => name),
  );

test("matrices of one type and form that are used together are put together, each once", () => {
  const [a, b, c, d] = [matrix("a"), matrix("b", "q8_0"), matrix("c"), matrix("d", "q8_0")];
  const sparse = matrix("sparse", "f32", 1, true);
  const commands = [products(a, b, sparse, c, d), products(a, matrix("e"), matrix("f"))];
  expect(gathered(commands, 2 ** 20)).toEqual([
    ["a", "c"],
    ["b", "d"],
    ["e", "f"],
  ]);
});

test("no buffer is longer than kernels can see, and what is cut stays apart", () => {
  const list = [matrix("a"), matrix("b"), matrix("cut", "f32", 2), matrix("c"), matrix("d"), matrix("e")];
  expect(gathered([products(...list)], 2 * F32_BYTES)).toEqual([
    ["a", "b"],
    ["c", "d"],
  ]);
  expect(gathered([products(...list)], F32_BYTES)).toEqual([]);
});
