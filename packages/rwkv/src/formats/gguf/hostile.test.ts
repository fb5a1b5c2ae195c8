// Properties of the reader on bytes that nobody wrote on purpose: it answers with an RwkvError or with a checkpoint whose
// tensors can all be read, soon, and without asking its source for more than a header can need.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesSource, type ByteSource } from "../../core/byte-source.ts";
import { RwkvError } from "../../core/errors.ts";
import { readGguf } from "./gguf.ts";
import { GgufBytes, tensorOf, writeToBytes } from "./testing.ts";
import type { GgufValue } from "./types.ts";

const SEED = 7;
const N_RUNS = process.env["RWKV_TEST_LONG"] ? 10_000 : 400;

/** Opens, then reads every tensor. A plain error, or a tensor outside the file, fails the test. */
async function openAndRead(bytes: Uint8Array): Promise<"refused" | "valid"> {
  let largestRead = 0;
  const inner = bytesSource(bytes, "hostile.gguf");
  const source: ByteSource = {
    ...inner,
    read: (offset, target) => {
      largestRead = Math.max(largestRead, target.byteLength);
      return inner.read(offset, target);
    },
  };
  try {
    const checkpoint = await readGguf(source);
    for (const tensor of checkpoint.tensors.values()) {
      expect(tensor.byteLength).toBeLessThanOrEqual(bytes.byteLength);
      await tensor.read(new Uint8Array(tensor.byteLength));
    }
    return "valid";
  } catch (error) {
    if (!(error instanceof RwkvError)) throw error;
    expect(error.message).toContain("hostile.gguf: ");
    expect(error.message.length).toBeLessThan(100_000);
    return "refused";
  } finally {
    expect(largestRead).toBeLessThanOrEqual(bytes.byteLength);
  }
}

const metadata = new Map<string, GgufValue>([
  ["general.architecture", { type: "string", value: "rwkv7" }],
  ["general.alignment", { type: "u32", value: 32 }],
  ["rwkv7.block_count", { type: "u32", value: 2 }],
  ["tokenizer.ggml.tokens", { type: "array", elementType: "string", value: ["<s>", "\\x00", "a"] }],
  ["tokenizer.ggml.token_type", { type: "array", elementType: "i32", value: [3, 1, 1] }],
  [
    "nested",
    { type: "array", elementType: "array", value: [{ type: "array", elementType: "u8", value: [1, 2] }] },
  ],
]);
const sample = await writeToBytes(
  [
    tensorOf("token_embd.weight", "q8_0", [2, 32], new Array<number>(64).fill(1)),
    tensorOf("blk.0.time_mix_lerp_fused.weight", "f32", [6, 1, 1, 4], new Array<number>(24).fill(1)),
    tensorOf("output_norm.weight", "f16", [5], [1, 2, 3, 4, 5]),
  ],
  metadata,
);
const DATA_BYTES = 96 + 96 + 32; // 68, 96 and 10 bytes, padded
const headerBytes = sample.byteLength - DATA_BYTES;

const PARAMETERS = { seed: SEED, numRuns: N_RUNS };

describe("hostile files", () => {
  test("the sample that is damaged below is valid as it is", async () => {
    expect(await openAndRead(sample)).toBe("valid");
  });

  test("every truncation that takes a tensor's bytes is refused", async () => {
    const end = sample.byteLength - 22; // padding behind the last tensor, 10 bytes of f16
    for (let byteLength = 0; byteLength < end; byteLength++) {
      expect(await openAndRead(sample.subarray(0, byteLength)), `cut to ${byteLength}`).toBe("refused");
    }
    expect(await openAndRead(sample.subarray(0, end))).toBe("valid");
  });

  test("any damaged bytes in the header are refused or harmless", async () => {
    const damage = fc.array(fc.tuple(fc.nat(headerBytes - 1), fc.nat(255)), { minLength: 1, maxLength: 6 });
    const run = async (changes: [number, number][]): Promise<void> => {
      const bytes = sample.slice();
      for (const [at, value] of changes) bytes[at] = value;
      await openAndRead(bytes);
    };
    await fc.assert(fc.asyncProperty(damage, run), PARAMETERS);
  });

  test("any 64-bit field written over the header is refused or harmless", async () => {
    const extreme = fc.oneof(
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.constantFrom(2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 32n),
      fc.bigInt({ min: 0n, max: BigInt(2 * sample.byteLength) }),
    );
    const run = async (at: number, value: bigint): Promise<void> => {
      const bytes = sample.slice();
      new DataView(bytes.buffer).setBigUint64(at, value, true);
      await openAndRead(bytes);
    };
    await fc.assert(fc.asyncProperty(fc.nat(headerBytes - 8), extreme, run), PARAMETERS);
  });

  test("any bytes behind the magic are refused or harmless", async () => {
    const run = async (version: number, tail: Uint8Array): Promise<void> => {
      await openAndRead(
        new GgufBytes()
          .magic(version)
          .raw(...tail)
          .bytes(),
      );
    };
    const tails = fc.uint8Array({ maxLength: 400 });
    await fc.assert(fc.asyncProperty(fc.constantFrom(2, 3), tails, run), PARAMETERS);
  });

  test("any bytes behind plausible counts are refused or harmless", async () => {
    const run = async (nTensors: number, nPairs: number, tail: Uint8Array): Promise<void> => {
      const file = new GgufBytes().magic(3).u64(nTensors).u64(nPairs);
      await openAndRead(file.raw(...tail).bytes());
    };
    // mostly zeros: lengths stay small, so that parsing goes on for longer
    const byte = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(12) });
    const tails = fc.array(byte, { maxLength: 400 }).map((bytes) => Uint8Array.from(bytes));
    await fc.assert(fc.asyncProperty(fc.nat(6), fc.nat(6), tails, run), PARAMETERS);
  });

  test("a table of any entries gives tensors that lie inside the file and apart from each other", async () => {
    const roomBytes = 1024;
    const entries = fc.array(
      fc.record({
        dimensions: fc.array(fc.constantFrom(0, 1, 2, 3, 32, 64, 256), { maxLength: 5 }),
        type: fc.constantFrom(0, 0, 1, 8, 14, 24, 30, 15, 99),
        offset: fc.nat(roomBytes / 32).map((n) => 32 * n),
      }),
      { maxLength: 4 },
    );
    let nValid = 0;
    const run = async (list: { dimensions: number[]; type: number; offset: number }[]): Promise<void> => {
      const file = new GgufBytes().magic(3).u64(list.length).u64(0);
      list.forEach((entry, i) => file.entry({ ...entry, name: `t${i}` }));
      const bytes = file.pad(32).zeros(roomBytes).bytes();
      const outcome = await openAndRead(bytes);
      if (outcome === "refused") return;
      nValid++;
      // apart from each other, so together they are no more than the room
      const { tensors } = await readGguf(bytesSource(bytes));
      const total = [...tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0);
      expect(total).toBeLessThanOrEqual(roomBytes);
    };
    await fc.assert(fc.asyncProperty(entries, run), PARAMETERS);
    expect(nValid).toBeGreaterThan(N_RUNS / 50);
  });

  test("an array of 2^40 elements in a file of 1 MiB is refused without allocating it", async () => {
    const file = new GgufBytes().magic(3).u64(0).u64(1);
    file.pair("a", 9, (b) => b.u32(0).u64(2n ** 40n)).zeros(2 ** 20);
    const bytes = file.bytes();
    const before = process.memoryUsage().rss;
    expect(await openAndRead(bytes)).toBe("refused");
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
  });
});
