import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeToF32 } from "../../core/decode.ts";
import { bytesSource, type ByteSource } from "../../core/byte-source.ts";
import { isWeightDType } from "../../core/dtype.ts";
import { FormatError, RwkvError, UnsupportedError } from "../../core/errors.ts";
import { readTensor } from "../safetensors/testing.ts";
import { readRwkvCpp } from "./rwkv-cpp.ts";
import { rwkvCppBytes, type Header, type Record } from "./testing.ts";

const N_RUNS = process.env["RWKV_TEST_LONG"] ? 10_000 : 400;
const HEADER: Header = [101, 4, 32, 1, 0];
const VECTOR: Record = { name: "ln.weight", type: 0, dims: [2], data: 8 };

function open(header: Header, records: readonly Record[]) {
  return readRwkvCpp(bytesSource(rwkvCppBytes(header, records), "m.bin"));
}

describe("reading", () => {
  test("gives names, dtypes, shapes in PyTorch order and the bytes of each tensor", async () => {
    const checkpoint = await open(HEADER, [
      { name: "emb.weight", type: 1, dims: [32, 4], data: 256 },
      { name: "blocks.0.att.x_rwkvag", type: 0, dims: [3, 1, 6], data: 72 },
      { name: "blocks.0.att.key.weight", type: 9, dims: [64, 2], data: 136 },
      VECTOR,
    ]);
    expect(checkpoint).toMatchObject({ format: "rwkv.cpp", name: "m.bin", formatVersion: 101 });
    expect([...checkpoint.tensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape])).toEqual([
      ["emb.weight", "f16", [4, 32]],
      ["blocks.0.att.x_rwkvag", "f32", [6, 1, 3]],
      ["blocks.0.att.key.weight", "q8_0", [2, 64]],
      ["ln.weight", "f32", [2]],
    ]);
    expect(await readTensor(checkpoint.tensors.get("ln.weight"))).toEqual(
      Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7),
    );
    expect((await readTensor(checkpoint.tensors.get("blocks.0.att.key.weight"))).at(-1)).toBe(135);
  });

  test.each([
    [0, "f32", 1024],
    [1, "f16", 512],
    [2, "q4_0", 144],
    [3, "q4_1", 160],
    [7, "q5_0", 176],
    [8, "q5_1", 192],
    [9, "q8_0", 272],
    [11, "q2_k", 84],
    [12, "q3_k", 110],
    [13, "q4_k", 144],
    [14, "q5_k", 176],
    [15, "q6_k", 210],
  ])("type %d is %s, 256 elements in %d bytes", async (type, dtype, byteLength) => {
    const checkpoint = await open(HEADER, [{ name: "a", type, dims: [256], data: byteLength }]);
    expect(checkpoint.tensors.get("a")).toMatchObject({ dtype, byteLength });
  });

  test("version 100 is read where nothing is quantised", async () => {
    const checkpoint = await open([100, 4, 32, 1, 1], [VECTOR]);
    expect(checkpoint.formatVersion).toBe(100);
  });

  test("data is passed over, however long it is", async () => {
    const front = rwkvCppBytes(
      [101, 2 ** 20, 2 ** 10, 1, 0],
      [{ name: "emb.weight", type: 0, dims: [2 ** 10, 2 ** 20], data: 0 }],
    );
    const back = rwkvCppBytes(HEADER, [VECTOR]).subarray(24);
    const backStart = front.length + 2 ** 32;
    let bytesRead = 0;
    const source: ByteSource = {
      ...bytesSource(new Uint8Array(0), "long.bin"),
      byteLength: backStart + back.length,
      read: (offset, target) => {
        bytesRead += target.byteLength;
        if (offset >= backStart)
          target.set(back.subarray(offset - backStart, offset - backStart + target.length));
        else if (offset < front.length) target.set(front.subarray(offset, offset + target.length));
        return Promise.resolve();
      },
    };
    const checkpoint = await readRwkvCpp(source);
    expect([...checkpoint.tensors.keys()]).toEqual(["emb.weight", "ln.weight"]);
    expect(bytesRead).toBeLessThan(200_000);
    expect(await readTensor(checkpoint.tensors.get("ln.weight"))).toEqual(
      Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7),
    );
  });
});

describe("refused", () => {
  test.each<[string, Header, readonly Record[], string]>([
    ["no tensors", HEADER, [], "without any tensor"],
    ["a repeated name", HEADER, [VECTOR, VECTOR], 'two tensors called "ln.weight"'],
    ["no dimensions", HEADER, [{ ...VECTOR, dims: [], data: 4 }], "0 dimensions at byte 24"],
    ["four dimensions", HEADER, [{ ...VECTOR, dims: [1, 1, 1, 1], data: 4 }], "4 dimensions"],
    ["a negative number of dimensions", HEADER, [{ ...VECTOR, nDims: -1 }], "-1 dimensions"],
    ["a dimension of zero", HEADER, [{ ...VECTOR, dims: [0], data: 0 }], "dimensions must be at least 1"],
    [
      "a negative dimension",
      HEADER,
      [{ ...VECTOR, dims: [-2, -4], data: 32 }],
      "dimensions must be at least 1",
    ],
    ["an empty name", HEADER, [{ ...VECTOR, name: "" }], "a name of 0 bytes"],
    ["a name of 2 GB", HEADER, [{ ...VECTOR, keyByteLength: 2 ** 31 - 1 }], "a name of 2147483647 bytes"],
    ["a name that is not UTF-8", HEADER, [{ ...VECTOR, name: Uint8Array.of(0xff) }], "is not UTF-8"],
    ["an unknown type", HEADER, [{ ...VECTOR, type: 17 }], "data type 17"],
    ["a negative type", HEADER, [{ ...VECTOR, type: -1 }], "data type -1"],
    ["an unknown type in the header", [101, 4, 32, 1, 99], [VECTOR], "the header has data type 99"],
    ["part of a block", HEADER, [{ ...VECTOR, type: 9, dims: [33], data: 100 }], "whole blocks of 32"],
    [
      "a tensor of 2^93 elements",
      HEADER,
      [{ ...VECTOR, dims: [2 ** 31 - 1, 2 ** 31 - 1, 2 ** 31 - 1] }],
      "cut short",
    ],
    [
      "a tensor one byte longer than the file",
      HEADER,
      [{ ...VECTOR, data: 7 }],
      "needs 8 bytes, but the file ends after 7",
    ],
    [
      "an embedding of another shape",
      HEADER,
      [{ ...VECTOR, name: "emb.weight" }],
      "n_vocab 4 and n_embed 32",
    ],
    ["an empty vocabulary", [101, 0, 32, 1, 0], [VECTOR], "n_vocab 0"],
  ])("%s", async (_, header, records, message) => {
    await expect(open(header, records)).rejects.toThrow(FormatError);
    await expect(open(header, records)).rejects.toThrow(message);
    await expect(open(header, records)).rejects.toThrow(/^m\.bin/);
  });

  test.each([4, 5, 6, 10, 16])("type %d, as unsupported", async (type) => {
    const opening = open(HEADER, [{ ...VECTOR, type, dims: [256], data: 400 }]);
    await expect(opening).rejects.toThrow(UnsupportedError);
    await expect(open([101, 4, 32, 1, type], [VECTOR])).rejects.toThrow(UnsupportedError);
  });

  test("quantised tensors in version 100, and other versions, as unsupported", async () => {
    const quantised = { ...VECTOR, type: 2, dims: [32], data: 18 };
    await expect(open([100, 4, 32, 1, 0], [quantised])).rejects.toThrow(UnsupportedError);
    await expect(open([100, 4, 32, 1, 0], [quantised])).rejects.toThrow("q4_0 in a file of version 100");
    await expect(open([100, 4, 32, 1, 2], [VECTOR])).rejects.toThrow(UnsupportedError);
    await expect(open([102, 4, 32, 1, 0], [VECTOR])).rejects.toThrow("this is version 102");
    await expect(open([-1, 4, 32, 1, 0], [VECTOR])).rejects.toThrow(UnsupportedError);
  });

  test("another magic number", async () => {
    await expect(readRwkvCpp(bytesSource(new Uint8Array(24), "m.bin"))).rejects.toThrow("begins with 0x0");
  });

  test("more tensors than any model has", async () => {
    const records = Array.from({ length: 65_537 }, (_, i) => ({ name: `${i}`, type: 1, dims: [1], data: 2 }));
    await expect(open(HEADER, records)).rejects.toThrow("more than 65536 tensors");
  });
});

describe("hostile files", () => {
  const records: readonly Record[] = [
    { name: "emb.weight", type: 1, dims: [32, 4], data: 256 },
    { name: "blocks.0.att.key.weight", type: 8, dims: [32, 2], data: 48 },
    VECTOR,
  ];
  const sample = rwkvCppBytes(HEADER, records);

  async function openAndRead(bytes: Uint8Array): Promise<boolean> {
    try {
      const checkpoint = await readRwkvCpp(bytesSource(bytes, "hostile.bin"));
      for (const tensor of checkpoint.tensors.values()) {
        expect(tensor.byteLength).toBeLessThanOrEqual(bytes.byteLength);
        await readTensor(tensor);
      }
      return true;
    } catch (error) {
      if (!(error instanceof RwkvError)) throw error;
      expect(error.message).toContain("hostile.bin");
      expect(error.message.length).toBeLessThan(1000);
      return false;
    }
  }

  test("every truncation is refused, but for one between two tensors", async () => {
    const ends = [1, 2, 3].map((n) => rwkvCppBytes(HEADER, records.slice(0, n)).length);
    for (let length = 0; length <= sample.length; length++) {
      expect(await openAndRead(sample.subarray(0, length)), `cut to ${length}`).toBe(ends.includes(length));
    }
  });

  test("damaged bytes are refused or harmless", async () => {
    const damage = fc.array(fc.tuple(fc.nat(sample.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(damage, async (changes) => {
        const bytes = sample.slice();
        for (const [at, value] of changes) bytes[at] = value;
        await openAndRead(bytes);
      }),
      { seed: 7, numRuns: N_RUNS },
    );
  });

  test("random records are refused or harmless", async () => {
    const i32 = fc.oneof(fc.integer({ min: -1, max: 40 }), fc.integer());
    const record: fc.Arbitrary<Record> = fc.record({
      name: fc.string({ maxLength: 8 }),
      type: fc.oneof(fc.integer({ min: -1, max: 18 }), fc.integer()),
      dims: fc.array(i32, { maxLength: 4 }),
      data: fc.nat(200),
    });
    const header = fc.tuple(fc.constantFrom(100, 101), i32, i32, i32, fc.constantFrom(0, 1, 2, 99));
    await fc.assert(
      fc.asyncProperty(header, fc.array(record, { maxLength: 3 }), async (fields, list) => {
        await openAndRead(rwkvCppBytes(fields, list));
      }),
      { seed: 7, numRuns: N_RUNS },
    );
  });

  test("random bytes behind a header are refused or harmless", async () => {
    const header = rwkvCppBytes(HEADER, []);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (noise) => {
        const bytes = new Uint8Array(header.length + noise.length);
        bytes.set(header);
        bytes.set(noise, header.length);
        await openAndRead(bytes);
      }),
      { seed: 7, numRuns: N_RUNS },
    );
  });
});

const FIXTURES = new URL("../../../../../../shared/fixtures/rwkv.cpp/", import.meta.url);
const hasFixtures = existsSync(FIXTURES);
if (!hasFixtures) console.warn("skipped: ../shared/fixtures/rwkv.cpp is not there");

describe.skipIf(!hasFixtures)("models of rwkv.cpp's own tests", () => {
  test.each([
    ["tiny-rwkv-4v0-660K-FP32.bin", [256, 128], "blocks.3.ffn.key.weight", "f32", [256, 128]],
    ["tiny-rwkv-5v2-730K-FP32.bin", [256, 64], "blocks.0.att.time_decay", "f32", [8, 8, 1]],
    ["tiny-rwkv-6v0-3m-Q5_1.bin", [256, 128], "blocks.11.ffn.value.weight", "q5_1", [128, 448]],
    ["tiny-rwkv-7v0-834K-FP16.bin", [256, 64], "blocks.0.att.x_rwkvag", "f32", [6, 1, 64]],
    ["tiny-rwkv-7v0-834K-FP32.bin", [256, 64], "blocks.11.att.key.weight", "f32", [64, 64]],
    ["tiny-rwkv-7v0-834K-Q5_1.bin", [256, 64], "blocks.11.ffn.key.weight", "q5_1", [256, 64]],
  ])("%s opens with its tensors, all finite", async (fileName, embedding, name, dtype, shape) => {
    const checkpoint = await readRwkvCpp(bytesSource(readFileSync(new URL(fileName, FIXTURES)), fileName));
    expect(checkpoint.tensors.get("emb.weight")).toMatchObject({ shape: embedding });
    expect(checkpoint.tensors.get(name)).toMatchObject({ dtype, shape });
    for (const tensor of checkpoint.tensors.values()) {
      if (!isWeightDType(tensor.dtype)) expect.fail(`${tensor.name} is ${tensor.dtype}`);
      const values = new Float32Array(tensor.shape.reduce((product, dimension) => product * dimension, 1));
      decodeToF32(tensor.dtype, await readTensor(tensor), values);
      expect(values.every(Number.isFinite), `${tensor.name} is finite`).toBe(true);
    }
  });
});
