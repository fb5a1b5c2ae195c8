import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DeviceError } from "../../core/errors.ts";
import { Arena, RegionGroup } from "./arena.ts";

const PAGE_BYTES = 65536;

function newArena(maximum?: number): Arena {
  const descriptor = maximum === undefined ? { initial: 1 } : { initial: 1, maximum };
  return new Arena(new WebAssembly.Memory(descriptor));
}

test("regions start on cache lines, never at 0, and never overlap, whatever is freed between", () => {
  const numRuns = process.env["RWKV_TEST_LONG"] === undefined ? 200 : 10_000;
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(5000), fc.option(fc.nat(20)))), (steps) => {
      const arena = newArena();
      const regions: { address: number; byteLength: number }[] = [];
      for (const [byteLength, freed] of steps) {
        if (freed !== null && freed < regions.length) {
          arena.free(regions.splice(freed, 1)[0]!.address);
        }
        const address = arena.allocate(byteLength, "a region");
        expect(address % 64).toBe(0);
        expect(address).toBeGreaterThan(0);
        expect(address + byteLength).toBeLessThanOrEqual(arena.bytes.length);
        regions.push({ address, byteLength: Math.max(1, byteLength) });
      }
      regions.sort((a, b) => a.address - b.address);
      for (let i = 1; i < regions.length; i++) {
        const { address, byteLength } = regions[i - 1]!;
        expect(address + byteLength).toBeLessThanOrEqual(regions[i]!.address);
      }
    }),
    { seed: 7, numRuns },
  );
});

test("when all is freed, in any order, nothing is in use and the memory has not grown since", () => {
  const numRuns = process.env["RWKV_TEST_LONG"] === undefined ? 100 : 10_000;
  fc.assert(
    fc.property(fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7], { minLength: 8 }), (order) => {
      const arena = newArena();
      const empty = arena.usedByteLength;
      const addresses = order.map((i) => arena.allocate(1000 * (i + 1), "a region"));
      const grown = arena.bytes.length;
      for (const i of order) arena.free(addresses[i]!);
      expect(arena.usedByteLength).toBe(empty);
      arena.allocate(36_000, "all of them together");
      expect(arena.bytes.length).toBe(grown);
    }),
    { seed: 7, numRuns },
  );
});

test("a freed region is used again by one that fits, and its rest by the next", () => {
  const arena = newArena();
  const first = arena.allocate(1024, "first");
  arena.allocate(64, "a wall");
  arena.free(first);
  expect(arena.allocate(512, "a part")).toBe(first);
  expect(arena.allocate(512, "the rest")).toBe(first + 512);
  expect(arena.allocate(64, "more")).toBeGreaterThan(first + 1024);
});

test("a reserve is grown into at once, and used by what comes next", () => {
  const memory = new WebAssembly.Memory({ initial: 1 });
  const arena = new Arena(memory);
  arena.reserve(5 * PAGE_BYTES, "room for many");
  const { buffer } = memory;
  expect(buffer.byteLength).toBeGreaterThanOrEqual(5 * PAGE_BYTES);
  for (let i = 0; i < 5; i++) arena.allocate(PAGE_BYTES, "one of them");
  expect(memory.buffer).toBe(buffer);
  expect(() => arena.reserve(5e9, "room for more")).toThrow(DeviceError);
});

test("views see the memory after it has grown", () => {
  const arena = newArena();
  const before = arena.floats;
  const address = arena.allocate(3 * PAGE_BYTES, "a large region");
  expect(before.length).toBe(0); // detached
  arena.floats[address / 4] = 1;
  expect(arena.words[address / 4]).toBe(0x3f800000);
  expect(arena.bytes[address + 3]).toBe(0x3f);
});

describe("without memory", () => {
  test("growing beyond what the system gives is a DeviceError with what was asked, and changes nothing", () => {
    const arena = newArena(2);
    const used = arena.usedByteLength;
    expect(() => arena.allocate(2 * PAGE_BYTES, 'weight "w"')).toThrow(DeviceError);
    expect(() => arena.allocate(20e6, 'weight "w"')).toThrow(
      /weight "w" needs 0\.02 GB more than the 0\.0000655 GB that its memory has/,
    );
    expect(arena.usedByteLength).toBe(used);
    expect(arena.allocate(PAGE_BYTES, "what fits")).toBe(used);
  });

  test("more than a WebAssembly memory can have is refused with the limit, before anything is asked", () => {
    expect(() => newArena().allocate(5e9, 'weight "w"')).toThrow(
      /weight "w" needs 5 GB, .* 32-bit addresses end at 4\.29 GB.*smaller type/,
    );
  });
});

test("a group gives back all that was taken through it and is not free yet, and nothing else", () => {
  const arena = newArena();
  const other = arena.allocate(64, "somebody else's");
  const before = arena.usedByteLength;
  const group = new RegionGroup(arena);
  const [first] = [group.allocate(1000, "first"), group.allocate(70_000, "second")];
  group.floats[first / 4] = 1;
  expect(arena.floats[first / 4]).toBe(1);
  group.free(first);
  const taken = arena.allocate(1000, "what was free again");
  expect(taken).toBe(first);
  group.free(other);
  group.freeAll();
  expect(arena.allocate(64, "next")).toBe(before + 1024);
  group.freeAll();
  expect(arena.allocate(64, "after it")).toBe(before + 1024 + 64);
});
