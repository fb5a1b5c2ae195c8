import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesSource } from "../../core/byte-source.ts";
import { encodeFromF32 } from "../../core/decode.ts";
import { byteLengthOf, type DType } from "../../core/dtype.ts";
import { RwkvError, ShapeError, UnsupportedError, UsageError } from "../../core/errors.ts";
import type { CheckpointTensor, MetadataValue } from "../checkpoint.ts";
import { readGguf } from "./gguf.ts";
import { GgufBytes, tensorOf, writeToBytes } from "./testing.ts";
import { writeGguf, type GgufArray, type GgufValue } from "./write.ts";

const SEED = 7;

test("one small file has exactly the bytes that the format's description gives", async () => {
  const tensors = [tensorOf("a", "f32", [1, 2], [1, 2]), tensorOf("b", "f16", [], [0.5])];
  const got = await writeToBytes(tensors, new Map([["k", { type: "u16", value: 515 }]]));
  const want = new GgufBytes()
    .magic(3)
    .u64(2)
    .u64(1)
    .pair("k", 2, (b) => b.raw(3, 2))
    .entry({ name: "a", dimensions: [2, 1], type: 0, offset: 0 })
    .entry({ name: "b", dimensions: [1], type: 1, offset: 32 })
    .pad(32)
    .f32(1, 2)
    .pad(32)
    .raw(0, 0x38)
    .pad(32)
    .bytes();
  expect(got).toEqual(want);
});

test("tensors of every dtype it writes come back with name, shape, dtype and bytes", async () => {
  const values = Array.from({ length: 192 }, (_, i) => Math.sin(i) * 3);
  const dtypes = ["f32", "f16", "bf16", "q8_0"] as const;
  const tensors = dtypes.map((dtype) => tensorOf(`blk.0.${dtype}`, dtype, [2, 3, 32], values));
  const checkpoint = await readGguf(bytesSource(await writeToBytes(tensors)));
  expect([...checkpoint.tensors.keys()]).toEqual(tensors.map(({ name }) => name));
  for (const dtype of dtypes) {
    const tensor = checkpoint.tensors.get(`blk.0.${dtype}`)!;
    const want = new Uint8Array(byteLengthOf(dtype, [2, 3, 32]));
    encodeFromF32(dtype, Float32Array.from(values), want);
    const got = new Uint8Array(tensor.byteLength);
    await tensor.read(got);
    expect(tensor).toMatchObject({ dtype, shape: [2, 3, 32] });
    expect(got).toEqual(want);
  }
});

test("a file that is read and written again is the same file", async () => {
  const tensors = [
    tensorOf("x", "q8_0", [4, 64], new Array<number>(256).fill(1.5)),
    tensorOf("y", "bf16", [5], [1, 2, 3, 4, 5]),
  ];
  const first = await writeToBytes(tensors);
  const checkpoint = await readGguf(bytesSource(first));
  expect(await writeToBytes([...checkpoint.tensors.values()])).toEqual(first);
});

test("general.alignment decides where tensors start", async () => {
  const metadata = new Map<string, GgufValue>([["general.alignment", { type: "u32", value: 4096 }]]);
  const file = await writeToBytes([tensorOf("a", "f32", [1], [1]), tensorOf("b", "f32", [1], [2])], metadata);
  expect(file.byteLength).toBe(3 * 4096);
  expect(new Float32Array(file.buffer)[(2 * 4096) / 4]).toBe(2);
  expect((await readGguf(bytesSource(file))).tensors.size).toBe(2);
});

test("one tensor is in memory at a time: each is written before the next is read", async () => {
  const events: string[] = [];
  const traced = (name: string): CheckpointTensor => ({
    ...tensorOf(name, "f32", [8], new Array<number>(8).fill(0)),
    read: () => {
      events.push(`read ${name}`);
      return Promise.resolve();
    },
  });
  const write = (bytes: Uint8Array): Promise<void> => {
    events.push(`write ${bytes.byteLength}`);
    return Promise.resolve();
  };
  await writeGguf({ write }, [traced("a"), traced("b")], new Map());
  expect(events.slice(1)).toEqual(["read a", "write 32", "read b", "write 32"]);
});

const integer = (min: number, max: number): fc.Arbitrary<number> => fc.integer({ min, max });
const float32 = fc.float({ noNaN: true });
const smallArrays = { maxLength: 5 };
const arrays: fc.Arbitrary<GgufArray> = fc.letrec<{ array: GgufArray }>((tie) => ({
  array: fc.oneof(
    { maxDepth: 3 },
    fc.record({
      type: fc.constant("array"),
      elementType: fc.constant("i32"),
      value: fc.array(fc.integer(), smallArrays),
    }),
    fc.record({
      type: fc.constant("array"),
      elementType: fc.constant("f32"),
      value: fc.array(float32, smallArrays),
    }),
    fc.record({
      type: fc.constant("array"),
      elementType: fc.constant("i64"),
      value: fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), smallArrays),
    }),
    fc.record({
      type: fc.constant("array"),
      elementType: fc.constant("bool"),
      value: fc.array(fc.boolean(), smallArrays),
    }),
    fc.record({
      type: fc.constant("array"),
      elementType: fc.constant("string"),
      value: fc.array(fc.string({ unit: "binary" }), smallArrays),
    }),
    fc.record({
      type: fc.constant("array"),
      elementType: fc.constant("array"),
      value: fc.array(tie("array"), smallArrays),
    }),
  ),
})).array;
const values: fc.Arbitrary<GgufValue> = fc.oneof(
  fc.record({ type: fc.constant("u8"), value: integer(0, 255) }),
  fc.record({ type: fc.constant("i8"), value: integer(-128, 127) }),
  fc.record({ type: fc.constant("u16"), value: integer(0, 65535) }),
  fc.record({ type: fc.constant("i16"), value: integer(-32768, 32767) }),
  fc.record({ type: fc.constant("u32"), value: integer(0, 2 ** 32 - 1) }),
  fc.record({ type: fc.constant("i32"), value: fc.integer() }),
  fc.record({ type: fc.constant("u64"), value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
  fc.record({ type: fc.constant("i64"), value: fc.maxSafeInteger() }),
  fc.record({ type: fc.constant("f32"), value: float32 }),
  fc.record({ type: fc.constant("f64"), value: fc.double() }),
  fc.record({ type: fc.constant("bool"), value: fc.boolean() }),
  fc.record({ type: fc.constant("string"), value: fc.string({ unit: "binary" }) }),
  arrays,
);

/** What the reader returns for a written value. */
function plain(value: GgufValue): MetadataValue {
  if (value.type === "array") {
    if (value.elementType === "array") return value.value.map(plain);
    return value.value.map((element) => plainScalar(element));
  }
  return plainScalar(value.value);
}

function plainScalar(value: string | number | bigint | boolean): MetadataValue {
  return typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

test("any metadata comes back as it was written, in its order", async () => {
  // The writer obeys this one key instead of only storing it.
  const keys = fc.string({ unit: "binary" }).filter((key) => key !== "general.alignment");
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(fc.tuple(keys, values), { selector: ([key]) => key }), async (pairs) => {
      const file = await writeToBytes([tensorOf("t", "f32", [1], [3])], new Map(pairs));
      const { metadata, tensors } = await readGguf(bytesSource(file));
      expect([...metadata]).toEqual(pairs.map(([key, value]) => [key, plain(value)]));
      const last = new Float32Array(1);
      await tensors.get("t")!.read(new Uint8Array(last.buffer));
      expect(last[0]).toBe(3);
    }),
    { seed: SEED, numRuns: process.env["RWKV_TEST_LONG"] ? 10_000 : 300 },
  );
});

describe("refusals", () => {
  const written: Uint8Array[] = [];
  const sink = {
    write: (bytes: Uint8Array): Promise<void> => {
      written.push(bytes);
      return Promise.resolve();
    },
  };
  const vector = tensorOf("v", "f32", [2], [1, 2]);
  const typed = (dtype: DType, shape: readonly number[], byteLength: number): CheckpointTensor => ({
    ...vector,
    dtype,
    shape,
    byteLength,
  });
  const pair = (value: GgufValue, key = "k"): Map<string, GgufValue> => new Map([[key, value]]);
  const alignment = (value: GgufValue): Map<string, GgufValue> => pair(value, "general.alignment");
  const none = new Map<string, GgufValue>();

  type Kind = typeof UsageError | typeof UnsupportedError | typeof ShapeError;
  const cases: [string, readonly CheckpointTensor[], Map<string, GgufValue>, Kind, string][] = [
    ["a name given twice", [vector, vector], none, UsageError, 'tensor "v" was given twice'],
    ["five dimensions", [typed("f32", [1, 1, 1, 1, 2], 8)], none, UnsupportedError, "at most 4 dimensions"],
    ["a dtype GGUF lacks", [typed("bool", [2], 2)], none, UnsupportedError, "of dtype bool"],
    [
      "a wrong byteLength",
      [typed("f32", [2], 9)],
      none,
      UsageError,
      "takes 8 bytes in f32, but says it has 9",
    ],
    ["part of a block", [typed("q8_0", [2], 2)], none, ShapeError, "blocks of 32"],
    ["u8 256", [], pair({ type: "u8", value: 256 }), UsageError, "256 is outside u8"],
    ["i8 -129", [], pair({ type: "i8", value: -129 }), UsageError, "-129 is outside i8"],
    ["u64 -1", [], pair({ type: "u64", value: -1n }), UsageError, "-1 is outside u64"],
    ["i64 2^63", [], pair({ type: "i64", value: 2n ** 63n }), UsageError, "outside i64"],
    ["u32 1.5", [], pair({ type: "u32", value: 1.5 }), UsageError, '"k": 1.5 is not a whole number'],
    ["u32 NaN", [], pair({ type: "u32", value: NaN }), UsageError, "NaN is not a whole number"],
    [
      "an array element out of range",
      [],
      pair({ type: "array", elementType: "i16", value: [1, 40000] }),
      UsageError,
      "40000 is outside i16",
    ],
    ["alignment 24", [], alignment({ type: "u32", value: 24 }), UsageError, "but is u32 24"],
    ["alignment 4", [], alignment({ type: "u32", value: 4 }), UsageError, "from 8 to 65536"],
    ["alignment u64", [], alignment({ type: "u64", value: 32n }), UsageError, "but is u64 32"],
    [
      "an alignment array",
      [],
      alignment({ type: "array", elementType: "u32", value: [32] }),
      UsageError,
      "an array",
    ],
  ];
  test.each(cases)(
    "%s is refused before anything is written",
    async (_, tensors, metadata, kind, message) => {
      await expect(writeGguf(sink, tensors, metadata)).rejects.toThrow(message);
      await expect(writeGguf(sink, tensors, metadata)).rejects.toBeInstanceOf(kind);
      expect(kind.prototype).toBeInstanceOf(RwkvError);
      expect(written).toEqual([]);
    },
  );
});
