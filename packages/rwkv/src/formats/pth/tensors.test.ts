import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesSource, type ByteSource } from "../../core/byte-source.ts";
import { DTYPES } from "../../core/dtype.ts";
import { FormatError, ShapeError, UnsupportedError } from "../../core/errors.ts";
import { GATHER_WINDOW_BYTES } from "./limits.ts";
import type { PickleTensor, StorageDType } from "./pickle-values.ts";
import { makeTensor } from "./tensors.ts";
import { rowMajor, STORAGE_CLASS } from "./testing.ts";

const NUM_RUNS = process.env["RWKV_TEST_LONG"] ? 10_000 : 300;
/** Bytes in front of the storage, so that addresses are told from offsets. */
const LEAD = 3;
const FINDER = { check: () => undefined, locate: () => Promise.resolve(LEAD) };

interface View {
  readonly dtype?: StorageDType;
  readonly nStored: number;
  readonly start?: number;
  readonly nElements?: number;
  readonly offset?: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

function viewOf({
  dtype = "u8",
  nStored,
  start = 0,
  nElements = nStored,
  offset = 0,
  shape,
  strides,
}: View): PickleTensor {
  return {
    kind: "tensor",
    storage: { kind: "storage", key: "0", dtype, nStored, start, nElements },
    offset,
    shape,
    strides,
  };
}

/** Storage bytes that tell every place of the first 64 KiB apart. */
function patternSource(byteLength: number): ByteSource {
  const bytes = new Uint8Array(LEAD + byteLength);
  for (let i = 0; i < byteLength; i++) bytes[LEAD + i] = (i % 251) ^ (i >> 8);
  return bytesSource(bytes, "test.pth");
}

async function readView(
  view: View,
  source = patternSource(view.nStored * DTYPES[view.dtype ?? "u8"].blockBytes),
) {
  const tensor = makeTensor("w", viewOf(view), source, FINDER);
  const bytes = new Uint8Array(tensor.byteLength);
  await tensor.read(bytes);
  return bytes;
}

/** The elements by definition, index by index. */
async function gatherByDefinition(view: View): Promise<Uint8Array> {
  const { shape, strides, offset = 0, start = 0, dtype = "u8" } = view;
  const elementBytes = DTYPES[dtype].blockBytes;
  const stored = new Uint8Array(view.nStored * elementBytes);
  await patternSource(stored.byteLength).read(LEAD, stored);
  const bytes: number[] = [];
  const visit = (axis: number, element: number): void => {
    if (axis === shape.length)
      bytes.push(...stored.subarray(element * elementBytes, (element + 1) * elementBytes));
    else for (let i = 0; i < shape[axis]!; i++) visit(axis + 1, element + i * strides[axis]!);
  };
  if (!shape.includes(0)) visit(0, start + offset);
  return Uint8Array.from(bytes);
}

describe("reading", () => {
  test.each<[string, View]>([
    ["a scalar", { nStored: 4, offset: 2, shape: [], strides: [] }],
    ["a contiguous matrix", { nStored: 12, shape: [3, 4], strides: [4, 1] }],
    ["a contiguous slice", { nStored: 12, offset: 4, shape: [2, 4], strides: [4, 1] }],
    [
      "strides of dimensions of length 1 that mean nothing",
      { nStored: 6, shape: [1, 6, 1], strides: [77, 1, 99] },
    ],
    ["a transposed matrix", { nStored: 12, shape: [4, 3], strides: [1, 4] }],
    ["a column", { nStored: 12, offset: 1, shape: [3], strides: [4] }],
    ["rows with padding", { nStored: 15, shape: [3, 4], strides: [5, 1] }],
    ["three permuted dimensions", { nStored: 24, shape: [4, 2, 3], strides: [1, 12, 4] }],
    ["a repeated row that the storage has room for", { nStored: 12, shape: [2, 4], strides: [0, 1] }],
    ["a repeated element", { nStored: 9, offset: 8, shape: [3], strides: [0] }],
    ["an unfolded vector", { nStored: 12, shape: [3, 3], strides: [2, 1] }],
    ["an empty tensor", { nStored: 0, shape: [0, 5], strides: [5, 1] }],
    [
      "an empty tensor of huge other dimensions",
      { nStored: 0, shape: [2 ** 52, 0, 2 ** 52], strides: [1, 1, 1] },
    ],
    [
      "a part of a storage",
      { nStored: 12, start: 5, nElements: 6, offset: 1, shape: [2, 2], strides: [1, 2] },
    ],
  ])("%s comes in row-major order", async (_, view) => {
    expect(await readView(view)).toEqual(await gatherByDefinition(view));
  });

  test.each(Object.keys(STORAGE_CLASS) as StorageDType[])(
    "%s elements keep their bytes together",
    async (dtype) => {
      for (const strides of [
        [4, 1],
        [1, 3],
      ]) {
        const view = { dtype, nStored: 12, shape: [3, 4], strides };
        expect(await readView(view)).toEqual(await gatherByDefinition(view));
      }
    },
  );

  test("any permuted, sliced and stepped view equals its definition", async () => {
    const views = fc
      .array(
        fc.record({
          n: fc.integer({ min: 1, max: 5 }),
          of: fc.integer({ min: 0, max: 3 }),
          step: fc.constantFrom(1, 1, 2),
        }),
        { maxLength: 5 },
      )
      .chain((axes) =>
        fc.record({
          axes: fc.constant(axes),
          order: fc.shuffledSubarray([...axes.keys()], { minLength: axes.length }),
          dtype: fc.constantFrom<StorageDType>("u8", "bf16", "f32", "f64"),
        }),
      )
      .map(({ axes, order, dtype }): View => {
        const full = axes.map(({ n, of, step }) => n * step + of);
        const fullStrides = rowMajor(full);
        return {
          dtype,
          nStored: full.reduce((a, b) => a * b, 1),
          offset: axes.reduce((sum, { of }, i) => sum + of * fullStrides[i]!, 0),
          shape: order.map((i) => axes[i]!.n),
          strides: order.map((i) => axes[i]!.step * fullStrides[i]!),
        };
      });
    await fc.assert(
      fc.asyncProperty(views, async (view) => {
        expect(await readView(view)).toEqual(await gatherByDefinition(view));
      }),
      { seed: 7, numRuns: NUM_RUNS },
    );
  });

  test("a transposed matrix larger than the window is read once, front to back, in windows", async () => {
    const [rows, columns] = [3, Math.ceil((2.5 * GATHER_WINDOW_BYTES) / 6)];
    const source = patternSource(rows * columns * 2);
    const reads: { offset: number; byteLength: number }[] = [];
    const counting: ByteSource = {
      ...source,
      read(offset, target) {
        reads.push({ offset, byteLength: target.byteLength });
        return source.read(offset, target);
      },
    };
    const view = {
      dtype: "bf16",
      nStored: rows * columns,
      shape: [columns, rows],
      strides: [1, columns],
    } as const;
    const bytes = await readView(view, counting);
    for (let done = LEAD, i = 0; i < reads.length; done += reads[i]!.byteLength, i++)
      expect(reads[i]!.offset).toBe(done);
    expect(reads.map(({ byteLength }) => byteLength)).toEqual([
      GATHER_WINDOW_BYTES,
      GATHER_WINDOW_BYTES,
      rows * columns * 2 - 2 * GATHER_WINDOW_BYTES,
    ]);
    const stored = new Uint8Array(rows * columns * 2);
    await source.read(LEAD, stored);
    const wanted = new Uint8Array(stored.byteLength);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        wanted[2 * (column * rows + row)] = stored[2 * (row * columns + column)]!;
        wanted[2 * (column * rows + row) + 1] = stored[2 * (row * columns + column) + 1]!;
      }
    }
    expect(Buffer.compare(bytes, wanted)).toBe(0);
  });

  test("gaps wider than the window are not read", async () => {
    const nStored = 4 * GATHER_WINDOW_BYTES;
    let nRead = 0;
    const source: ByteSource = {
      name: "test.pth",
      byteLength: LEAD + nStored,
      read(offset, target) {
        nRead += target.byteLength;
        target.fill((offset - LEAD) / (2 * GATHER_WINDOW_BYTES) + 1);
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
    };
    const bytes = await readView({ nStored, shape: [2], strides: [2 * GATHER_WINDOW_BYTES] }, source);
    expect([...bytes]).toEqual([1, 2]);
    expect(nRead).toBe(GATHER_WINDOW_BYTES + 1);
  });

  test("an aborted signal stops the reading", async () => {
    const tensor = makeTensor(
      "w",
      viewOf({ nStored: 4, shape: [4], strides: [1] }),
      patternSource(4),
      FINDER,
    );
    await expect(tensor.read(new Uint8Array(4), AbortSignal.abort())).rejects.toThrow("aborted");
  });

  test("a target of another length is refused", async () => {
    const tensor = makeTensor(
      "w",
      viewOf({ nStored: 4, shape: [4], strides: [1] }),
      patternSource(4),
      FINDER,
    );
    await expect(tensor.read(new Uint8Array(5))).rejects.toThrow(ShapeError);
  });
});

describe("refused views", () => {
  const make = (view: View) => () => makeTensor("w", viewOf(view), patternSource(8), FINDER);

  test.each<[string, View]>([
    ["one element too far", { nStored: 12, shape: [3, 4], strides: [4, 2] }],
    ["an offset past the end", { nStored: 4, offset: 4, shape: [1], strides: [1] }],
    ["a scalar of an empty storage", { nStored: 0, shape: [], strides: [] }],
    ["a part left behind", { nStored: 12, start: 4, nElements: 4, shape: [5], strides: [1] }],
    [
      "strides whose product is beyond exact numbers",
      { nStored: 8, shape: [2 ** 52, 2 ** 52], strides: [2 ** 52, 2 ** 52] },
    ],
  ])("%s is damage", (_, view) => {
    expect(make(view)).toThrow(FormatError);
    expect(make(view)).toThrow(`tensor "w"`);
  });

  test.each<[string, View]>([
    ["an expanded element", { nStored: 1, shape: [50], strides: [0] }],
    ["an expanded element of 2^104", { nStored: 1, shape: [2 ** 52, 2 ** 52], strides: [0, 0] }],
    ["a windowed view of more elements than are stored", { nStored: 4, shape: [2, 3], strides: [1, 1] }],
    ["a windowed view that walks backwards", { nStored: 8, shape: [2, 3], strides: [1, 1] }],
    ["an interleaved view", { nStored: 8, shape: [2, 3], strides: [3, 2] }],
  ])("%s is unsupported", (_, view) => {
    expect(make(view)).toThrow(UnsupportedError);
    expect(make(view)).toThrow("tensor.contiguous()");
  });
});
