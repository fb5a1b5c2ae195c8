import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesSource, type ByteSource } from "../../core/byte-source.ts";
import { DTYPES, type DType } from "../../core/dtype.ts";
import { UsageError } from "../../core/errors.ts";
import { MemorySink, readTensor, tensorInMemory } from "../safetensors/testing.ts";
import { crc32 } from "./crc32.ts";
import { isStorageDType } from "./pickler.ts";
import { readPth } from "./pth.ts";
import { writePth } from "./write.ts";
import { directoryOf, localHeader, type WrittenEntry } from "./zip-writer.ts";
import { locateZipData, readZipEntries } from "./zip.ts";

const DTYPES_OF_TORCH = (Object.keys(DTYPES) as DType[]).filter(isStorageDType);

async function written(tensors: Parameters<typeof writePth>[1]): Promise<Uint8Array> {
  const sink = new MemorySink();
  await writePth(sink, tensors);
  return sink.bytes();
}

describe("the checksum", () => {
  test("is that of the standard's test text, and of nothing", () => {
    expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
    expect(crc32(new Uint8Array(0))).toBe(0);
  });

  test("eight bytes a step give what one bit a step gives", () => {
    const slow = (bytes: Uint8Array): number => {
      let crc = -1;
      for (const byte of bytes) {
        crc ^= byte;
        for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
      }
      return ~crc >>> 0;
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => crc32(bytes) === slow(bytes)));
  });
});

describe("a .pth file", () => {
  test("takes the ten types that PyTorch has storages of", () => {
    expect(DTYPES_OF_TORCH.toSorted()).toEqual(
      ["bf16", "f16", "f32", "f64", "i64", "i32", "i16", "i8", "u8", "bool"].toSorted(),
    );
  });

  test("keeps names, order, types, shapes and every byte", async () => {
    const tensors = [
      tensorInMemory("blocks.0.att.x_r", "bf16", [1, 1, 70]),
      tensorInMemory("scalar", "f32", []),
      tensorInMemory("empty", "f16", [0, 3]),
      tensorInMemory("größe", "f32", [300, 5]),
      ...DTYPES_OF_TORCH.map((dtype) => tensorInMemory(`a ${dtype}`, dtype, [2, 3])),
    ];
    const checkpoint = await readPth(bytesSource(await written(tensors)));
    expect([...checkpoint.tensors.keys()]).toEqual(tensors.map(({ name }) => name));
    for (const tensor of tensors) {
      const again = checkpoint.tensors.get(tensor.name)!;
      expect([again.dtype, again.shape]).toEqual([tensor.dtype, tensor.shape]);
      expect(await readTensor(again)).toEqual(await readTensor(tensor));
    }
  });

  test("any set of tensors survives", async () => {
    const tensor = fc.record({
      name: fc.string({ unit: "binary" }),
      dtype: fc.constantFrom(...DTYPES_OF_TORCH),
      shape: fc.array(fc.nat({ max: 9 }), { maxLength: 4 }),
    });
    const tensors = fc.uniqueArray(tensor, { selector: ({ name }) => name, minLength: 1, maxLength: 9 });
    await fc.assert(
      fc.asyncProperty(tensors, async (list) => {
        const bytes = await written(list.map(({ name, dtype, shape }) => tensorInMemory(name, dtype, shape)));
        const checkpoint = await readPth(bytesSource(bytes));
        const again = [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => ({
          name,
          dtype,
          shape,
        }));
        expect(again).toEqual(list);
        for (const { name } of list) await readTensor(checkpoint.tensors.get(name));
      }),
      { numRuns: 100 },
    );
  });

  test("data begins at multiples of 64 bytes, and more tensors than a pickle takes at once are kept", async () => {
    const tensors = Array.from({ length: 1001 }, (_, i) => tensorInMemory(`t${i}`, "f16", [1 + (i % 7)]));
    const source = bytesSource(await written(tensors));
    const entries = await readZipEntries(source);
    expect(entries.size).toBe(1001 + 3);
    for (const entry of entries.values()) expect((await locateZipData(source, entry)) % 64).toBe(0);
    expect((await readPth(source)).tensors.size).toBe(1001);
  });

  test("large tensors reach the sink in pieces of 16 MiB", async () => {
    const sink = new MemorySink();
    const byteLength = 40 * 2 ** 20;
    await writePth(sink, [{ ...tensorInMemory("a", "u8", [0]), shape: [byteLength], byteLength }]);
    expect(Math.max(...sink.pieceLengths)).toBe(16 * 2 ** 20);
  });

  test.each<[string, Parameters<typeof writePth>[1], string]>([
    ["a quantised tensor", [tensorInMemory("a", "q8_0", [32])], "has no q8_0"],
    ["a repeated name", [tensorInMemory("a", "u8", [1]), tensorInMemory("a", "u8", [1])], "two of that name"],
    ["half a surrogate pair in a name", [tensorInMemory("\ud800", "u8", [1])], "valid Unicode"],
    ["a wrong length", [{ ...tensorInMemory("a", "f32", [2]), byteLength: 4 }], "takes 8 bytes"],
  ])("%s is refused before anything is written", async (_, tensors, message) => {
    const sink = new MemorySink();
    const writing = writePth(sink, tensors);
    await expect(writing).rejects.toThrow(UsageError);
    await expect(writing).rejects.toThrow(message);
    expect(sink.pieceLengths).toEqual([]);
  });

  test("a tensor beyond any memory is a DeviceError before anything is written", async () => {
    const sink = new MemorySink();
    const huge = { ...tensorInMemory("a", "u8", [0]), shape: [2 ** 52], byteLength: 2 ** 52 };
    await expect(writePth(sink, [huge])).rejects.toMatchObject({ code: "DEVICE" });
    expect(sink.pieceLengths).toEqual([]);
  });
});

describe("archives beyond 4 GiB", () => {
  /** A file of zeros with some pieces in it. */
  function sparse(byteLength: number, pieces: readonly (readonly [number, Uint8Array])[]): ByteSource {
    return {
      name: "sparse.zip",
      byteLength,
      read(offset, target) {
        target.fill(0);
        for (const [start, bytes] of pieces) {
          const from = Math.max(start, offset);
          const to = Math.min(start + bytes.length, offset + target.length);
          if (from < to) target.set(bytes.subarray(from - start, to - start), from - offset);
        }
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
    };
  }

  test("a large entry, a far one and a far directory have zip64 fields that read back", async () => {
    const large: WrittenEntry = { name: "a/large", crc: 1, byteLength: 5e9, headerOffset: 0 };
    const afterLarge = localHeader(large).byteLength + large.byteLength;
    const far: WrittenEntry = { name: "a/far", crc: 2, byteLength: 10, headerOffset: afterLarge };
    const end = afterLarge + localHeader(far).byteLength + far.byteLength;
    const directory = directoryOf([large, far], end);
    const source = sparse(end + directory.byteLength, [
      [0, localHeader(large)],
      [afterLarge, localHeader(far)],
      [end, directory],
    ]);
    const entries = await readZipEntries(source);
    expect([...entries.values()].map(({ name, byteLength }) => [name, byteLength])).toEqual([
      ["a/large", 5e9],
      ["a/far", 10],
    ]);
    const [atLarge, atFar] = [...entries.values()];
    expect(await locateZipData(source, atLarge!)).toBe(localHeader(large).byteLength);
    expect(await locateZipData(source, atFar!)).toBe(end - 10);
    expect(localHeader(far).byteLength % 64).toBe((64 - (afterLarge % 64)) % 64);
  });

  test("more entries than 16 bits count", async () => {
    const entries = Array.from({ length: 66_000 }, (_, i): WrittenEntry => {
      return { name: `e${i}`, crc: 0, byteLength: 0, headerOffset: 100 * i };
    });
    const directory = directoryOf(entries, 6_600_000);
    const source = sparse(6_600_000 + directory.byteLength, [[6_600_000, directory]]);
    expect((await readZipEntries(source)).size).toBe(66_000);
  });
});
