import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { f16ToF32, f32ToF16 } from "../core/half.ts";
import { FormatError, RwkvError, UnsupportedError, UsageError } from "../core/errors.ts";
import {
  decodeSessionFile,
  encodeSessionFile,
  isSessionFile,
  type SessionDType,
  type SessionFile,
} from "./session-file.ts";

const isLong = process.env["RWKV_TEST_LONG"] !== undefined;

const FILE: SessionFile = {
  header: {
    fingerprint: "ab".repeat(32),
    modelName: "tiny.pth",
    nTokens: 70,
    recentTokens: [1, 2, 65535],
    pendingToken: 7,
    random: [1, 2, 3, 4294967295, -0.5],
  },
  state: Float32Array.from([0, -0, 1e-40, -1e30, Math.PI]),
  logits: Float32Array.from([1, 2, 3]),
};

const id = fc.integer({ min: 0, max: 2 ** 32 - 2 });
const anyFile: fc.Arbitrary<SessionFile> = fc.record({
  header: fc.record({
    fingerprint: fc
      .uint8Array({ minLength: 32, maxLength: 32 })
      .map((bytes) => Buffer.from(bytes).toString("hex")),
    modelName: fc.string({ unit: "grapheme", maxLength: 20 }),
    nTokens: fc.maxSafeNat(),
    recentTokens: fc.array(id, { maxLength: 20 }),
    pendingToken: fc.option(id),
    random: fc.option(fc.array(fc.double({ noNaN: true }), { minLength: 1, maxLength: 12 })),
  }),
  state: fc.float32Array({ maxLength: 40 }),
  logits: fc.option(fc.float32Array({ minLength: 1, maxLength: 10 })),
});

/** With version and length intact, so that only the checksum can tell. */
async function withChecksum(body: Uint8Array): Promise<Uint8Array> {
  const digest = await crypto.subtle.digest("SHA-256", body.slice());
  return Uint8Array.from([...body, ...new Uint8Array(digest)]);
}

const bitsOf = (values: Float32Array): Uint8Array => new Uint8Array(values.slice().buffer);

test("whatever was encoded is decoded, to the bit", async () => {
  await fc.assert(
    fc.asyncProperty(anyFile, fc.nat(7), async (file, shift) => {
      const encoded = await encodeSessionFile(file, "f32");
      expect(isSessionFile(encoded)).toBe(true);
      // At any address in its buffer.
      const bytes = new Uint8Array(encoded.length + shift);
      bytes.set(encoded, shift);
      const decoded = await decodeSessionFile(bytes.subarray(shift), "s.state");
      expect(decoded.header).toEqual(file.header);
      expect(bitsOf(decoded.state)).toEqual(bitsOf(file.state));
      expect(decoded.logits === null).toBe(file.logits === null);
      if (file.logits !== null) expect(bitsOf(decoded.logits!)).toEqual(bitsOf(file.logits));
    }),
    { seed: 7, numRuns: isLong ? 5000 : 200 },
  );
});

test("the bytes lie where they are documented", async () => {
  const bytes = await encodeSessionFile(FILE, "f16");
  const view = new DataView(bytes.buffer);
  expect(new TextDecoder().decode(bytes.subarray(0, 8))).toBe("RWKVSESS");
  const words = (from: number, n: number): number[] =>
    Array.from({ length: n }, (_, i) => view.getUint32(from + 4 * i, true));
  expect(words(8, 2)).toEqual([2, 1]);
  expect([...bytes.subarray(16, 48)]).toEqual(new Array<number>(32).fill(0xab));
  expect(view.getBigUint64(48, true)).toBe(70n);
  expect(words(56, 6)).toEqual([8, 8, 3, 5, 5, 3]);
  expect(new TextDecoder().decode(bytes.subarray(80, 88))).toBe("tiny.pth");
  expect(words(88, 3)).toEqual([1, 2, 65535]);
  expect([0, 1, 2, 3, 4].map((i) => view.getFloat64(100 + 8 * i, true))).toEqual([1, 2, 3, 4294967295, -0.5]);
  expect([0, 1, 2, 3, 4].map((i) => view.getUint16(140 + 2 * i, true))).toEqual([
    0, 0x8000, 0, 0xfc00, 0x4248,
  ]);
  expect([0, 1, 2].map((i) => view.getUint16(150 + 2 * i, true))).toEqual([0x3c00, 0x4000, 0x4200]);
  expect(bytes.byteLength).toBe(156 + 32);
});

describe("f16", () => {
  test("rounds each number to the nearest and keeps RWKV-4's exponent of nothing", async () => {
    const { state, logits } = await decodeSessionFile(await encodeSessionFile(FILE, "f16"), "s.state");
    const rounded = Array.from(FILE.state, (value) => f16ToF32(f32ToF16(value)));
    rounded[3] = Math.fround(-1e30);
    expect([...state]).toEqual(rounded);
    expect([...logits!]).toEqual([1, 2, 3]);
  });

  test.each([65520, -65520, -1e31, Infinity, -Infinity, NaN])("refuses %d, saying where", async (value) => {
    const state = Float32Array.of(0, 65519, value);
    await expect(encodeSessionFile({ ...FILE, state }, "f16")).rejects.toThrow(UsageError);
    await expect(encodeSessionFile({ ...FILE, state }, "f16")).rejects.toThrow(/Element 2 of the state/);
    const logits = Float32Array.of(value);
    await expect(encodeSessionFile({ ...FILE, logits }, "f16")).rejects.toThrow(/Element 0 of the logits/);
    expect((await decodeSessionFile(await encodeSessionFile({ ...FILE, state }, "f32"), "s")).state).toEqual(
      state,
    );
  });
});

test("every altered byte and every cut is noticed, with the file's name", async () => {
  for (const dtype of ["f32", "f16"] satisfies SessionDType[]) {
    const bytes = await encodeSessionFile(FILE, dtype);
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const altered = bytes.slice();
        altered[at]! ^= change;
        const error: unknown = await decodeSessionFile(altered, "s.state").catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(RwkvError);
        expect((error as Error).message).toContain("s.state");
        await expect(decodeSessionFile(bytes.subarray(0, at), "s.state")).rejects.toBeInstanceOf(FormatError);
      }),
      { seed: 7, numRuns: 200 },
    );
  }
});

test("a file cut short says how long it should be, and one of another kind that it is none", async () => {
  const bytes = await encodeSessionFile(FILE, "f32");
  await expect(decodeSessionFile(bytes.subarray(0, 150), "s")).rejects.toThrow(
    `announces ${bytes.byteLength} bytes, but the file has 150`,
  );
  await expect(decodeSessionFile(bytes.subarray(0, 100), "s")).rejects.toThrow(
    "takes at least 112 bytes, but the file has 100",
  );
  await expect(decodeSessionFile(new Uint8Array(500), "s")).rejects.toThrow(/begins with "RWKVSESS"/);
  const body = bytes.slice(0, -32);
  body[12] = 2;
  await expect(decodeSessionFile(await withChecksum(body), "s")).rejects.toThrow(
    /type 2 of the state is unknown/,
  );
  body[12] = 0;
  body[55] = 1;
  await expect(decodeSessionFile(await withChecksum(body), "s")).rejects.toThrow(
    /claims 72057594037928006 tokens/,
  );
});

test("a later version is refused as such", async () => {
  const bytes = await encodeSessionFile(FILE, "f32");
  bytes[8] = 3;
  await expect(decodeSessionFile(bytes, "s.state")).rejects.toBeInstanceOf(UnsupportedError);
});

test("random bytes behind the magic of each version end in a FormatError or UnsupportedError", async () => {
  const start = (await encodeSessionFile(FILE, "f32")).subarray(0, 12);
  await fc.assert(
    fc.asyncProperty(fc.nat(3), fc.uint8Array({ maxLength: 200 }), async (version, tail) => {
      const body = Uint8Array.from([...start, ...tail]);
      body[8] = version;
      for (const bytes of [body, await withChecksum(body)]) {
        await expect(decodeSessionFile(bytes, "r")).rejects.toBeInstanceOf(RwkvError);
      }
    }),
    { seed: 7, numRuns: isLong ? 10_000 : 300 },
  );
});

describe("version 1", () => {
  /** As it was written: a header in JSON, and all numbers in f32. */
  async function version1(header: object, floats: readonly number[]): Promise<Uint8Array> {
    const json = new TextEncoder().encode(JSON.stringify(header));
    const view = new DataView(new ArrayBuffer(16 + json.length + 4 * floats.length));
    const body = new Uint8Array(view.buffer);
    body.set(new TextEncoder().encode("RWKVSESS"));
    view.setUint32(8, 1, true);
    view.setUint32(12, json.length, true);
    body.set(json, 16);
    floats.forEach((value, i) => view.setFloat32(16 + json.length + 4 * i, value, true));
    return withChecksum(body);
  }
  const header = { ...FILE.header, random: [1, 2, 3, 4], stateElements: 5, logitElements: 3 };
  const floats = [...FILE.state, ...FILE.logits!];

  test("is still read", async () => {
    const decoded = await decodeSessionFile(await version1(header, floats), "old.state");
    expect(decoded).toEqual({ ...FILE, header: { ...FILE.header, random: [1, 2, 3, 4] } });
    const without = await version1({ ...header, stateElements: 8, logitElements: 0 }, floats);
    expect((await decodeSessionFile(without, "old.state")).logits).toBeNull();
  });

  test("is refused where it is damaged", async () => {
    const old = async (bytes: Promise<Uint8Array>): Promise<SessionFile> =>
      decodeSessionFile(await bytes, "old.state");
    await expect(old(version1(header, [1]))).rejects.toThrow(/announces \d+ bytes, but \d+ are there/);
    await expect(old(version1({ ...header, nTokens: -1 }, floats))).rejects.toThrow(/lacks fields/);
    await expect(old(version1([], floats))).rejects.toThrow(FormatError);
    const cut = (await version1(header, floats)).subarray(0, 100);
    await expect(decodeSessionFile(cut, "old.state")).rejects.toThrow(/checksum does not match/);
    const long = (await version1(header, floats)).slice(0, -32);
    new DataView(long.buffer).setUint32(12, 2 ** 21, true);
    await expect(old(withChecksum(long))).rejects.toThrow(/header claims 2097152 bytes/);
    new DataView(long.buffer).setUint32(12, 9, true);
    await expect(old(withChecksum(long))).rejects.toThrow(/is not JSON/);
  });
});
