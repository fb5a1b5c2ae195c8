import { describe, expect, test } from "vitest";
import { bytesSource } from "../../core/byte-source.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { readPth } from "./pth.ts";
import { dict, int, legacy, list, type Pickle, tensor, type TensorSpec, text } from "./testing.ts";
import { OP } from "./unpickler.ts";

const A = { key: "9400", dtype: "bf16", bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) } as const;
const B = { key: "1200", dtype: "u8", bytes: Uint8Array.of(9, 10) } as const;
const WEIGHT: TensorSpec = { key: A.key, dtype: "bf16", nStored: 4, shape: [2, 2] };
const BIAS: TensorSpec = { key: B.key, dtype: "u8", nStored: 2, shape: [2] };
const TOP = dict({ w: tensor(WEIGHT, true), b: tensor(BIAS, true) });

const open = (bytes: Uint8Array) => readPth(bytesSource(bytes, "old.pth"));

async function read(bytes: Uint8Array, name: string): Promise<number[]> {
  const found = (await open(bytes)).tensors.get(name)!;
  const target = new Uint8Array(found.byteLength);
  await found.read(target);
  return [...target];
}

test("tensors are found behind the counts, in the order of the key list", async () => {
  for (const stored of [
    [A, B],
    [B, A],
  ]) {
    expect(await read(legacy(TOP, stored), "w")).toEqual([...A.bytes]);
    expect(await read(legacy(TOP, stored), "b")).toEqual([...B.bytes]);
  }
});

test("a part of a storage, as a view of another, is read at its place", async () => {
  const view = { key: "7", start: 1, nElements: 3 };
  const top = dict({
    w: tensor({ ...WEIGHT, shape: [2], offset: 1, view }, true),
    all: tensor(WEIGHT, true),
  });
  expect(await read(legacy(top, [A]), "w")).toEqual([5, 6, 7, 8]);
});

test("storages that no pickled tensor keeps are skipped over", async () => {
  const top = [...tensor(BIAS, true), OP.POP, ...dict({ w: tensor(WEIGHT, true) })];
  expect(await read(legacy(top, [B, A]), "w")).toEqual([...A.bytes]);
});

test("a big-endian file is refused", async () => {
  const system = dict({ little_endian: [OP.NEWFALSE] });
  await expect(open(legacy(TOP, [A, B], { 2: system }))).rejects.toThrow(UnsupportedError);
});

describe("damage", () => {
  test.each<[string, Record<number, Pickle>, string]>([
    ["another magic number", { 0: int(5) }, "magic number"],
    ["another version", { 1: int(1002) }, "version 1001"],
    ["no byte order", { 2: dict({}) }, "writing system"],
    ["no system", { 2: [OP.NONE] }, "writing system"],
    ["keys that are no list", { 4: int(1) }, "list of storages"],
    ["a key that is no key", { 4: list([OP.NONE]) }, "used by no tensor"],
    ["a key that no tensor uses", { 4: list(text("5")) }, "used by no tensor"],
    ["a key listed twice", { 4: list(text(A.key), text(A.key)) }, "listed twice"],
    ["a key left out", { 4: list(text(A.key)) }, `tensor "b" uses storage "1200"`],
    [
      "one key of two types",
      { 3: dict({ w: tensor(WEIGHT, true), x: tensor({ ...WEIGHT, dtype: "f16" }, true) }) },
      "4 bf16 and as 4 f16",
    ],
    [
      "one key of two counts",
      { 3: dict({ w: tensor(WEIGHT, true), x: tensor({ ...WEIGHT, nStored: 5 }, true) }) },
      "4 bf16 and as 5 bf16",
    ],
    [
      "a storage past the end",
      { 3: dict({ w: tensor({ ...WEIGHT, nStored: 2 ** 50 }, true), b: tensor(BIAS, true) }) },
      "ends at byte",
    ],
  ])("%s is refused", async (_, pickles, found) => {
    const bytes = legacy(TOP, [A, B], pickles);
    await expect(open(bytes)).rejects.toThrow(FormatError);
    await expect(open(bytes)).rejects.toThrow(found);
  });

  test("a file cut short is refused when it is opened", async () => {
    const bytes = legacy(TOP, [A, B]);
    for (let n = 0; n < bytes.byteLength; n++)
      await expect(open(bytes.subarray(0, n))).rejects.toThrow(FormatError);
  });

  test("another count in front of a storage is refused when the tensor is read", async () => {
    const bytes = legacy(TOP, [A, B]);
    bytes[bytes.byteLength - B.bytes.byteLength - 8] = 3;
    await expect(read(bytes, "b")).rejects.toThrow(`expected storage "1200" of 2 elements`);
    expect(await read(bytes, "w")).toEqual([...A.bytes]);
  });
});
