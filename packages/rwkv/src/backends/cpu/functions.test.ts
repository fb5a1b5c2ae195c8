import { describe, expect, test } from "vitest";
import type { Activation } from "../../ops/ops.ts";
import { createCpuBackend } from "./cpu.ts";
import { buildProgram, seededRandom, stepAll, uploadOf } from "./testing.ts";

const backend = await createCpuBackend();

/** Distance in units of the last place of the exact value; a subnormal counts in the smallest subnormal. */
function ulps(got: number, exact: number): number {
  if (Object.is(got, exact) || got === exact) return 0;
  const magnitude = Math.abs(Math.fround(exact));
  const exponent = Math.max(Math.floor(Math.log2(magnitude)), -126);
  return Math.abs(got - exact) / 2 ** (exponent - 23);
}

async function applied(f: Activation, values: Float32Array): Promise<Float32Array> {
  const width = values.length;
  const program = await buildProgram(
    backend.createBuilder({ maxRows: 1 }),
    width,
    width,
    ({ builder, x }) => {
      const y = builder.scratch("y", [width], "token");
      return (ops) => {
        ops.activate(y, x, f);
        return y;
      };
    },
  );
  return stepAll(program, program.createSlot(), values, width);
}

/**
 * exp as wkv4 computes it: with aa = 0, pp = 0, decay 0 and v = 1 the state aa becomes exp(k - max(0, k)) * 1, that is
 * exp(k) for k <= 0.
 */
async function expOf(values: Float32Array): Promise<Float32Array> {
  const width = values.length;
  const builder = backend.createBuilder({ maxRows: 1 });
  const zeros = await builder.weight(uploadOf("zeros", [width], new Float32Array(width)));
  const ones = builder.input("ones", [width]);
  const aa = builder.state("aa", [width], 0);
  const bb = builder.state("bb", [width], 0);
  const pp = builder.state("pp", [width], 0);
  const program = await buildProgram(builder, width, width, ({ x }) => {
    const y = builder.scratch("y", [width], "token");
    return (ops) => {
      ops.wkv4(y, { aa, bb, pp }, x, ones, zeros, zeros);
      return y;
    };
  });
  const slot = program.createSlot();
  await program.step([{ slot, nRows: 1, logits: "none" }], [new Float32Array(width).fill(1), values]);
  return (await program.readSlot(slot)).slice(0, width);
}

function worst(
  got: Float32Array,
  given: Float32Array,
  f: (x: number) => number,
): { ulps: number; at: number } {
  let most = { ulps: 0, at: 0 };
  given.forEach((x, i) => {
    const distance = ulps(got[i]!, f(x));
    if (!(distance <= most.ulps)) most = { ulps: distance, at: x };
  });
  return most;
}

/** Random values in [low, high), the ends, and values near 0. */
function samples(low: number, high: number): Float32Array {
  const random = seededRandom(7);
  const values = Float32Array.from({ length: 20_001 }, (_, i) =>
    i % 4 === 0 ? (random() - 0.5) * 10 ** -Math.floor(random() * 12) : low + random() * (high - low),
  );
  values[0] = low;
  values[1] = high;
  return values.filter((x) => x >= low && x <= high);
}

test("exp is within 2 ulp from -104 to 0, subnormal results included", async () => {
  const given = samples(-104, 0);
  const most = worst(await expOf(given), given, Math.exp);
  expect(most.ulps, `at ${most.at}`).toBeLessThanOrEqual(2);
});

test("exp has the right limits: 0 far below, 1 at 0", async () => {
  const given = Float32Array.of(-Infinity, -3e38, -1e30, -105, -103.98, 0, -0);
  const got = await expOf(given);
  expect([...got.subarray(0, 4)]).toEqual([0, 0, 0, 0]);
  expect([...got.subarray(5)]).toEqual([1, 1]);
});

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** Limits in ulp follow from 2 ulp of exp and one half for each operation after it. */
const CASES: readonly {
  f: Activation;
  exact: (x: number) => number;
  low: number;
  high: number;
  ulps: number;
}[] = [
  // Below -87 the result is subnormal and 1 + exp(-x) close to overflow: both are covered by the limits below.
  { f: "sigmoid", exact: sigmoid, low: -87, high: 100, ulps: 4 },
  { f: "silu", exact: (x) => x * sigmoid(x), low: -80, high: 100, ulps: 5 },
  { f: "tanh", exact: Math.tanh, low: -40, high: 40, ulps: 4 },
  { f: "decay7", exact: (x) => Math.exp(-Math.exp(-0.5) * sigmoid(x)), low: -60, high: 60, ulps: 4 },
  // exp(-e) multiplies the relative error of e by e, here at most exp(2).
  { f: "decay6", exact: (x) => Math.exp(-Math.exp(x)), low: -80, high: 2, ulps: 2 + 2 * 2 * Math.exp(2) },
  { f: "reluSquared", exact: (x) => Math.max(x, 0) ** 2, low: -10, high: 10, ulps: 1 },
];

describe.each(CASES)("$f", ({ f, exact, low, high, ulps: limit }) => {
  test(`is within ${limit.toFixed(0)} ulp from ${low} to ${high}`, async () => {
    const given = samples(low, high);
    const most = worst(await applied(f, given), given, exact);
    expect(most.ulps, `at ${most.at}`).toBeLessThanOrEqual(limit);
  });

  test("has the bits of an element wherever it stands in a row", async () => {
    const given = samples(low, high).subarray(0, 37);
    const together = await applied(f, given);
    for (const i of [0, 1, 2, 3, 7, 33, 35, 36]) {
      const [alone] = await applied(f, given.slice(i, i + 1));
      expect(alone).toBe(together[i]);
    }
  });
});

test("far out the functions take their limits and NaN stays NaN", async () => {
  const far = Float32Array.of(-Infinity, -1e30, 1e30, Infinity, NaN);
  expect([...(await applied("sigmoid", far))]).toEqual([0, 0, 1, 1, NaN]);
  expect([...(await applied("tanh", far))]).toEqual([-1, -1, 1, 1, NaN]);
  expect([...(await applied("decay6", far))]).toEqual([1, 1, 0, 0, NaN]);
  expect([...(await applied("silu", far)).subarray(1)]).toEqual([-0, 1e30, Infinity, NaN].map(Math.fround));
  const [low, , , high] = await applied("decay7", far);
  expect(low).toBe(1);
  expect(high).toBe(Math.fround(Math.exp(-Math.exp(-0.5))));
});

test("tanh keeps the sign of zero", async () => {
  expect([...(await applied("tanh", Float32Array.of(-0, 0)))]).toEqual([-0, 0]);
});
