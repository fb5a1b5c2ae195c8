import { describe, expect, test } from "vitest";
import { bytesSource } from "../../core/byte-source.ts";
import { byteLengthOf, type WeightDType } from "../../core/dtype.ts";
import { FormatError, ShapeError, UnsupportedError, UsageError } from "../../core/errors.ts";
import { hasLayouts, layoutByteLength, packMatrix, type WeightLayout } from "../../core/layout.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { openCheckpoint } from "../open.ts";
import {
  counting,
  MemorySink,
  readTensor,
  safetensorsBytes,
  tensorInMemory,
} from "../safetensors/testing.ts";
import { writePacked, type PackedMatrix } from "./packed.ts";

function rowsOf(dtype: WeightDType, shape: readonly number[]): Uint8Array {
  return counting(byteLengthOf(dtype, shape));
}

/** A matrix of `counting` bytes in rows, in another order. */
function matrix(
  name: string,
  dtype: WeightDType,
  layout: WeightLayout,
  shape: readonly number[],
): PackedMatrix {
  const rows = rowsOf(dtype, shape);
  const packed = layout === "rows" ? rows : new Uint8Array(layoutByteLength(layout, dtype, shape));
  if (layout !== "rows") packMatrix(layout, dtype, shape, rows, packed);
  return {
    name,
    dtype,
    layout,
    shape,
    byteLength: packed.byteLength,
    read: (target) => {
      target.set(packed);
      return Promise.resolve();
    },
  };
}

const MATRICES = [
  matrix("rows", "q8", "rows", [5, 64]),
  matrix("panels", "q4", "panels", [17, 128]),
  matrix("large", "nf4", "columns", [300, 512]),
  matrix("levels", "sf4", "panels", [16, 64]),
  matrix("blocks", "q6_k", "rows", [1, 256]),
  matrix("plain", "f16", "panels", [3, 7]),
];

async function write(
  matrices = MATRICES,
  tokenizer: Uint8Array | null = Uint8Array.of(1, 2, 3),
): Promise<Uint8Array> {
  const sink = new MemorySink();
  const tensors = [tensorInMemory("v16", "f16", [3]), tensorInMemory("v32", "f32", [1, 5])];
  await writePacked(sink, { matrices, tensors, tokenizer, metadata: new Map([["made by", "a test"]]) });
  return sink.bytes();
}

function open(bytes: Uint8Array): Promise<Checkpoint> {
  return openCheckpoint(bytesSource(bytes, "a.safetensors"));
}

describe("a file that was written", () => {
  test("gives every matrix in rows and as it was packed, and all else as it was", async () => {
    const checkpoint = await open(await write());
    expect(checkpoint).toMatchObject({ format: "packed", formatVersion: 1, name: "a.safetensors" });
    expect([...checkpoint.metadata]).toEqual([["made by", "a test"]]);
    expect([...checkpoint.tensors.keys()].sort()).toEqual(
      ["rows", "panels", "large", "levels", "blocks", "plain", "v16", "v32"].sort(),
    );
    for (const want of MATRICES) {
      const { name, dtype, layout, shape, byteLength } = want;
      const tensor = checkpoint.tensors.get(name)!;
      expect(tensor).toMatchObject({ dtype, shape, packed: { layout, byteLength } });
      expect(hasLayouts(dtype) || layout === "rows").toBe(true);
      expect(await readTensor(tensor)).toEqual(rowsOf(dtype, shape));
      const [packed, wanted] = [new Uint8Array(byteLength), new Uint8Array(byteLength)];
      await tensor.packed!.read(packed);
      await want.read(wanted);
      expect(packed).toEqual(wanted);
      await expect(tensor.packed!.read(new Uint8Array(byteLength + 1))).rejects.toThrow(ShapeError);
      await expect(tensor.read(new Uint8Array(1))).rejects.toThrow(ShapeError);
    }
    expect(checkpoint.tensors.get("v32")).toMatchObject({ dtype: "f32", shape: [1, 5] });
    expect(checkpoint.tensors.get("v32")!.packed).toBeUndefined();
    expect(await readTensor(checkpoint.tensors.get("v16"))).toEqual(counting(6));
    expect(await readTensor(checkpoint.tokenizer)).toEqual(Uint8Array.of(1, 2, 3));
    expect((await open(await write(MATRICES, null))).tokenizer).toBeUndefined();
  });

  test("has large matrices at pages and small ones at lines of the cache, zeros between", async () => {
    const bytes = await write();
    const headerLength = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    expect((8 + headerLength) % 4096).toBe(0);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength))) as Record<
      string,
      { dtype: string; shape: number[]; data_offsets: [number, number] }
    >;
    for (const { name, byteLength } of MATRICES) {
      const { dtype, shape, data_offsets } = header[name]!;
      expect(dtype).toBe("U8");
      expect(shape[0]! % (name === "large" ? 4096 : 64)).toBe(0);
      const start = 8 + headerLength + data_offsets[0];
      expect(start % (name === "large" ? 4096 : 64)).toBe(0);
      const padding = bytes.subarray(start + byteLength, 8 + headerLength + data_offsets[1]);
      expect(padding.every((byte) => byte === 0)).toBe(true);
    }
  });

  test("cannot have two tensors of one name, nor one called like the tokenizer", async () => {
    await expect(write([MATRICES[0]!, MATRICES[0]!])).rejects.toThrow(UsageError);
    await expect(write([{ ...MATRICES[0]!, name: "tokenizer" }])).rejects.toThrow(/two of that name/);
    await expect(write([{ ...MATRICES[0]!, name: "v16" }])).rejects.toThrow(/two of that name/);
  });
});

describe("a file that was made by other hands", () => {
  interface Parts {
    readonly version?: string;
    /** Of the matrix "w", or the whole text. */
    readonly description?: unknown;
    readonly dtype?: string;
    readonly shape?: readonly number[];
    readonly byteLength?: number;
    readonly others?: Readonly<Record<string, unknown>>;
    readonly spaces?: number;
  }

  const GOOD = { dtype: "q8", layout: "panels", shape: [16, 64] };
  /** Of a panel of 16 rows of one block. */
  const LENGTH = 16 * 66;

  function file(parts: Parts): Uint8Array {
    const { version = "1", description = GOOD, dtype = "U8", byteLength = LENGTH, others = {} } = parts;
    const { shape = [byteLength] } = parts;
    const tensors = typeof description === "string" ? description : JSON.stringify({ w: description });
    const header = JSON.stringify({
      __metadata__: { "rwkv.packed": version, "rwkv.tensors": tensors },
      w: { dtype, shape, data_offsets: [0, byteLength] },
      ...others,
    });
    const spaces = parts.spaces ?? (64 - ((8 + header.length) % 64)) % 64;
    return safetensorsBytes(header + " ".repeat(spaces), byteLength);
  }

  test("is read if it is right", async () => {
    const checkpoint = await open(file({}));
    expect(checkpoint.tensors.get("w")).toMatchObject({ dtype: "q8", shape: [16, 64], byteLength: LENGTH });
    await open(file({ byteLength: LENGTH + 4095 }));
  });

  test("of another version is refused", async () => {
    await expect(open(file({ version: "2" }))).rejects.toThrow(UnsupportedError);
    await expect(open(file({ version: "2" }))).rejects.toThrow(/version "2", but version 1 is read/);
  });

  const huge = 2 ** 31 - 1;
  test.each<[string, Parts, RegExp]>([
    ["no description", { description: "" }, /metadata "rwkv.tensors"/],
    ["a description that is a list", { description: "[]" }, /is not an object/],
    ["a repeated name", { description: `{"w":${JSON.stringify(GOOD)},"w":1}` }, /w/],
    ["a matrix that is not described", { description: "{}" }, /is bytes that nothing describes/],
    ["a number as description", { description: 5 }, /has the dtype that is no text/],
    ["an unknown dtype", { description: { ...GOOD, dtype: "q9" } }, /has the dtype "q9"/],
    ["a dtype of no weight", { description: { ...GOOD, dtype: "i8" } }, /has the dtype "i8"/],
    ["no layout", { description: { ...GOOD, layout: 1 } }, /has the layout that is no text/],
    ["an unknown layout", { description: { ...GOOD, layout: "tiles" } }, /has the layout "tiles"/],
    ["a layout that the type lacks", { description: { ...GOOD, dtype: "q6_k" } }, /none of a matrix of q6_k/],
    ["no shape", { description: { ...GOOD, shape: null } }, /two whole numbers/],
    ["a vector", { description: { ...GOOD, shape: [64] } }, /two whole numbers/],
    ["three dimensions", { description: { ...GOOD, shape: [1, 16, 64] } }, /two whole numbers/],
    ["a dimension of zero", { description: { ...GOOD, shape: [0, 64] } }, /two whole numbers/],
    ["a broken dimension", { description: { ...GOOD, shape: [16, 64.5] } }, /two whole numbers/],
    ["half a block", { description: { ...GOOD, shape: [16, 96] } }, /no whole number of blocks/],
    [
      "more data than bytes",
      { description: { ...GOOD, shape: [17, 64] } },
      /2112 bytes, but its data has 1056/,
    ],
    [
      "dimensions beyond all files",
      { description: { ...GOOD, shape: [huge, huge - 63] } },
      /bytes, but its data/,
    ],
    ["a page too much", { byteLength: LENGTH + 4096 }, /1056 bytes, but its data has 5152/],
    ["numbers instead of bytes", { dtype: "I8" }, /should be bytes, but is i8 \[1056\]/],
    ["bytes in a shape", { shape: [2, LENGTH / 2] }, /should be bytes, but is u8 \[2, 528\]/],
    ["data between lines of the cache", { spaces: 3 }, /no multiple of 64/],
    [
      "a tokenizer of numbers",
      { others: { tokenizer: { dtype: "F32", shape: [0], data_offsets: [LENGTH, LENGTH] } } },
      /"tokenizer" should be bytes/,
    ],
  ])("with %s is refused", async (_, parts, message) => {
    await expect(open(file(parts))).rejects.toThrow(FormatError);
    await expect(open(file(parts))).rejects.toThrow(message);
  });

  test("with a description of a tensor that is not there is refused", async () => {
    const description = JSON.stringify({ w: GOOD, x: GOOD });
    await expect(open(file({ description }))).rejects.toThrow(
      /tensor "x" is in "rwkv.tensors", but not in the file/,
    );
  });
});
