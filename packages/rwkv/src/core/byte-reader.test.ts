import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ByteReader } from "./byte-reader.ts";
import { bytesSource, type ByteSource } from "./byte-source.ts";
import { FormatError } from "./errors.ts";

/** A source of which the reads are counted. */
function countingSource(byteLength: number): { source: ByteSource; reads: [number, number][] } {
  const inner = bytesSource(
    Uint8Array.from({ length: byteLength }, (_, i) => i % 251),
    "file.bin",
  );
  const reads: [number, number][] = [];
  const source: ByteSource = {
    ...inner,
    read: (offset, target) => {
      reads.push([offset, target.byteLength]);
      return inner.read(offset, target);
    },
  };
  return { source, reads };
}

test("getters read little-endian values one after the other", async () => {
  const view = new DataView(new ArrayBuffer(40));
  view.setUint8(0, 0xfe);
  view.setUint16(1, 0xfedc, true);
  view.setUint32(3, 0xfedcba98, true);
  view.setInt32(7, -2, true);
  view.setFloat32(11, -1.5, true);
  view.setFloat64(15, Math.PI, true);
  view.setBigUint64(23, 2n ** 64n - 2n, true);
  view.setBigInt64(31, -(2n ** 63n), true);
  view.setUint8(39, 7);
  const reader = new ByteReader(bytesSource(new Uint8Array(view.buffer)));
  await reader.ensure(40, "everything");
  expect([reader.u8(), reader.u16(), reader.u32(), reader.i32(), reader.f32(), reader.f64()]).toEqual([
    0xfe,
    0xfedc,
    0xfedcba98,
    -2,
    -1.5,
    Math.PI,
  ]);
  expect([reader.u64(), reader.i64()]).toEqual([2n ** 64n - 2n, -(2n ** 63n)]);
  expect([reader.position, reader.remaining]).toEqual([39, 1]);
  expect([...reader.bytes(1)]).toEqual([7]);
});

test("bytes are a copy that later reads leave alone", async () => {
  const reader = new ByteReader(countingSource(10).source);
  await reader.ensure(10, "bytes");
  const bytes = reader.bytes(3);
  bytes.fill(99);
  reader.seek(0, "the beginning");
  expect([...reader.bytes(3)]).toEqual([0, 1, 2]);
});

describe("ensure", () => {
  test("small fields share one read of 64 KiB at most", async () => {
    const { source, reads } = countingSource(200_000);
    const reader = new ByteReader(source);
    for (let i = 0; i < 1000; i++) {
      await reader.ensure(4, "field");
      reader.u32();
    }
    expect(reads).toEqual([[0, 65536]]);
  });

  test("a field across the end of the window is read whole", async () => {
    const { source, reads } = countingSource(200_000);
    const reader = new ByteReader(source, 65_534);
    await reader.ensure(2, "first");
    reader.seek(65_534 + 65_535, "near the end of the window");
    await reader.ensure(4, "across");
    expect([...reader.bytes(4)]).toEqual([131_069, 131_070, 131_071, 131_072].map((i) => i % 251));
    expect(reads).toEqual([
      [65_534, 65_536],
      [131_069, 65_536],
    ]);
  });

  test("a field longer than the file is refused before anything is read", async () => {
    const { source, reads } = countingSource(100);
    const reader = new ByteReader(source, 90);
    const attempt = reader.ensure(2 ** 50, "the tensor table");
    await expect(attempt).rejects.toThrow(FormatError);
    await expect(attempt).rejects.toThrow(
      "file.bin: the tensor table at byte 90 needs 1125899906842624 bytes, but only 10 are left",
    );
    await expect(reader.ensure(11, "one more")).rejects.toThrow(FormatError);
    expect(reads).toEqual([]);
    await reader.ensure(10, "the rest");
    expect(reads).toEqual([[90, 10]]);
  });

  test("an end before that of the file bounds every read", async () => {
    const { source, reads } = countingSource(100);
    const reader = new ByteReader(source, 10, 20);
    await expect(reader.ensure(11, "field")).rejects.toThrow("only 10 are left");
    await reader.ensure(10, "field");
    expect(reads).toEqual([[10, 10]]);
    expect(new ByteReader(source, 0, 1000).remaining).toBe(100);
  });
});

test("getters refuse what ensure has not announced, with file and address", async () => {
  const reader = new ByteReader(countingSource(6).source);
  expect(() => reader.u8()).toThrow("file.bin: byte 0: 1 bytes are read, but only 0 were announced");
  await reader.ensure(6, "all");
  reader.u32();
  expect(() => reader.u32()).toThrow("file.bin: byte 4: 4 bytes are read, but only 2 were announced");
  expect(reader.u16()).toBe(0x0504);
});

describe("seek", () => {
  test("inside the window needs no further read, outside of it one", async () => {
    const { source, reads } = countingSource(200_000);
    const reader = new ByteReader(source);
    await reader.ensure(1, "field");
    reader.seek(60_000, "field");
    expect(reader.u8()).toBe(60_000 % 251);
    reader.seek(0, "field");
    expect(reader.u8()).toBe(0);
    reader.seek(199_999, "field");
    expect([reader.position, reader.remaining]).toEqual([199_999, 1]);
    await reader.ensure(1, "field");
    expect(reader.u8()).toBe(199_999 % 251);
    expect(reads).toEqual([
      [0, 65_536],
      [199_999, 1],
    ]);
  });

  test.each([-1, 101, 1.5, NaN, Infinity, 2 ** 53])("to %d of 100 bytes is refused", (position) => {
    const reader = new ByteReader(countingSource(100).source);
    expect(() => {
      reader.seek(position, "the data");
    }).toThrow(FormatError);
    expect(() => {
      reader.seek(position, "the data");
    }).toThrow(`file.bin: the data would end at byte ${position}, but the file ends at 100`);
    expect(reader.position).toBe(0);
  });
});

test("any walk of seeks and reads gives the bytes at those addresses or a FormatError", async () => {
  const { source } = countingSource(70_000);
  const walk = fc.array(
    fc.tuple(fc.integer({ min: -5, max: 70_005 }), fc.integer({ min: -3, max: 66_000 })),
    {
      maxLength: 12,
    },
  );
  await fc.assert(
    fc.asyncProperty(walk, async (moves) => {
      const reader = new ByteReader(source);
      for (const [position, byteLength] of moves) {
        const isInside = position >= 0 && byteLength >= 0 && position + byteLength <= 70_000;
        try {
          reader.seek(position, "walk");
          await reader.ensure(byteLength, "walk");
          const bytes = reader.bytes(byteLength);
          expect(isInside).toBe(true);
          expect(bytes.length).toBe(byteLength);
          if (byteLength > 0) {
            expect([bytes[0], bytes.at(-1)]).toEqual([position % 251, (position + byteLength - 1) % 251]);
          }
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
          expect(isInside).toBe(false);
        }
      }
    }),
    { seed: 7, numRuns: process.env["RWKV_TEST_LONG"] === undefined ? 200 : 10_000 },
  );
});
