// Whether a driver computes rightly. The first time that a process is to use kernels on an adapter, a small model of the same
// operations runs on it and on the oracle, and both must agree. The small model has the kernels of the large one, which are
// compiled by then, so that little is added to the time of loading.

import { DeviceError } from "../../core/errors.ts";
import type { Activations, Backend, Program, Run } from "../../ops/backend.ts";
import type { OpCall } from "../../ops/signature.ts";
import type { Tensor } from "../../ops/tensor.ts";
import type { Gpu } from "./gpu.ts";
import { assemble, type KernelCall } from "./kernels/kernel.ts";
import { MiniModel } from "./mini-model.ts";
import { shortlistError } from "./shortlist-check.ts";

/** What has come out of it for an adapter; its device may be opened more than once. */
export interface Verdict {
  /** Texts of kernels that were right. */
  readonly trusted: Set<string>;
  failure: DeviceError | null;
}

/**
 * Most that the root mean square of the differences may be of that of the values: far above rounding, far below an error. The
 * oracle does not round activations.
 */
const LIMITS: Readonly<Record<Activations, number>> = { f32: 0.01, int8: 0.1 };

/** Makes the programs that are compared. */
export interface Compared {
  readonly own: Pick<Backend, "createBuilder">;
  readonly createOracle: () => Promise<Backend>;
  /** Of the former. */
  readonly activations: Activations;
  /** Whether the program skips zeros in products with a matrix. */
  readonly isSparse: (matrix: Tensor) => boolean;
}

/**
 * @param recorded - the operations of the program
 * @param calls - its kernels
 * @throws DeviceError if the device computes something else than the oracle, now or earlier in this process
 */
export async function trustKernels(
  { verdict, description }: Gpu,
  recorded: readonly OpCall[],
  calls: readonly KernelCall[],
  { own, createOracle, activations, isSparse }: Compared,
): Promise<void> {
  if (verdict.failure !== null) throw verdict.failure;
  const texts = calls.flatMap((call) => assemble(call).texts);
  if (texts.every((text) => verdict.trusted.has(text))) return;
  const difference = await compare(
    new MiniModel(recorded, isSparse),
    rowCounts(calls),
    [own, await createOracle()],
    LIMITS[activations],
  );
  if (difference !== null) {
    verdict.failure = new DeviceError(
      `The GPU (${description}) computes wrongly: in its self-test ${difference}. Update its driver, or use the cpu backend.`,
    );
    throw verdict.failure;
  }
  for (const text of texts) verdict.trusted.add(text);
}

/** The fewest rows for which each variant of a kernel is used. */
function rowCounts(calls: readonly KernelCall[]): number[] {
  const counts = new Set([1]);
  for (const { variants } of calls) {
    for (const { maxRows } of variants) if (maxRows < Infinity) counts.add(maxRows + 1);
  }
  return [...counts].sort((a, b) => a - b);
}

/** What is wrong with the GPU's results; null if nothing. */
async function compare(
  model: MiniModel,
  counts: readonly number[],
  backends: readonly Compared["own"][],
  limit: number,
): Promise<string | null> {
  const maxRows = Math.max(...counts, 2);
  const programs: Program[] = [];
  try {
    for (const backend of backends) programs.push(await model.build(backend.createBuilder({ maxRows })));
    const [own, oracle] = programs as [Program, Program];
    for (const nRows of counts) {
      const inputs = model.inputs(nRows);
      const [got, want] = [await runRows(own, nRows, inputs), await runRows(oracle, nRows, inputs)];
      for (const [i, what] of (["logits", "state"] as const).entries()) {
        const error = relativeError(got[i]!, want[i]!);
        if (!(error <= limit)) {
          return `the ${what} after ${nRows} rows are off by ${error.toPrecision(3)} of their size, at most ${limit} would do`;
        }
      }
    }
    if (own.hasShortlists === true) return await shortlistError(own, model.inputs(1), model.nLogits);
    return null;
  } finally {
    for (const program of programs) program.dispose();
  }
}

/** The logits of rows of two sequences, where there are two, and the state of the first. */
async function runRows(
  program: Program,
  nRows: number,
  inputs: readonly Float32Array[],
): Promise<readonly [Float32Array, Float32Array]> {
  const nFirst = Math.ceil(nRows / 2);
  const slot = program.createSlot();
  const runs: Run[] = [{ slot, nRows: nFirst, logits: "all" }];
  if (nRows > nFirst) runs.push({ slot: program.createSlot(), nRows: nRows - nFirst, logits: "all" });
  const logits = (await program.step(runs, inputs)).slice();
  const state = await program.readSlot(slot);
  for (const run of runs) program.releaseSlot(run.slot);
  return [logits, state];
}

function relativeError(got: Float32Array, want: Float32Array): number {
  let difference = 0;
  let total = 0;
  for (let i = 0; i < want.length; i++) {
    difference += (got[i]! - want[i]!) ** 2;
    total += want[i]! ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / total);
}
