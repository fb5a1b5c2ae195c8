import { describe, expect, test } from "vitest";
import { checkpointOf, syntheticModel, type SyntheticVersion } from "../../../../test/golden/synthetic.ts";
import { decodeToF32 } from "../core/decode.ts";
import { FormatError, UsageError } from "../core/errors.ts";
import { checkFirstRow, readVector, recode } from "./values.ts";
import { canonicalWeights, type CanonicalWeight } from "./weights/canonical.ts";

function weightOf(
  version: SyntheticVersion,
  name: string,
  values?: (stored: Float32Array) => void,
): CanonicalWeight {
  const model = syntheticModel(version);
  values?.(model.get(name)!.values);
  return canonicalWeights(checkpointOf(model)).tensors.get(
    name.replace("time_first", version === "4" ? "time_first" : "time_faaaa"),
  )!;
}

const stored = (version: SyntheticVersion, name: string): Float32Array =>
  syntheticModel(version).get(name)!.values;

describe("readVector", () => {
  test("turns shares of the current token into shares of the previous", async () => {
    const name = "blocks.1.att.time_mix_k";
    const want = stored("5.2", name).map((share) => 1 - share);
    expect(await readVector("m", weightOf("5.2", name))).toEqual(want);
  });

  test("takes v4's decay as the logarithm of the decay per token", async () => {
    const name = "blocks.0.att.time_decay";
    const got = await readVector("m", weightOf("4", name));
    expect(got).toEqual(stored("4", name).map((raw) => -Math.exp(raw)));
  });

  test("takes v5's decay per token, and repeats what is stored per head over its channels", async () => {
    const name = "blocks.0.att.time_decay";
    const raw = stored("5.1", name);
    const got = await readVector("m", weightOf("5.1", name));
    expect(got).toEqual(
      Float32Array.from({ length: 16 }, (_, i) => Math.exp(-Math.exp(raw[Math.floor(i / 8)]!))),
    );
  });

  test("takes the exponential of the oldest v5's bonus, and of no other", async () => {
    const oldest = await readVector("m", weightOf("5.0", "blocks.0.att.time_first"));
    expect(oldest[8]).toBe(Math.fround(Math.exp(stored("5.0", "blocks.0.att.time_first")[1]!)));
    const newer = await readVector("m", weightOf("5.1", "blocks.0.att.time_faaaa"));
    expect(newer[8]).toBe(stored("5.1", "blocks.0.att.time_faaaa")[1]);
    const v4 = await readVector("m", weightOf("4", "blocks.0.att.time_first"));
    expect(v4).toEqual(stored("4", "blocks.0.att.time_first"));
  });

  test("refuses values that are not finite, with their place", async () => {
    const weight = weightOf("7", "ln_out.bias", (values) => (values[3] = NaN));
    await expect(readVector("m.pth", weight)).rejects.toThrow(FormatError);
    await expect(readVector("m.pth", weight)).rejects.toThrow(
      /m\.pth: tensor "ln_out.bias" holds NaN at element 3/,
    );
  });
});

test("the first row of a matrix is checked, the others are not read for it", async () => {
  const weight = weightOf("7", "head.weight", (values) => (values[5] = Infinity));
  const bytes = new Uint8Array(weight.byteLength);
  await weight.read(bytes);
  expect(() => checkFirstRow("m", weight, bytes)).toThrow(/"head.weight" holds Infinity at element 5/);
});

describe("recode", () => {
  const matrix = (
    values: readonly number[],
    nColumns: number,
  ): [{ name: string; dtype: "f32"; shape: number[] }, Uint8Array] => [
    { name: "w", dtype: "f32", shape: [values.length / nColumns, nColumns] },
    new Uint8Array(Float32Array.from(values).buffer),
  ];

  test("gives the same values whatever the pieces, more than one of them", () => {
    const nColumns = 2 ** 19;
    const values = Float32Array.from({ length: 3 * nColumns }, (_, i) => (i % 1000) - 500);
    const target = new Uint8Array(2 * values.length);
    recode({ name: "w", dtype: "f32", shape: [3, nColumns] }, new Uint8Array(values.buffer), "bf16", target);
    const got = new Float32Array(values.length);
    decodeToF32("bf16", target, got);
    for (const i of [0, 255, nColumns, 2 * nColumns, 3 * nColumns - 1]) {
      expect(Math.abs(got[i]! - values[i]!)).toBeLessThanOrEqual(Math.abs(values[i]!) * 2 ** -8);
    }
  });

  test("multiplies by a power of two exactly", () => {
    const target = new Uint8Array(4);
    recode(...matrix([0.25, -3], 2), "f16", target, 2);
    const got = new Float32Array(2);
    decodeToF32("f16", target, got);
    expect([...got]).toEqual([0.5, -6]);
  });

  test("refuses values that f16 cannot hold", () => {
    expect(() => recode(...matrix([1, 70000], 2), "f16", new Uint8Array(4))).toThrow(UsageError);
    expect(() => recode(...matrix([1, 70000], 2), "f16", new Uint8Array(4))).toThrow(/"w" holds 70000/);
    expect(() => recode(...matrix([1, 65519], 2), "f16", new Uint8Array(4))).not.toThrow();
  });
});
