import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesSource, type ByteSource } from "../../core/byte-source.ts";
import { DTYPES, type DType } from "../../core/dtype.ts";
import { FormatError, RwkvError, ShapeError, UnsupportedError, UsageError } from "../../core/errors.ts";
import { readSafetensors, writeSafetensors } from "./safetensors.ts";
import { counting, MemorySink, readTensor, safetensorsBytes, tensorInMemory } from "./testing.ts";

const N_RUNS = process.env["RWKV_TEST_LONG"] ? 10_000 : 400;
const PLAIN_DTYPES = (Object.keys(DTYPES) as DType[]).filter((dtype) => DTYPES[dtype].blockElements === 1);

function open(header: unknown, data: Uint8Array | number) {
  return readSafetensors(bytesSource(safetensorsBytes(header, data), "m.st"));
}

/** One tensor called "a". */
function entry(dtype: string, shape: unknown, offsets: unknown): unknown {
  return { a: { dtype, shape, data_offsets: offsets } };
}

describe("reading", () => {
  test("gives names, dtypes, shapes, metadata and the bytes of each tensor", async () => {
    const header = {
      __metadata__: { format: "pt", note: "ü" },
      "b.weight": { dtype: "F32", shape: [2, 3], data_offsets: [4, 28] },
      empty: { dtype: "BF16", shape: [0, 4], data_offsets: [28, 28] },
      scalar: { dtype: "F16", shape: [], data_offsets: [2, 4] },
      a: { dtype: "BF16", shape: [1], data_offsets: [0, 2] },
    };
    const checkpoint = await open(header, 28);
    expect(checkpoint).toMatchObject({ format: "safetensors", name: "m.st", formatVersion: null });
    expect([...checkpoint.metadata]).toEqual([
      ["format", "pt"],
      ["note", "ü"],
    ]);
    expect([...checkpoint.tensors.keys()]).toEqual(["b.weight", "empty", "scalar", "a"]);
    expect(checkpoint.tensors.get("b.weight")).toMatchObject({ dtype: "f32", shape: [2, 3], byteLength: 24 });
    expect(checkpoint.tensors.get("scalar")).toMatchObject({ dtype: "f16", shape: [], byteLength: 2 });
    expect(await readTensor(checkpoint.tensors.get("b.weight"))).toEqual(counting(28).subarray(4));
    expect(await readTensor(checkpoint.tensors.get("scalar"))).toEqual(Uint8Array.of(2, 3));
    expect(await readTensor(checkpoint.tensors.get("empty"))).toEqual(new Uint8Array(0));
  });

  test.each(PLAIN_DTYPES)("%s has its published name", async (dtype) => {
    const { blockBytes } = DTYPES[dtype];
    const checkpoint = await open(entry(dtype.toUpperCase(), [3], [0, 3 * blockBytes]), 3 * blockBytes);
    expect(checkpoint.tensors.get("a")).toMatchObject({ dtype, shape: [3] });
  });

  test("a header padded with spaces, and one without tensors, are read", async () => {
    expect((await open('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}    ', 1)).tensors.size).toBe(1);
    expect((await open("{}", 0)).tensors.size).toBe(0);
    expect((await open('{"__metadata__":null}', 0)).metadata.size).toBe(0);
  });

  test("__proto__ is a tensor like any other", async () => {
    const checkpoint = await open('{"__proto__":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', 2);
    expect(await readTensor(checkpoint.tensors.get("__proto__"))).toEqual(Uint8Array.of(0, 1));
  });

  test("only the header is read on opening, and closing closes the file", async () => {
    const bytes = safetensorsBytes(entry("U8", [1_000_000], [0, 1_000_000]), 1_000_000);
    let bytesRead = 0;
    let nCloses = 0;
    const inner = bytesSource(bytes);
    const source: ByteSource = {
      ...inner,
      read: (offset, target) => {
        bytesRead += target.byteLength;
        return inner.read(offset, target);
      },
      close: () => {
        nCloses++;
        return Promise.resolve();
      },
    };
    const checkpoint = await readSafetensors(source);
    expect(bytesRead).toBeLessThanOrEqual(65_536);
    await checkpoint.close();
    expect(nCloses).toBe(1);
  });

  test("a target of another length is refused, and an aborted read rejects with its reason", async () => {
    const tensor = (await open(entry("U8", [4], [0, 4]), 4)).tensors.get("a")!;
    await expect(tensor.read(new Uint8Array(3))).rejects.toThrow(ShapeError);
    await expect(tensor.read(new Uint8Array(4), AbortSignal.abort("stop"))).rejects.toBe("stop");
  });
});

describe("refused", () => {
  const description = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}';
  test.each<[string, unknown, number, string]>([
    [
      "overlapping tensors",
      {
        a: { dtype: "U8", shape: [4], data_offsets: [0, 4] },
        b: { dtype: "U8", shape: [4], data_offsets: [3, 7] },
      },
      7,
      'inside tensor "a"',
    ],
    [
      "an overlap that hides a hole",
      {
        a: { dtype: "U8", shape: [4], data_offsets: [0, 4] },
        b: { dtype: "U8", shape: [4], data_offsets: [0, 4] },
      },
      8,
      "inside tensor",
    ],
    [
      "a hole",
      {
        a: { dtype: "U8", shape: [2], data_offsets: [0, 2] },
        b: { dtype: "U8", shape: [2], data_offsets: [3, 5] },
      },
      5,
      "the tensor before it ends at 2",
    ],
    [
      "data that no tensor owns",
      entry("U8", [2], [0, 2]),
      3,
      "has 3 bytes of data, but its tensors end at 2",
    ],
    [
      "a file cut short",
      entry("F32", [4], [0, 16]),
      15,
      "needs bytes 0 to 16 of the data, but the file has 15",
    ],
    [
      "a length that does not fit the shape",
      entry("F32", [4], [0, 12]),
      12,
      "f32 [4], 16 bytes, but its data has 12",
    ],
    ["dimensions whose product overflows", entry("U8", [2 ** 52, 2 ** 52], [0, 1]), 1, "but its data has 1"],
    [
      "more dimensions than any tensor has",
      entry("U8", new Array(9).fill(1), [0, 1]),
      1,
      "9 values in shape",
    ],
    ["a negative offset", entry("U8", [1], [-1, 0]), 1, "not a whole number"],
    ["negative zero", '{"a":{"dtype":"U8","shape":[0],"data_offsets":[-0,0]}}', 0, "not a whole number"],
    [
      "an offset beyond 2^53",
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[9007199254740992,9007199254740993]}}',
      1,
      "not a whole number",
    ],
    ["a fraction", entry("U8", [1.5], [0, 1]), 1, "not a whole number"],
    ["offsets that end before they begin", entry("U8", [1], [1, 0]), 1, "end before they begin"],
    ["three offsets", entry("U8", [1], [0, 1, 2]), 1, "not two numbers"],
    ["one offset", entry("U8", [1], [0]), 1, "not two numbers"],
    ["no offsets", { a: { dtype: "U8", shape: [1] } }, 1, 'no list "data_offsets"'],
    ["no shape", { a: { dtype: "U8", data_offsets: [0, 1] } }, 1, 'no list "shape"'],
    ["no dtype", { a: { shape: [1], data_offsets: [0, 1] } }, 1, "no dtype"],
    ["a tensor that is a list", { a: [] }, 0, "not an object"],
    ["a header that is a list", "[]", 0, "not a JSON object"],
    ["a repeated name", `{"a":${description},"a":${description}}`, 1, '"a" is there twice'],
    [
      "a repeated key in a description",
      '{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      1,
      "is there twice",
    ],
    ["metadata that is a list", { __metadata__: [] }, 0, "__metadata__ that is not an object"],
    ["metadata that is a number", { __metadata__: { a: 1 } }, 0, '__metadata__ "a" that is not a string'],
    ["a header cut short", "{", 0, "not valid JSON"],
  ])("%s", async (_, header, dataByteLength, message) => {
    const opening = open(header, dataByteLength);
    await expect(opening).rejects.toThrow(FormatError);
    await expect(opening).rejects.toThrow(message);
    await expect(opening).rejects.toThrow(/^m\.st/);
  });

  test.each(["F8_E4M3", "F8_E5M2", "F4", "C64", "q8_0", "f32"])("dtype %s, as unsupported", async (dtype) => {
    await expect(open(entry(dtype, [1], [0, 1]), 1)).rejects.toThrow(UnsupportedError);
    await expect(open(entry(dtype, [1], [0, 1]), 1)).rejects.toThrow(`"${dtype}"`);
  });

  test("a header longer than 100 MB or than the file, before memory is asked for", async () => {
    const announce = (byteLength: bigint) => {
      const bytes = new Uint8Array(16);
      new DataView(bytes.buffer).setBigUint64(0, byteLength, true);
      return readSafetensors(bytesSource(bytes, "m.st"));
    };
    await expect(announce(2n ** 64n - 1n)).rejects.toThrow("at most 100000000 are allowed");
    await expect(announce(100_000_001n)).rejects.toThrow("at most 100000000 are allowed");
    await expect(announce(100_000_000n)).rejects.toThrow("needs 100000000 bytes, but only 8 are left");
    await expect(readSafetensors(bytesSource(new Uint8Array(7), "m.st"))).rejects.toThrow("only 7 are left");
  });

  test("a header that is not UTF-8", async () => {
    const bytes = safetensorsBytes("{}", 0);
    bytes[8] = 0xff;
    await expect(readSafetensors(bytesSource(bytes, "m.st"))).rejects.toThrow("not UTF-8");
  });

  test("more tensors than any model has", async () => {
    const members = Array.from({ length: 65_537 }, (_, i) => `"${i}":0`);
    await expect(open(`{${members.join(",")}}`, 0)).rejects.toThrow("lists 65537 tensors");
  });
});

describe("writing", () => {
  const tensors = [
    tensorInMemory("mask", "bool", [3]),
    tensorInMemory("emb.weight", "bf16", [4, 2]),
    tensorInMemory("__proto__", "f16", [5]),
    tensorInMemory("7", "f32", [2, 1, 3]),
    tensorInMemory("ln.weight", "f32", []),
    tensorInMemory("none", "f64", [0]),
  ];

  test("what was written reads back the same, aligned to its elements and with data from a multiple of 8", async () => {
    const sink = new MemorySink();
    const metadata = new Map([
      ["format", "pt"],
      ["quote", '"\\\n\u2028'],
    ]);
    await writeSafetensors(sink, tensors, metadata);
    const bytes = sink.bytes();
    const headerByteLength = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    expect(headerByteLength % 8).toBe(0);
    const offsets: number[] = [];
    const source: ByteSource = bytesSource(bytes);
    const checkpoint = await readSafetensors({
      ...source,
      read: (offset, target) => {
        offsets.push(offset);
        return source.read(offset, target);
      },
    });
    expect(checkpoint.metadata).toEqual(metadata);
    expect(new Set(checkpoint.tensors.keys())).toEqual(new Set(tensors.map(({ name }) => name)));
    for (const tensor of tensors) {
      const back = checkpoint.tensors.get(tensor.name)!;
      expect(back).toMatchObject({ dtype: tensor.dtype, shape: tensor.shape });
      expect(await readTensor(back)).toEqual(await readTensor(tensor));
      expect(offsets.at(-1)! % DTYPES[tensor.dtype].blockBytes).toBe(0);
    }
  });

  test("tensors of one element size keep the order given", async () => {
    const sink = new MemorySink();
    const names = ["z", "a", "m"];
    await writeSafetensors(
      sink,
      names.map((name) => tensorInMemory(name, "f16", [2])),
      new Map(),
    );
    expect([...(await readSafetensors(bytesSource(sink.bytes()))).tensors.keys()]).toEqual(names);
  });

  test("large tensors reach the sink in pieces of 16 MiB", async () => {
    const sink = new MemorySink();
    const byteLength = 40 * 2 ** 20;
    const zeros = { ...tensorInMemory("a", "u8", [0]), shape: [byteLength], byteLength };
    await writeSafetensors(sink, [zeros], new Map());
    expect(sink.pieceLengths.slice(1)).toEqual([16 * 2 ** 20, 16 * 2 ** 20, 8 * 2 ** 20]);
  });

  test("a tensor that cannot be read stops the writing with its error", async () => {
    const broken = { ...tensorInMemory("a", "u8", [4]), read: () => Promise.reject(new FormatError("torn")) };
    await expect(writeSafetensors(new MemorySink(), [broken], new Map())).rejects.toThrow("torn");
  });

  test.each<[string, Parameters<typeof writeSafetensors>[1], Map<string, string>, string]>([
    ["a quantised tensor", [tensorInMemory("a", "q8_0", [32])], new Map(), "has no q8_0"],
    [
      "a repeated name",
      [tensorInMemory("a", "u8", [1]), tensorInMemory("a", "u8", [1])],
      new Map(),
      "two of that name",
    ],
    ["the reserved name", [tensorInMemory("__metadata__", "u8", [1])], new Map(), "reserved"],
    [
      "half a surrogate pair in a name",
      [tensorInMemory("\ud800", "u8", [1])],
      new Map(),
      "not valid Unicode",
    ],
    ["half a surrogate pair in metadata", [], new Map([["a", "\udc00"]]), "not valid Unicode"],
    [
      "a wrong length",
      [{ ...tensorInMemory("a", "u8", [2]), byteLength: 3 }],
      new Map(),
      "takes 2 bytes, but it has 3",
    ],
    [
      "more metadata than a header may have",
      [],
      new Map([["a", "x".repeat(100_000_000)]]),
      "Shorten the metadata",
    ],
  ])("%s is refused before anything is written", async (_, list, metadata, message) => {
    const sink = new MemorySink();
    const writing = writeSafetensors(sink, list, metadata);
    await expect(writing).rejects.toThrow(UsageError);
    await expect(writing).rejects.toThrow(message);
    expect(sink.pieceLengths).toEqual([]);
  });

  test("a tensor beyond any memory is a DeviceError before anything is written", async () => {
    const sink = new MemorySink();
    const huge = { ...tensorInMemory("a", "u8", [0]), shape: [2 ** 52], byteLength: 2 ** 52 };
    await expect(writeSafetensors(sink, [huge], new Map())).rejects.toMatchObject({ code: "DEVICE" });
    expect(sink.pieceLengths).toEqual([]);
  });

  test("any set of tensors survives", async () => {
    const tensor = fc
      .tuple(
        fc.string({ unit: "binary" }),
        fc.constantFrom(...PLAIN_DTYPES),
        fc.array(fc.nat(4), { maxLength: 4 }),
      )
      .filter(([name]) => name !== "__metadata__" && !/\p{Surrogate}/u.test(name));
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(tensor, { selector: ([name]) => name, maxLength: 6 }), async (list) => {
        const sink = new MemorySink();
        await writeSafetensors(
          sink,
          list.map((item) => tensorInMemory(...item)),
          new Map(),
        );
        const checkpoint = await readSafetensors(bytesSource(sink.bytes()));
        expect(checkpoint.tensors.size).toBe(list.length);
        for (const [name, dtype, shape] of list) {
          const back = checkpoint.tensors.get(name)!;
          expect(back).toMatchObject({ dtype, shape });
          expect(await readTensor(back)).toEqual(counting(back.byteLength));
        }
      }),
      { seed: 7, numRuns: N_RUNS },
    );
  });
});

describe("hostile files", () => {
  const sample = safetensorsBytes(
    {
      __metadata__: { format: "pt" },
      a: { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] },
      b: { dtype: "BF16", shape: [4], data_offsets: [24, 32] },
    },
    32,
  );

  /** Opens and reads everything: true if it was valid. Anything but an RwkvError fails the test. */
  async function openAndRead(bytes: Uint8Array): Promise<boolean> {
    try {
      const checkpoint = await readSafetensors(bytesSource(bytes, "hostile.st"));
      for (const tensor of checkpoint.tensors.values()) {
        expect(tensor.byteLength).toBeLessThanOrEqual(bytes.byteLength);
        await readTensor(tensor);
      }
      return true;
    } catch (error) {
      if (!(error instanceof RwkvError)) throw error;
      expect(error.message).toContain("hostile.st");
      expect(error.message.length).toBeLessThan(1000);
      return false;
    }
  }

  test("every truncation is refused", async () => {
    expect(await openAndRead(sample)).toBe(true);
    for (let length = 0; length < sample.length; length++) {
      expect(await openAndRead(sample.subarray(0, length)), `cut to ${length}`).toBe(false);
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

  test("random descriptions of tensors are refused or harmless", async () => {
    const count = fc.oneof(
      fc.nat(40),
      fc.maxSafeNat(),
      fc.integer(),
      fc.double(),
      fc.constant(2 ** 60),
      fc.string(),
    );
    const description = fc.record(
      {
        dtype: fc.constantFrom("U8", "F16", "F32", "F8_E4M3", "", 7),
        shape: fc.array(count, { maxLength: 10 }),
        data_offsets: fc.array(count, { maxLength: 3 }),
      },
      { requiredKeys: [] },
    );
    const header = fc.dictionary(fc.oneof(fc.string(), fc.constant("__metadata__")), description, {
      maxKeys: 4,
    });
    await fc.assert(
      fc.asyncProperty(header, fc.nat(64), async (value, dataByteLength) => {
        await openAndRead(safetensorsBytes(value, dataByteLength));
      }),
      { seed: 7, numRuns: N_RUNS },
    );
  });

  test("random bytes behind a plausible length are refused or harmless", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), fc.nat(300), async (noise, headerByteLength) => {
        const bytes = new Uint8Array(8 + noise.length);
        new DataView(bytes.buffer).setBigUint64(0, BigInt(headerByteLength), true);
        bytes.set(noise, 8);
        await openAndRead(bytes);
      }),
      { seed: 7, numRuns: N_RUNS },
    );
  });
});

const FIXTURE = new URL("../../../../../../shared/fixtures/golden/v6-web-rwkv/", import.meta.url);
const hasFixture = existsSync(FIXTURE);
if (!hasFixture) console.warn("skipped: ../shared/fixtures/golden/v6-web-rwkv is not there");

test.skipIf(!hasFixture)("a file of web-rwkv's converter opens with its tensors", async () => {
  const bytes = readFileSync(new URL("model.st", FIXTURE));
  const checkpoint = await readSafetensors(bytesSource(bytes, "model.st"));
  expect(checkpoint.tensors.get("emb.weight")).toMatchObject({
    dtype: "f16",
    shape: [256, 64],
    byteLength: 32768,
  });
  expect(checkpoint.tensors.get("blocks.0.att.time_mix_w1")).toMatchObject({ shape: [80, 64] });
  expect(checkpoint.tensors.get("blocks.1.att.time_mix_w2")).toMatchObject({ shape: [5, 64, 16] });
  expect(checkpoint.tensors.get("blocks.1.att.time_decay_w1")).toMatchObject({ shape: [24, 64] });
  const total = [...checkpoint.tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0);
  const headerByteLength = bytes.readUInt32LE(0);
  expect(total).toBe(bytes.length - 8 - headerByteLength);
  for (const tensor of checkpoint.tensors.values()) {
    const values = new Uint16Array((await readTensor(tensor)).buffer);
    expect(
      values.every((half) => (half & 0x7c00) !== 0x7c00),
      `${tensor.name} is finite`,
    ).toBe(true);
  }
});
