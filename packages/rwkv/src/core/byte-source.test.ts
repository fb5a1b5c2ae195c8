import { describe, expect, test } from "vitest";
import { blobSource, bytesSource, checkRange, type ByteSource } from "./byte-source.ts";
import { FormatError } from "./errors.ts";

const BYTES = Uint8Array.from({ length: 100 }, (_, i) => i);

const SOURCES: readonly (readonly [string, () => ByteSource])[] = [
  ["bytesSource", () => bytesSource(BYTES, "file.bin")],
  ["blobSource", () => blobSource(new Blob([BYTES]), "file.bin")],
];

describe.each(SOURCES)("%s", (_name, open) => {
  test("reads fill their target from any offset, at the same time and in any order", async () => {
    const source = open();
    expect([source.name, source.byteLength]).toEqual(["file.bin", 100]);
    const targets = [new Uint8Array(10), new Uint8Array(3), new Uint8Array(100), new Uint8Array(0)];
    const offsets = [90, 50, 0, 100];
    await Promise.all(targets.map((target, i) => source.read(offsets[i]!, target)));
    targets.forEach((target, i) => {
      expect([...target]).toEqual([...BYTES.subarray(offsets[i], offsets[i]! + target.length)]);
    });
  });

  test("a read leaves the bytes around its target alone", async () => {
    const whole = new Uint8Array(6).fill(0xff);
    await open().read(10, whole.subarray(2, 4));
    expect([...whole]).toEqual([255, 255, 10, 11, 255, 255]);
  });

  test("a read past the end, or before the beginning, is refused with file and range", async () => {
    const source = open();
    await expect(source.read(95, new Uint8Array(6))).rejects.toThrow(FormatError);
    await expect(source.read(95, new Uint8Array(6))).rejects.toThrow(
      "file.bin: bytes 95 to 101 are needed, but the file has 100. It looks cut short",
    );
    await expect(source.read(-1, new Uint8Array(2))).rejects.toThrow(FormatError);
    await expect(source.read(NaN, new Uint8Array(2))).rejects.toThrow(FormatError);
    await expect(source.read(Infinity, new Uint8Array(0))).rejects.toThrow(FormatError);
  });

  test("closing twice is allowed", async () => {
    const source = open();
    await source.close();
    await source.close();
  });
});

test("a File lends its source its name, a Blob has none", () => {
  expect(blobSource(new File([BYTES], "model.pth")).name).toBe("model.pth");
  expect(blobSource(new Blob([BYTES])).name).toBe("blob");
});

test("a large Blob is read in pieces that join without a gap", async () => {
  const bytes = new Uint8Array(33 * 2 ** 20);
  for (let i = 0; i < bytes.length; i += 4099) bytes[i] = i;
  const target = new Uint8Array(bytes.length - 3);
  await blobSource(new Blob([bytes])).read(3, target);
  expect(target.findIndex((byte, i) => byte !== bytes[i + 3])).toBe(-1);
});

test("an aborted read of a Blob rejects with the signal's reason", async () => {
  const reason = new Error("enough");
  const read = blobSource(new Blob([BYTES])).read(0, new Uint8Array(10), AbortSignal.abort(reason));
  await expect(read).rejects.toBe(reason);
});

test("checkRange accepts all of a source and nothing after it", () => {
  const source = bytesSource(BYTES);
  expect(() => {
    checkRange(source, 0, 100);
    checkRange(source, 100, 0);
  }).not.toThrow();
  expect(() => {
    checkRange(source, 2 ** 53, 1);
  }).toThrow(FormatError);
});
