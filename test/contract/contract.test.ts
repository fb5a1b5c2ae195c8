// Holds every backend to the contract of ops/ops.ts: near the f64 reference on every declared case, and the same bits
// however rows are grouped into steps.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createCpuBackend } from "../../packages/rwkv/src/backends/cpu/cpu.ts";
import {
  interleavedBackend,
  lastThreadFirst,
  threadedBackend,
} from "../../packages/rwkv/src/backends/cpu/testing.ts";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";
import { SIGNATURES, type OpName } from "../../packages/rwkv/src/ops/signature.ts";
import { nodeThreads } from "../../packages/rwkv/src/platform/node/threads.ts";
import { BACKENDS } from "../support/backends.ts";
import { WEBGPU } from "../support/webgpu.ts";
import { contractCases } from "./cases.ts";
import type { ContractCase } from "./case.ts";
import {
  apart,
  caseData,
  firstError,
  inPieces,
  openCase,
  together,
  type OpenCase,
  type Written,
} from "./run-case.ts";

const oracle = createReferenceBackend({ storage: "f64" });
const cases = contractCases();
const OP_NAMES = Object.keys(SIGNATURES) as OpName[];

/** The oracle's results, shared by all backends. */
const wanted = new Map<ContractCase, Written>();

async function wantedOf(testCase: ContractCase): Promise<Written> {
  let written = wanted.get(testCase);
  if (written === undefined) {
    const open = await openCase(oracle, testCase);
    written = await open.run(together(testCase), NaN);
    open.dispose();
    wanted.set(testCase, written);
  }
  return written;
}

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

describe.each([...BACKENDS, ...WEBGPU])("$name", ({ name: backendName, create }) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await create();
  });

  describe.each(OP_NAMES)("%s", (op) => {
    const isGpu = backendName === "webgpu";
    const ownCases = cases.filter((testCase) => testCase.op === op);
    // On SwiftShader all of them take minutes.
    const bitCases = ownCases.filter((_, i) => !isGpu || ownCases.length <= 100 || i % 7 === 0);
    const open: OpenCase[] = [];
    afterAll(() => {
      for (const testCase of open) testCase.dispose();
    });
    const opened = async (testCase: ContractCase): Promise<OpenCase> => {
      const index = ownCases.indexOf(testCase);
      return (open[index] ??= await openCase(backend, testCase));
    };

    const titled = ownCases.map((testCase) => [testCase.title, testCase] as const);
    test.each(titled)("%s: within the derived limits of the f64 reference", async (_title, testCase) => {
      const want = await wantedOf(testCase);
      const got = await (await opened(testCase)).run(together(testCase), NaN);
      const limits = testCase.limits(caseData(testCase, want, isGpu));
      expect(firstError(backendName, testCase, got, want, "reference", limits)).toBeNull();
    });

    test("rows cut into pieces give the same bits", async () => {
      for (const testCase of bitCases) {
        const run = await opened(testCase);
        const whole = await run.run(together(testCase), NaN);
        const cut = await run.run(inPieces(testCase), NaN);
        expect(firstError(backendName, testCase, cut, whole, "uncut")).toBeNull();
      }
    });

    test("a row beside other runs has the bits it has alone", async () => {
      for (const testCase of bitCases) {
        const run = await opened(testCase);
        const beside = await run.run(together(testCase), NaN);
        const alone = await run.run(apart(testCase), NaN);
        expect(firstError(backendName, testCase, beside, alone, "alone")).toBeNull();
      }
    });

    test("what the destinations held before changes nothing", async () => {
      for (const testCase of bitCases) {
        const run = await opened(testCase);
        const overNaN = await run.run(together(testCase), NaN);
        const overOnes = await run.run(together(testCase), 1);
        expect(firstError(backendName, testCase, overNaN, overOnes, "over ones")).toBeNull();
      }
    });
  });
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
