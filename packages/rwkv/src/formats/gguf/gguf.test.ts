import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { bytesSource, type ByteSource } from "../../core/byte-source.ts";
import { decodeToF32 } from "../../core/decode.ts";
import { countElements, isWeightDType } from "../../core/dtype.ts";
import { FormatError, ShapeError, UnsupportedError, UsageError } from "../../core/errors.ts";
import type { Checkpoint, CheckpointTensor } from "../checkpoint.ts";
import { readGguf } from "./gguf.ts";
import { GgufBytes, tensorOf, writeToBytes } from "./testing.ts";
import type { GgufValue } from "./types.ts";

const FIXTURES = new URL("../../../../../../shared/fixtures/gguf/", import.meta.url);

function open(bytes: Uint8Array, name = "test.gguf"): Promise<Checkpoint> {
  return readGguf(bytesSource(bytes, name));
}

async function bytesOf(tensor: CheckpointTensor): Promise<Uint8Array> {
  const bytes = new Uint8Array(tensor.byteLength);
  await tensor.read(bytes);
  return bytes;
}

describe("container", () => {
  test.each([2, 3])("version %d, laid out by hand, gives its tensor and metadata", async (version) => {
    const file = new GgufBytes()
      .magic(version)
      .u64(1)
      .u64(1)
      .pair("general.architecture", 8, (b) => b.string("rwkv7"))
      .entry({ name: "a", dimensions: [2, 3], type: 0, offset: 0 })
      .pad(32)
      .f32(0, 1, 2, 3, 4, 5)
      .bytes();
    const checkpoint = await open(file);
    expect(checkpoint.format).toBe("gguf");
    expect(checkpoint.name).toBe("test.gguf");
    expect(checkpoint.formatVersion).toBe(version);
    expect(checkpoint.metadata).toEqual(new Map([["general.architecture", "rwkv7"]]));
    const tensor = checkpoint.tensors.get("a")!;
    expect(tensor).toMatchObject({ name: "a", dtype: "f32", shape: [3, 2], byteLength: 24 });
    expect(new Float32Array((await bytesOf(tensor)).buffer)).toEqual(Float32Array.of(0, 1, 2, 3, 4, 5));
  });

  test("every metadata type is read, at its extremes", async () => {
    const file = new GgufBytes()
      .magic(3)
      .u64(0)
      .u64(16)
      .pair("u8", 0, (b) => b.raw(255))
      .pair("i8", 1, (b) => b.raw(128))
      .pair("u16", 2, (b) => b.raw(255, 255))
      .pair("i16", 3, (b) => b.raw(0, 128))
      .pair("u32", 4, (b) => b.u32(2 ** 32 - 1))
      .pair("i32", 5, (b) => b.u32(2 ** 31))
      .pair("f32", 6, (b) => b.f32(0.1))
      .pair("true", 7, (b) => b.raw(1))
      .pair("false", 7, (b) => b.raw(0))
      .pair("string", 8, (b) => b.string("né\u{1f426}\uFEFF"))
      .pair("u64", 10, (b) => b.u64(2n ** 64n - 1n))
      .pair("u64 small", 10, (b) => b.u64(2n ** 53n - 1n))
      .pair("i64", 11, (b) => b.u64(2n ** 63n))
      .pair("i64 small", 11, (b) => b.u64(2n ** 64n - 5n))
      .pair("f64", 12, (b) => b.f64(0.1))
      .pair("nested", 9, (b) =>
        // [[1, 2], [], ["x"]]
        b.u32(9).u64(3).u32(0).u64(2).raw(1, 2).u32(6).u64(0).u32(8).u64(1).string("x"),
      )
      .bytes();
    expect(Object.fromEntries((await open(file)).metadata)).toEqual({
      u8: 255,
      i8: -128,
      u16: 65535,
      i16: -32768,
      u32: 4294967295,
      i32: -2147483648,
      f32: Math.fround(0.1),
      true: true,
      false: false,
      string: "né\u{1f426}\uFEFF",
      u64: 18446744073709551615n,
      "u64 small": 9007199254740991,
      i64: -9223372036854775808n,
      "i64 small": -5,
      f64: 0.1,
      nested: [[1, 2], [], ["x"]],
    });
  });

  test("a string of invalid UTF-8 reads with U+FFFD, and a byte order mark stays", async () => {
    const file = new GgufBytes()
      .magic(3)
      .u64(0)
      .u64(1)
      .pair("tokens", 9, (b) => b.u32(8).u64(2).u64(3).raw(0x61, 0xff, 0x62).u64(3).raw(0xef, 0xbb, 0xbf))
      .bytes();
    expect((await open(file)).metadata.get("tokens")).toEqual(["a\uFFFDb", "\uFEFF"]);
  });

  test.each([
    { dimensions: [], shape: [] },
    { dimensions: [1], shape: [1] },
    { dimensions: [4], shape: [4] },
    { dimensions: [4, 1, 1], shape: [4] },
    { dimensions: [1, 1], shape: [1] },
    { dimensions: [4, 1, 1, 6], shape: [6, 1, 1, 4] },
    { dimensions: [1, 4], shape: [4, 1] },
    { dimensions: [2, 3, 4], shape: [4, 3, 2] },
  ])("dimensions $dimensions are the shape $shape", async ({ dimensions, shape }) => {
    const file = new GgufBytes().magic(3).u64(1).u64(0).entry({ name: "t", dimensions, type: 24, offset: 0 });
    file.pad(32).raw(...new Array<number>(24).fill(0));
    const tensor = (await open(file.bytes())).tensors.get("t")!;
    expect(tensor.shape).toEqual(shape);
    expect(tensor.byteLength).toBe(countElements(shape));
  });

  test("general.alignment moves the data, whose order may differ from the table's", async () => {
    const file = new GgufBytes()
      .magic(3)
      .u64(2)
      .u64(1)
      .pair("general.alignment", 4, (b) => b.u32(64))
      .entry({ name: "second", dimensions: [1], type: 0, offset: 64 })
      .entry({ name: "first", dimensions: [1], type: 0, offset: 0 })
      .pad(64)
      .f32(1)
      .pad(64)
      .f32(2)
      .bytes();
    const { tensors } = await open(file);
    expect([...tensors.keys()]).toEqual(["second", "first"]);
    expect(new Float32Array((await bytesOf(tensors.get("first")!)).buffer)[0]).toBe(1);
    expect(new Float32Array((await bytesOf(tensors.get("second")!)).buffer)[0]).toBe(2);
  });

  test("a file of metadata alone needs no padding", async () => {
    const file = new GgufBytes().magic(3).u64(0).u64(0).bytes();
    expect((await open(file)).tensors.size).toBe(0);
  });

  test("a target of another length is refused by read", async () => {
    const checkpoint = await open(await writeToBytes([tensorOf("a", "f32", [2], [1, 2])]));
    const read = checkpoint.tensors.get("a")!.read(new Uint8Array(7));
    await expect(read).rejects.toThrow('tensor "a" has 8 bytes, but 7 were given');
    await expect(read).rejects.toBeInstanceOf(ShapeError);
  });

  test("closing the checkpoint closes its source", async () => {
    let nClosed = 0;
    const source = bytesSource(await writeToBytes([]));
    const close = (): Promise<void> => {
      nClosed++;
      return Promise.resolve();
    };
    await (await readGguf({ ...source, close })).close();
    expect(nClosed).toBe(1);
  });

  test("a vocabulary opens in time proportional to it: 8 times the tokens take less than 24 times as long", async () => {
    const fastest = async (nTokens: number): Promise<number> => {
      const tokens = Array.from({ length: nTokens }, (_, i) => `\\x${(i % 256).toString(16)} token ${i}`);
      const metadata = new Map<string, GgufValue>([
        ["tokenizer.ggml.tokens", { type: "array", elementType: "string", value: tokens }],
        ["tokenizer.ggml.token_type", { type: "array", elementType: "i32", value: tokens.map(() => 1) }],
      ]);
      const file = await writeToBytes([], metadata);
      let least = Infinity;
      for (let repeat = 0; repeat < 5; repeat++) {
        const start = performance.now();
        const checkpoint = await open(file);
        least = Math.min(least, performance.now() - start);
        expect(checkpoint.metadata.get("tokenizer.ggml.tokens")).toEqual(tokens);
      }
      return least;
    };
    expect((await fastest(262144)) / (await fastest(32768))).toBeLessThan(24);
  });
});

describe("refusals", () => {
  const one = (over: Partial<Parameters<GgufBytes["entry"]>[0]>): Uint8Array => {
    const entry = { name: "blk.0.w", dimensions: [32], type: 0, offset: 0, ...over };
    return new GgufBytes().magic(3).u64(1).u64(0).entry(entry).pad(32).zeros(128).bytes();
  };
  const pair = (type: number, value: (b: GgufBytes) => GgufBytes): Uint8Array =>
    new GgufBytes().magic(3).u64(0).u64(1).pair("key", type, value).bytes();

  const unsupported: [string, Uint8Array, string][] = [
    ["version 1", new GgufBytes().magic(1).zeros(32).bytes(), "version 1 is not read"],
    ["version 4", new GgufBytes().magic(4).zeros(32).bytes(), "version 4 is not read"],
    ["version 0", new GgufBytes().magic(0).zeros(32).bytes(), "version 0 is not read"],
    ["a big-endian file", new GgufBytes().magic(0x03000000).zeros(32).bytes(), "big-endian"],
    ["IQ4_NL", one({ type: 20 }), 'tensor "blk.0.w" is stored as IQ4_NL (ggml type 20)'],
    ["a removed type", one({ type: 5 }), "Q4_3 (ggml type 5)"],
    ["an unknown type", one({ type: 777 }), "an unknown type (ggml type 777)"],
    [
      "arrays nested without end",
      pair(9, (b) => {
        for (let i = 0; i < 100_000; i++) b.u32(9).u64(1);
        return b;
      }),
      "beyond a depth of 8",
    ],
    ["a header of 40 MiB", pair(8, (b) => b.u64(40 * 2 ** 20).zeros(40 * 2 ** 20)), "longer than 33554432"],
  ];
  test.each(unsupported)(
    "%s is not supported, and the message says what was found",
    async (_, file, message) => {
      await expect(open(file)).rejects.toThrow(message);
      await expect(open(file)).rejects.toBeInstanceOf(UnsupportedError);
    },
  );

  const header = (nTensors: bigint, nPairs: bigint): Uint8Array =>
    new GgufBytes().magic(3).u64(nTensors).u64(nPairs).zeros(200).bytes();
  const two = (...entries: Parameters<GgufBytes["entry"]>[0][]): Uint8Array => {
    const file = new GgufBytes().magic(3).u64(entries.length).u64(0);
    for (const entry of entries) file.entry(entry);
    return file.pad(32).zeros(256).bytes();
  };
  const aligned = (type: number, value: (b: GgufBytes) => GgufBytes): Uint8Array =>
    new GgufBytes().magic(3).u64(0).u64(1).pair("general.alignment", type, value).bytes();
  const damaged: [string, Uint8Array, string][] = [
    ["an empty file", new Uint8Array(0), "the magic and version"],
    ["another magic", new GgufBytes().raw(0x50, 0x4b, 3, 4).zeros(60).bytes(), "this one with 50 4b 03 04"],
    ["2^63 tensors", header(2n ** 63n, 0n), "the number of tensors at byte 8 is 9223372036854775808"],
    ["2^64 - 1 pairs", header(0n, 2n ** 64n - 1n), "the number of metadata pairs at byte 16"],
    ["a string beyond the file", pair(8, (b) => b.u64(1000)), 'the length of the value of "key"'],
    ["an array beyond the file", pair(9, (b) => b.u32(4).u64(2n ** 40n)), "hold at most 0"],
    ["value type 13", pair(13, (b) => b.u64(0)), "has the value type 13"],
    ["element type 99", pair(9, (b) => b.u32(99).u64(0)), "the elements of the value"],
    [
      "a key that stands twice",
      new GgufBytes()
        .magic(3)
        .u64(0)
        .u64(2)
        .pair("k", 7, (b) => b.raw(1))
        .pair("k", 7, (b) => b.raw(1))
        .bytes(),
      'the metadata key "k" stands twice',
    ],
    [
      "a name of 70,000 bytes",
      new GgufBytes().magic(3).u64(0).u64(1).u64(70_000).zeros(70_100).bytes(),
      "a name has at most 65535",
    ],
    ["five dimensions", one({ dimensions: [1, 1, 1, 1, 1] }), "has 5 dimensions"],
    ["a dimension of 0", one({ dimensions: [32, 0] }), "[32, 0]"],
    ["dimensions whose product passes 2^64", one({ dimensions: [2n ** 33n, 2n ** 33n] }), "8589934592"],
    ["dimensions whose product is too large", one({ dimensions: [32, 32, 32] }), "[32, 32, 32]"],
    [
      "half a block",
      one({ dimensions: [16, 2], type: 8 }),
      "rows of 16 elements, but q8_0 stores blocks of 32",
    ],
    ["an offset beyond the file", one({ offset: 2n ** 62n }), "the data offset 4611686018427387904"],
    ["an offset near the end", one({ offset: 32 }), "needs bytes"],
    ["an unaligned offset", one({ offset: 4, dimensions: [1] }), "no multiple of the alignment 32"],
    ["an alignment of 0", aligned(4, (b) => b.u32(0)), "a power of two, but is 0"],
    ["an alignment of 48", aligned(4, (b) => b.u32(48)), "a power of two, but is 48"],
    ["an alignment that is a string", aligned(8, (b) => b.string("32")), '"32"'],
    ["an alignment of 2^63", aligned(10, (b) => b.u64(2n ** 63n)), '"9223372036854775808"'],
    [
      "overlapping tensors",
      two(
        { name: "a", dimensions: [16], type: 0, offset: 32 },
        { name: "b", dimensions: [16], type: 0, offset: 0 },
      ),
      'tensors "b" and "a" overlap',
    ],
    [
      "a tensor name that stands twice",
      two(
        { name: "a", dimensions: [8], type: 0, offset: 0 },
        { name: "a", dimensions: [8], type: 0, offset: 32 },
      ),
      'the tensor name "a" stands twice',
    ],
  ];
  test.each(damaged)("%s is a format error that says where", async (_, file, message) => {
    await expect(open(file)).rejects.toThrow(message);
    await expect(open(file)).rejects.toThrow("test.gguf: ");
    await expect(open(file)).rejects.toBeInstanceOf(FormatError);
  });

  test("a file whose data is cut short is refused when it is opened", async () => {
    const file = await writeToBytes([tensorOf("a", "f32", [64], new Array<number>(64).fill(1))]);
    await expect(open(file.subarray(0, file.length - 1))).rejects.toThrow("looks cut short");
  });
});

describe("parts", () => {
  const splitOf = (part: number, nParts: number, nTensors: number): Map<string, GgufValue> =>
    new Map<string, GgufValue>([
      ["split.no", { type: "u16", value: part }],
      ["split.count", { type: "u16", value: nParts }],
      ["split.tensors.count", { type: "i32", value: nTensors }],
    ]);

  interface Parts {
    readonly files: Map<string, Uint8Array>;
    readonly opened: string[];
    readonly closed: string[];
    readonly source: (name: string) => ByteSource;
    readonly openSibling: (name: string) => Promise<ByteSource>;
  }

  async function parts(): Promise<Parts> {
    const first = new Map([
      ...splitOf(0, 3, 2),
      ["general.architecture", { type: "string", value: "rwkv7" }] as const,
    ]);
    const files = new Map([
      ["m-00001-of-00003.gguf", await writeToBytes([], first)],
      ["m-00002-of-00003.gguf", await writeToBytes([tensorOf("a", "f32", [1], [1])], splitOf(1, 3, 2))],
      ["m-00003-of-00003.gguf", await writeToBytes([tensorOf("b", "f32", [1], [2])], splitOf(2, 3, 2))],
    ]);
    const opened: string[] = [];
    const closed: string[] = [];
    const source = (name: string): ByteSource => {
      const bytes = files.get(name);
      if (bytes === undefined) throw new UsageError(`${name} is missing`);
      const close = (): Promise<void> => {
        closed.push(name);
        return Promise.resolve();
      };
      return { ...bytesSource(bytes, name), close };
    };
    const openSibling = (name: string): Promise<ByteSource> => {
      opened.push(name);
      return Promise.resolve(source(name));
    };
    return { files, opened, closed, source, openSibling };
  }

  test.each(["/models/m-00001-of-00003.gguf", "https://host/x/m-00001-of-00003.gguf?download=true"])(
    "three parts read as one checkpoint, found after the name %s",
    async (name) => {
      const p = await parts();
      const source = { ...p.source("m-00001-of-00003.gguf"), name };
      const checkpoint = await readGguf(source, p.openSibling);
      expect(p.opened).toEqual(["m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]);
      expect([...checkpoint.tensors.keys()]).toEqual(["a", "b"]);
      expect(checkpoint.metadata.get("general.architecture")).toBe("rwkv7");
      expect(new Float32Array((await bytesOf(checkpoint.tensors.get("b")!)).buffer)[0]).toBe(2);
      await checkpoint.close();
      expect(p.closed).toHaveLength(3);
    },
  );

  test("one part of one is a whole model", async () => {
    const file = await writeToBytes([tensorOf("a", "f32", [1], [1])], splitOf(0, 1, 1));
    expect((await open(file, "any.gguf")).tensors.size).toBe(1);
  });

  const first = "m-00001-of-00003.gguf";
  const third = "m-00003-of-00003.gguf";

  test("a later part is refused with the name of the first", async () => {
    const p = await parts();
    await expect(readGguf(p.source(third), p.openSibling)).rejects.toThrow(
      `part 3 of 3. Open the first part, "${first}"`,
    );
  });

  test("without a way to open the others the message names the next part", async () => {
    const p = await parts();
    await expect(readGguf(p.source(first))).rejects.toThrow('"m-00002-of-00003.gguf" stands beside it');
  });

  test("a first part under another name is refused", async () => {
    const p = await parts();
    const source = { ...p.source(first), name: "model.gguf" };
    await expect(readGguf(source, p.openSibling)).rejects.toThrow("should end in -00001-of-00003.gguf");
  });

  test("a part of another number, or of another split, is refused and what was opened is closed", async () => {
    const p = await parts();
    p.files.set(third, await writeToBytes([tensorOf("b", "f32", [1], [2])], splitOf(1, 3, 2)));
    await expect(readGguf(p.source(first), p.openSibling)).rejects.toThrow(
      "split.no 2 of split.count 3 was expected",
    );
    expect(p.closed).toEqual(["m-00002-of-00003.gguf", third]);
    p.files.set(third, await writeToBytes([tensorOf("b", "f32", [1], [2])], splitOf(2, 4, 2)));
    await expect(readGguf(p.source(first), p.openSibling)).rejects.toThrow("2 of 4");
    p.files.set(third, await writeToBytes([tensorOf("b", "f32", [1], [2])]));
    await expect(readGguf(p.source(first), p.openSibling)).rejects.toThrow("none of none");
  });

  test("a tensor in two parts, or one too few, is refused", async () => {
    const p = await parts();
    p.files.set(third, await writeToBytes([tensorOf("a", "f32", [1], [2])], splitOf(2, 3, 2)));
    await expect(readGguf(p.source(first), p.openSibling)).rejects.toThrow(
      'tensor "a" stands in an earlier part',
    );
    p.files.set(third, await writeToBytes([], splitOf(2, 3, 2)));
    await expect(readGguf(p.source(first), p.openSibling)).rejects.toThrow("is 2, but the parts hold 1");
  });

  test("a missing part's error reaches the caller, and what was opened is closed", async () => {
    const p = await parts();
    p.files.delete(third);
    const openSibling = async (name: string): Promise<ByteSource> => p.openSibling(name);
    await expect(readGguf(p.source(first), openSibling)).rejects.toThrow(`${third} is missing`);
    expect(p.closed).toEqual(["m-00002-of-00003.gguf"]);
  });

  test("a split.count that is no whole number is refused", async () => {
    const file = await writeToBytes(
      [],
      new Map<string, GgufValue>([["split.count", { type: "string", value: "2" }]]),
    );
    await expect(open(file)).rejects.toThrow("split.count should be a whole number");
  });
});

// SHA-256 over the f32 values of all tensors in file order, as the gguf package (0.19) dequantises them.
const DECODED = {
  "v6-f32-unfused.gguf": "b3d343bb91b26f5c0e32e8e02c31b6ab9fe5b4857c2487f266232f430e66cf8f",
  "v6-q8_0.gguf": "01ac466b0ea46230b8f40c839ca0156794c8409b009293ad91f0d9a216a07cf9",
  "v7-f32-l3c128.gguf": "708e68d5b2356bc9c8d9b24cb3d9982f4a2f1c6c8d982818d7fbd6b322eb2eaa",
  "v7-q4_0.gguf": "bebf7da8116f0051c2e2c84eab71072088a64913db0b8262e923bf0666390b28",
  "v7-q5_1.gguf": "dc1da302dcee7462df9e23a1c72df82d8864f046b0397c6054087887b7e6b097",
  "v7-q6_k.gguf": "c643d877e23d488ec6a1b85320687138698d51b4e2d2d183c3cfe3b490aced3e",
};

const haveFixtures = existsSync(FIXTURES);
if (!haveFixtures) process.stderr.write(`gguf fixtures: skipped, ${FIXTURES.pathname} is not there\n`);

describe.skipIf(!haveFixtures)("files of llama.cpp's tools", () => {
  test("each fixture has a digest here", () => {
    const names = readdirSync(FIXTURES).filter((name) => name.endsWith(".gguf"));
    expect(names.sort()).toEqual(Object.keys(DECODED));
  });

  test.each(Object.entries(DECODED))("%s decodes to the values of the gguf package", async (name, digest) => {
    const checkpoint = await open(readFileSync(new URL(name, FIXTURES)), name);
    const { tensors, metadata } = checkpoint;
    const architecture = `rwkv${name[1]!}`;
    const nEmbedding = metadata.get(`${architecture}.embedding_length`) as number;
    const tokens = metadata.get("tokenizer.ggml.tokens") as string[];
    expect(metadata.get("general.architecture")).toBe(architecture);
    expect(tensors.get("token_embd.weight")!.shape).toEqual([tokens.length, nEmbedding]);
    const matrixDType = name.split(/[-.]/)[1]!;
    expect(tensors.get("blk.1.channel_mix_value.weight")).toMatchObject({
      dtype: matrixDType,
      shape: [nEmbedding, metadata.get(`${architecture}.feed_forward_length`)],
    });
    if (!name.includes("unfused")) {
      const nMixes = architecture === "rwkv7" ? 6 : 5;
      expect(tensors.get("blk.1.time_mix_lerp_fused.weight")!.shape).toEqual([nMixes, 1, 1, nEmbedding]);
    }

    const hash = createHash("sha256");
    for (const tensor of tensors.values()) {
      if (!isWeightDType(tensor.dtype)) expect.fail(`${tensor.name} is ${tensor.dtype}`);
      const values = new Float32Array(countElements(tensor.shape));
      decodeToF32(tensor.dtype, await bytesOf(tensor), values);
      hash.update(values);
    }
    expect(hash.digest("hex")).toBe(digest);
  });
});
