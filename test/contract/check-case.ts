// Holds a backend to the contract of ops/ops.ts on one case: near the f64 reference, and the same bits however rows are grouped
// into steps. Knows of no test framework, so that pages of a browser run it too.

import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";
import type { ContractCase } from "./case.ts";
import {
  apart,
  caseData,
  firstError,
  inPieces,
  openCase,
  together,
  type Schedule,
  type Written,
} from "./run-case.ts";

const oracle = createReferenceBackend({ storage: "f64" });
const wanted = new Map<ContractCase, Written>();

/** The oracle's results, kept for all backends. */
export async function wantedOf(testCase: ContractCase): Promise<Written> {
  let written = wanted.get(testCase);
  if (written === undefined) {
    const open = await openCase(oracle, testCase);
    written = await open.run(together(testCase), NaN);
    open.dispose();
    wanted.set(testCase, written);
  }
  return written;
}

/** Another way to run a case, which must not change a bit. */
interface Repeat {
  readonly schedule: Schedule;
  /** What the destinations held before. */
  readonly garbage: number;
  /** What it is compared with, as the message calls it. */
  readonly first: string;
}

/**
 * @param name - of the backend, for the message
 * @returns the first thing that is wrong, as a sentence; null if all is right
 */
export async function checkCase(
  name: string,
  backend: Backend,
  testCase: ContractCase,
): Promise<string | null> {
  const want = await wantedOf(testCase);
  const open = await openCase(backend, testCase);
  try {
    const whole = await open.run(together(testCase), NaN);
    const limits = testCase.limits(caseData(testCase, want, backend.name === "webgpu"));
    const error = firstError(name, testCase, whole, want, "reference", limits);
    if (error !== null) return error;

    const repeats: Repeat[] = [{ schedule: together(testCase), garbage: 1, first: "over NaN" }];
    if (testCase.runs.length > 1) {
      repeats.push({ schedule: apart(testCase), garbage: NaN, first: "beside other runs" });
    }
    if (testCase.runs.some((nRows) => nRows > 1)) {
      repeats.push({ schedule: inPieces(testCase), garbage: NaN, first: "uncut" });
    }
    for (const { schedule, garbage, first } of repeats) {
      const again = firstError(name, testCase, await open.run(schedule, garbage), whole, first);
      if (again !== null) return again;
    }
    return null;
  } finally {
    open.dispose();
  }
}
