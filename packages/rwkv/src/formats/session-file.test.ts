import fc from "fast-check";
import { expect, test } from "vitest";
import { FormatError, RwkvError, UnsupportedError } from "../core/errors.ts";
import { decodeSessionFile, encodeSessionFile, isSessionFile, type SessionFile } from "./session-file.ts";

const FILE: SessionFile = {
  header: {
    fingerprint: "ab".repeat(32),
    modelName: "tiny.pth",
    stateElements: 5,
    logitElements: 3,
    nTokens: 70,
    recentTokens: [1, 2, 65535],
    pendingToken: 7,
    random: [1, 2, 3, 4294967295],
  },
  state: Float32Array.from([0, -0, 1e-40, -1e30, Math.PI]),
  logits: Float32Array.from([1, 2, 3]),
};

test("what was encoded is decoded, to the bit", async () => {
  const bytes = await encodeSessionFile(FILE);
  expect(isSessionFile(bytes)).toBe(true);
  const decoded = await decodeSessionFile(bytes, "s.state");
  expect(decoded.header).toEqual(FILE.header);
  expect(new Uint8Array(decoded.state.slice().buffer)).toEqual(new Uint8Array(FILE.state.buffer));
  expect(decoded.logits).toEqual(FILE.logits);
});

test("a file that lies at an odd address in its buffer is read too", async () => {
  const bytes = await encodeSessionFile(FILE);
  const shifted = new Uint8Array(bytes.length + 3);
  shifted.set(bytes, 3);
  expect((await decodeSessionFile(shifted.subarray(3), "s.state")).header).toEqual(FILE.header);
});

test("every altered byte and every cut is noticed, with the file's name", async () => {
  const bytes = await encodeSessionFile(FILE);
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
});

test("a later version is refused as such", async () => {
  const bytes = await encodeSessionFile(FILE);
  bytes[8] = 2;
  await expect(decodeSessionFile(bytes, "s.state")).rejects.toBeInstanceOf(UnsupportedError);
});

test("random bytes behind the magic end in a FormatError or UnsupportedError", async () => {
  const magic = (await encodeSessionFile(FILE)).subarray(0, 8);
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (tail) => {
      await expect(decodeSessionFile(Uint8Array.from([...magic, ...tail]), "r")).rejects.toBeInstanceOf(
        RwkvError,
      );
    }),
    { seed: 7, numRuns: process.env["RWKV_TEST_LONG"] === undefined ? 300 : 10_000 },
  );
});
