// Holds every backend to the contract of ops/ops.ts: near the f64 reference on every declared case, and the same bits
// however rows are grouped into steps.

import { beforeAll, describe, expect, test } from "vitest";
import { createCpuBackend } from "../../packages/rwkv/src/backends/cpu/cpu.ts";
import {
  interleavedBackend,
  lastThreadFirst,
  threadedBackend,
} from "../../packages/rwkv/src/backends/cpu/testing.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";
import { SIGNATURES, type OpName } from "../../packages/rwkv/src/ops/signature.ts";
import { nodeThreads } from "../../packages/rwkv/src/platform/node/threads.ts";
import { BACKENDS } from "../support/backends.ts";
import { WEBGPU } from "../support/webgpu.ts";
import { contractCases } from "./cases.ts";
import type { ContractCase } from "./case.ts";
import { checkCase, wantedOf } from "./check-case.ts";
import { caseData, firstError, openCase, together } from "./run-case.ts";

const cases = contractCases();
const OP_NAMES = Object.keys(SIGNATURES) as OpName[];

test("every operation has cases", () => {
  expect([...new Set(cases.map(({ op }) => op))].sort()).toEqual([...OP_NAMES].sort());
});

test("one wrong element is reported with its place, both values, the limit and the case", async () => {
  const testCase = cases.find(({ title }) => title === "T=7 H=2 N=16")!;
  const want = await wantedOf(testCase);
  const limits = testCase.limits(caseData(testCase, want));
  const out = Object.keys(want)[0]!;
  for (const [offset, pattern] of [
    [0.001, /^x groupNorm: out\[3,1,4\] is \S+, reference \S+, limit \S+e-6; T=7 H=2 N=16 seed=7$/],
    [NaN, /^x groupNorm: out\[3,1,4\] is NaN, /],
  ] as const) {
    const wrong = { ...want, [out]: want[out]!.slice() };
    wrong[out]![3 * 32 + 16 + 4]! += offset;
    expect(firstError("x", testCase, wrong, want, "reference", limits)).toMatch(pattern);
  }
  expect(firstError("x", testCase, want, want, "reference", limits)).toBeNull();
});

describe.each([...BACKENDS, ...WEBGPU])("$name", ({ name, create }) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await create();
  });

  const titled = cases.map((testCase) => [testCase.op, testCase.title, testCase] as const);
  test.each(titled)(
    "%s %s: near the reference; the same bits in pieces, alone and over other values",
    async (_op, _title, testCase) => {
      expect(await checkCase(name, backend, testCase)).toBeNull();
    },
  );
});

describe("cpu on several threads has the bits of one", () => {
  /** The first case whose bits differ from those on a single thread. */
  async function firstDifference(threaded: Backend, tried: readonly ContractCase[]): Promise<string | null> {
    const single = await createCpuBackend({ threads: 1 });
    for (const testCase of tried) {
      const [one, several] = [await openCase(single, testCase), await openCase(threaded, testCase)];
      const want = await one.run(together(testCase), NaN);
      const got = await several.run(together(testCase), NaN);
      one.dispose();
      several.dispose();
      const error = firstError(threaded.description, testCase, got, want, "one thread");
      if (error !== null) return error;
    }
    return null;
  }

  test.each(OP_NAMES)("%s: every case, on 3 imagined threads", async (op) => {
    const threaded = await interleavedBackend(3, lastThreadFirst);
    const ownCases = cases.filter((testCase) => testCase.op === op);
    expect(await firstDifference(threaded, ownCases)).toBeNull();
  });

  test.each(OP_NAMES)("%s: its largest case, on 2 real threads", async (op) => {
    const threaded = await threadedBackend(2, nodeThreads);
    const nRows = ({ runs }: ContractCase): number => runs.reduce((sum, n) => sum + n, 0);
    const ownCases = cases.filter((testCase) => testCase.op === op).sort((a, b) => nRows(b) - nRows(a));
    expect(await firstDifference(threaded, ownCases.slice(0, 1))).toBeNull();
  });
});
