// Whatever the bytes are, reading ends in a result or in an error of ours, and never asks for more than the file has.

import fc from "fast-check";
import { expect, test } from "vitest";
import { bytesSource, type ByteSource } from "../../core/byte-source.ts";
import { RwkvError } from "../../core/errors.ts";
import { readPth } from "./pth.ts";
import { archiveFiles, call, dict, int, legacy, list, pickle, tensor, text, zip } from "./testing.ts";
import { OP } from "./unpickler.ts";

const NUM_RUNS = process.env["RWKV_TEST_LONG"] ? 10_000 : 400;
const RUNS = { seed: 7, numRuns: NUM_RUNS };

const STORED = Uint8Array.from({ length: 96 }, (_, i) => i);
const VIEWS = [
  { key: "0", dtype: "bf16", nStored: 48, shape: [6, 8] },
  { key: "0", dtype: "bf16", nStored: 48, shape: [8, 6], strides: [1, 8] },
  { key: "0", dtype: "bf16", nStored: 48, offset: 5, shape: [1, 1, 4], strides: [9, 9, 3] },
  { key: "1", dtype: "f32", nStored: 24, shape: [24] },
] as const;

function topOf(isLegacy: boolean) {
  return [
    ...call("collections", "OrderedDict"),
    OP.BINPUT,
    0,
    OP.MARK,
    ...VIEWS.flatMap((view, i) => [...text(`blocks.${i}.weight`), ...tensor(view, isLegacy)]),
    ...text("cycle"),
    OP.BINGET,
    0,
    ...text("misc"),
    ...list(int(1), int(-70_000), int(2n ** 60n), dict({ a: [OP.NONE] })),
    OP.SETITEMS,
    ...dict({}),
    OP.BUILD,
  ];
}

const VALID = {
  zip: zip(archiveFiles(topOf(false), { 0: STORED, 1: STORED })).bytes,
  zip64: zip(archiveFiles(topOf(false), { 0: STORED, 1: STORED }), { isZip64: true, comment: "x" }).bytes,
  legacy: legacy(topOf(true), [
    { key: "0", dtype: "bf16", bytes: STORED },
    { key: "1", dtype: "f32", bytes: STORED },
  ]),
};

/** Opens the file and reads all of it; true if that went well. */
async function survive(bytes: Uint8Array): Promise<boolean> {
  const plain = bytesSource(bytes, "hostile.pth");
  const source: ByteSource = {
    ...plain,
    read(offset, target, signal) {
      expect(target.byteLength).toBeLessThanOrEqual(bytes.byteLength);
      return plain.read(offset, target, signal);
    },
  };
  try {
    const checkpoint = await readPth(source);
    for (const tensor of checkpoint.tensors.values()) {
      expect(tensor.byteLength).toBeLessThanOrEqual(bytes.byteLength);
      await tensor.read(new Uint8Array(tensor.byteLength));
    }
    return true;
  } catch (error) {
    if (!(error instanceof RwkvError) || (error.code !== "FORMAT" && error.code !== "UNSUPPORTED"))
      throw error;
    expect(error.message).toContain("hostile.pth");
    return false;
  }
}

test.each(Object.entries(VALID))("the %s file that is damaged below is whole", async (_, bytes) => {
  expect(await survive(bytes)).toBe(true);
});

test.each(Object.entries(VALID))("%s: any prefix ends in an error", async (_, bytes) => {
  for (let n = 0; n < bytes.byteLength; n++) expect(await survive(bytes.subarray(0, n))).toBe(false);
});

test.each(Object.entries(VALID))("%s: any single byte may be anything", async (_, bytes) => {
  const values = process.env["RWKV_TEST_LONG"]
    ? Array.from({ length: 16 }, (_, i) => 17 * i)
    : [0, 1, 0x7f, 0xff];
  for (let at = 0; at < bytes.byteLength; at++) {
    for (const value of values) {
      const damaged = bytes.slice();
      damaged[at] = value;
      await survive(damaged);
    }
  }
});

test.each(Object.entries(VALID))("%s: bytes changed, inserted and removed", async (_, bytes) => {
  const edit = fc.record({
    at: fc.nat({ max: bytes.byteLength - 1 }),
    nRemoved: fc.nat({ max: 12 }),
    inserted: fc.uint8Array({ maxLength: 12 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 6 }), async (edits) => {
      let damaged = [...bytes];
      for (const { at, nRemoved, inserted } of edits) {
        damaged = [...damaged.slice(0, at), ...inserted, ...damaged.slice(at + nRemoved)];
      }
      await survive(Uint8Array.from(damaged));
    }),
    RUNS,
  );
});

test.each(Object.entries(VALID))("%s: 32- and 64-bit fields set to extremes", async (_, bytes) => {
  const extremes = fc.constantFrom(
    0n,
    1n,
    2n ** 31n - 1n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
  );
  const field = fc.record({
    at: fc.nat({ max: bytes.byteLength - 8 }),
    value: extremes,
    isWide: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(field, { minLength: 1, maxLength: 3 }), async (fields) => {
      const damaged = bytes.slice();
      const view = new DataView(damaged.buffer);
      for (const { at, value, isWide } of fields) {
        if (isWide) view.setBigUint64(at, value, true);
        else view.setUint32(at, Number(BigInt.asUintN(32, value)), true);
      }
      await survive(damaged);
    }),
    RUNS,
  );
});

test("random bytes behind the start of each container", async () => {
  const starts = fc.constantFrom(
    VALID.zip.subarray(0, 4),
    VALID.legacy.subarray(0, 15),
    VALID.legacy.subarray(0, 60),
  );
  await fc.assert(
    fc.asyncProperty(starts, fc.uint8Array({ maxLength: 600 }), async (start, rest) => {
      await survive(Uint8Array.from([...start, ...rest]));
    }),
    RUNS,
  );
});

test("random programs for the pickle machine, in a sound archive", async () => {
  const pieces = fc.oneof(
    fc.constantFrom(...Object.values(OP)).map((opcode) => [opcode as number]),
    fc.constantFrom(
      int(0),
      int(48),
      text("storage"),
      text("0"),
      list(),
      dict({}),
      topOf(false),
      tensor(VIEWS[0]),
    ),
    fc.uint8Array({ maxLength: 4 }).map((bytes) => [...bytes]),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(pieces, { maxLength: 40 }), async (program) => {
      const files = [
        { name: "m/data.pkl", bytes: pickle(program.flat()) },
        { name: "m/data/0", bytes: STORED },
      ];
      await survive(zip(files).bytes);
    }),
    RUNS,
  );
});
