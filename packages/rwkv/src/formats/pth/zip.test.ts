import { describe, expect, test } from "vitest";
import { bytesSource, type ByteSource } from "../../core/byte-source.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { readPth } from "./pth.ts";
import { archiveFiles, dict, tensor, zip, type ZipFile } from "./testing.ts";
import { checkStored, locateZipData, readZipEntries } from "./zip.ts";

const A = { name: "a", bytes: Uint8Array.of(1, 2, 3) };
const B = { name: "folder/b", bytes: Uint8Array.of(4, 5) };

const open = (bytes: Uint8Array) => readZipEntries(bytesSource(bytes, "test.pth"));
const openFiles = (...files: readonly ZipFile[]) => open(zip(files).bytes);

/** A copy with `change` applied to the bytes from `at` on. */
function patched(bytes: Uint8Array, at: number, ...change: readonly number[]): Uint8Array {
  const copy = bytes.slice();
  copy.set(change, at);
  return copy;
}

describe("entries", () => {
  test.each([false, true])("names, sizes and places are found (zip64: %s)", async (isZip64) => {
    const { bytes, dataOffsets } = zip([A, B], { isZip64 });
    const source = bytesSource(bytes, "test.pth");
    const entries = [...(await readZipEntries(source)).values()];
    expect(entries.map(({ name, byteLength }) => [name, byteLength])).toEqual([
      ["a", 3],
      ["folder/b", 2],
    ]);
    expect(await locateZipData(source, entries[0]!)).toBe(dataOffsets[0]);
    expect(await locateZipData(source, entries[1]!)).toBe(dataOffsets[1]);
    expect(dataOffsets[1]! % 64).toBe(0);
  });

  test("an archive without entries has none", async () => {
    expect((await openFiles()).size).toBe(0);
  });

  test("a comment behind the end record is skipped, even one that looks like an end record", async () => {
    expect(
      (await open(zip([A], { comment: "PK\u0005\u0006 and more than twenty-two bytes" }).bytes)).size,
    ).toBe(1);
  });

  test("storages beyond 4 GiB are read at their place", async () => {
    // 5 GiB of zeros stand between the two real pieces: nothing of that size is ever in memory.
    const gapBytes = 5 * 2 ** 30;
    const top = dict({
      w: tensor({ key: "1", dtype: "bf16", nStored: 2, shape: [2] }),
      big: tensor({ key: "0", dtype: "u8", nStored: gapBytes, offset: gapBytes - 1, shape: [1] }),
    });
    const files = archiveFiles(top, { 0: new Uint8Array(0), 1: Uint8Array.of(1, 2, 3, 4) });
    const small = zip(files, { isZip64: true });
    const [gapStart, gapEnd] = [small.dataOffsets[1]!, small.dataOffsets[1]! + gapBytes];
    // Everything behind the gap moves, and so do the addresses in the directory; field places are those of zip().
    const bytes = small.bytes.slice();
    const view = new DataView(bytes.buffer);
    let at = small.directoryOffset;
    for (const [i] of files.entries()) {
      const extra = at + 46 + view.getUint16(at + 28, true) + 4;
      if (i === 1) for (const field of [extra, extra + 8]) view.setBigUint64(field, BigInt(gapBytes), true);
      if (i > 1) view.setBigUint64(extra + 16, view.getBigUint64(extra + 16, true) + BigInt(gapBytes), true);
      at = extra + 24;
    }
    view.setBigUint64(at + 48, view.getBigUint64(at + 48, true) + BigInt(gapBytes), true);
    view.setBigUint64(at + 56 + 8, view.getBigUint64(at + 56 + 8, true) + BigInt(gapBytes), true);

    const source: ByteSource = {
      name: "huge.pth",
      byteLength: bytes.byteLength + gapBytes,
      read(offset, target) {
        for (let i = 0; i < target.byteLength; i++) {
          const address = offset + i;
          const isGap = address >= gapStart && address < gapEnd;
          target[i] = isGap ? 7 : bytes[address < gapStart ? address : address - gapBytes]!;
        }
        return Promise.resolve();
      },
      close: () => Promise.resolve(),
    };
    const checkpoint = await readPth(source);
    const weight = new Uint8Array(4);
    await checkpoint.tensors.get("w")!.read(weight);
    expect([...weight]).toEqual([1, 2, 3, 4]);
    const last = new Uint8Array(1);
    await checkpoint.tensors.get("big")!.read(last);
    expect([...last]).toEqual([7]);
  });
});

describe("damage", () => {
  const { bytes, directoryOffset } = zip([A, B]);
  const end = bytes.byteLength - 22;
  const wide = zip([A, B], { isZip64: true }).bytes;
  const wideEnd = wide.byteLength - 22;

  test.each<[string, Uint8Array, string]>([
    ["no end record", bytes.subarray(0, -1), "no end record"],
    ["a file shorter than an end record", Uint8Array.of(0x50, 0x4b, 5, 6), "no end record"],
    ["a directory that reaches into the end record", patched(bytes, end + 12, 255), "must end by"],
    ["a directory past the end", patched(bytes, end + 16, 0, 0, 0, 0x7f), "must end by"],
    ["more entries than the directory has room for", patched(bytes, end + 10, 200), "200 entries"],
    ["an entry without its signature", patched(bytes, directoryOffset, 0), "expected an entry"],
    ["a name longer than the directory", patched(bytes, directoryOffset + 28, 255, 255), "directory"],
    ["a zip64 record that is elsewhere", patched(wide, wideEnd - 20 + 8, 1), "zip64 end record"],
    ["a zip64 address past the end", patched(wide, wideEnd - 20 + 8 + 7, 0x7f), "mentions byte"],
    [
      "a directory whose zip64 sizes are missing",
      patched(bytes, directoryOffset + 20, 255, 255, 255, 255),
      "zip64 sizes",
    ],
    [
      "a zip64 extra field that overruns its place",
      patched(wide, zip([A, B], { isZip64: true }).directoryOffset + 46 + 1 + 2, 99),
      "zip64 sizes",
    ],
  ])("%s is refused", async (_, damaged, found) => {
    await expect(open(damaged)).rejects.toThrow(FormatError);
    await expect(open(damaged)).rejects.toThrow(found);
  });

  test("a name listed twice is refused", async () => {
    await expect(openFiles(A, { ...B, name: "a" })).rejects.toThrow(`lists "a" twice`);
  });

  test("entries that overlap are refused", async () => {
    await expect(openFiles({ ...A, claimedBytes: 200 }, B)).rejects.toThrow(`entry "a" takes bytes 0 to 231`);
    await expect(openFiles(A, { ...B, headerOffset: 0 })).rejects.toThrow(FormatError);
    await expect(openFiles(A, { ...B, claimedBytes: 150 })).rejects.toThrow(`entry "folder/b"`);
    await expect(openFiles(A, { ...B, claimedBytes: 5000 })).rejects.toThrow("mentions byte 5000");
  });

  test("more entries than any model has are refused before they are read", async () => {
    const many = zip([A], { isZip64: true, extraEntries: 200_000 });
    // The directory must be long enough for the claim, or it fails for that.
    const directory = new Uint8Array(200_001 * 46);
    const joined = new Uint8Array(many.bytes.byteLength + directory.byteLength);
    const tailStart = many.bytes.byteLength - 56 - 20 - 22;
    joined.set(many.bytes.subarray(0, tailStart));
    joined.set(many.bytes.subarray(tailStart), tailStart + directory.byteLength);
    const view = new DataView(joined.buffer);
    const record = tailStart + directory.byteLength;
    view.setBigUint64(record + 40, BigInt(record - many.directoryOffset), true);
    view.setBigUint64(record + 56 + 8, BigInt(record), true);
    await expect(open(joined)).rejects.toThrow("200001 entries");
  });

  test("an archive split over files is refused", async () => {
    await expect(open(patched(bytes, end + 4, 1))).rejects.toThrow(UnsupportedError);
  });

  test.each<[string, Partial<ZipFile>, typeof FormatError | typeof UnsupportedError, string]>([
    ["compressed", { method: 8 }, UnsupportedError, "compressed by method 8"],
    ["encrypted", { flags: 9 }, UnsupportedError, "encrypted"],
    ["of two sizes", { claimedUnpackedBytes: 10 ** 9 }, FormatError, "1000000000 and 3 bytes"],
  ])("an entry that is %s is refused", async (_, change, kind, found) => {
    const entry = (await openFiles({ ...A, ...change })).get("a")!;
    const check = () => checkStored(entry, "test.pth");
    expect(check).toThrow(kind);
    expect(check).toThrow(found);
  });

  test("a local header of another entry, or with another method, is refused", async () => {
    const locate = async (damaged: Uint8Array) => {
      const source = bytesSource(damaged, "test.pth");
      return locateZipData(source, (await readZipEntries(source)).get("a")!);
    };
    await expect(locate(zip([{ ...A, localName: "x" }]).bytes)).rejects.toThrow("something else is there");
    await expect(locate(patched(bytes, 0, 0))).rejects.toThrow("something else is there");
    await expect(locate(patched(bytes, 8, 8))).rejects.toThrow(UnsupportedError);
    // A long extra field moves the data into the next entry.
    await expect(locate(patched(bytes, 28, 90))).rejects.toThrow("must end by");
  });
});
