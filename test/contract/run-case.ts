// Runs one contract case on a backend: builds a program of the one operation, feeds it the case's rows in a given
// schedule of steps, and gathers what was written. Every destination holds garbage before the operation writes it.

import type { ReferenceProgram } from "../../packages/rwkv/src/backends/reference/program.ts";
import { countElements } from "../../packages/rwkv/src/core/dtype.ts";
import type { Backend, Program, Run } from "../../packages/rwkv/src/ops/backend.ts";
import { SIGNATURES, type Role } from "../../packages/rwkv/src/ops/signature.ts";
import type { Tensor } from "../../packages/rwkv/src/ops/tensor.ts";
import type { Argument, CaseData, ContractCase, Limit, RowsArgument } from "./case.ts";

export type Numbers = Float32Array | Float64Array;

/** Some rows of one run, `start` counted from the first row of the run. */
export interface Piece {
  readonly run: number;
  readonly start: number;
  readonly nRows: number;
}

/** The pieces of each step. */
export type Schedule = readonly (readonly Piece[])[];

/** What the operation wrote: rows `[T, width]` (NaN where no logit was wanted), states `[runs, ...shape]`. */
export type Written = Readonly<Record<string, Numbers>>;

export interface OpenCase {
  /** @param garbage - what the destinations hold before */
  run(schedule: Schedule, garbage: number): Promise<Written>;
  dispose(): void;
}

/** All rows in one step. */
export function together(testCase: ContractCase): Schedule {
  return [testCase.runs.map((nRows, run) => ({ run, start: 0, nRows }))];
}

/** A step for each run. */
export function apart(testCase: ContractCase): Schedule {
  return testCase.runs.map((nRows, run) => [{ run, start: 0, nRows }]);
}

/** Each run cut into pieces of 1, 2, 3, 1, 2, 3 ... rows, the runs side by side as long as they last. */
export function inPieces(testCase: ContractCase): Schedule {
  const steps: Piece[][] = [];
  const done = testCase.runs.map(() => 0);
  for (let size = 1; done.some((start, run) => start < testCase.runs[run]!); size = (size % 3) + 1) {
    const step: Piece[] = [];
    testCase.runs.forEach((nRunRows, run) => {
      const start = done[run]!;
      const nRows = Math.min(size, nRunRows - start);
      if (nRows > 0) step.push({ run, start, nRows });
      done[run] = start + nRows;
    });
    steps.push(step);
  }
  return steps;
}

export async function openCase(backend: Backend, testCase: ContractCase): Promise<OpenCase> {
  const programs = new Map<string, BuiltCase>();
  for (const argument of writtenRows(testCase)) {
    programs.set(argument, await buildCase(backend, testCase, argument));
  }
  return {
    async run(schedule, garbage) {
      let written: Record<string, Numbers> = {};
      for (const [argument, built] of programs) {
        const { output, states } = await runProgram(built, testCase, schedule, garbage);
        written = { ...written, ...states, [argument]: output };
      }
      return written;
    },
    dispose: () => {
      for (const { program } of programs.values()) program.dispose();
    },
  };
}

function roleOf(testCase: ContractCase, argument: string): Role {
  const roles: Readonly<Record<string, Role>> = SIGNATURES[testCase.op];
  const role = roles[argument.replace(/\[\d+\]$/, "")];
  if (role === undefined) throw new Error(`${testCase.op} has no argument ${argument}`);
  return role;
}

/** The arguments whose rows the operation writes; an alias counts in place of what it stands for. */
function writtenRows(testCase: ContractCase): string[] {
  return Object.entries(testCase.arguments)
    .filter(([name, { kind }]) => kind !== "weight" && kind !== "state" && roleOf(testCase, name) !== "in")
    .map(([name]) => name);
}

/** The rows argument behind `argument`. */
function rowsArgument(testCase: ContractCase, argument: string): RowsArgument {
  const found: Argument | undefined = testCase.arguments[argument];
  if (found?.kind === "alias") return rowsArgument(testCase, found.of);
  if (found?.kind !== "rows") throw new Error(`${testCase.op}: ${argument} has no rows`);
  return found;
}

interface BuiltCase {
  readonly program: Program;
  readonly width: number;
  /** Values of each input in order of declaration; null for the garbage. */
  readonly inputs: readonly { readonly width: number; readonly values: Float32Array | null }[];
}

/** The program that returns what the operation writes to `observed`. */
async function buildCase(backend: Backend, testCase: ContractCase, observed: string): Promise<BuiltCase> {
  const nRows = testCase.runs.reduce((sum, n) => sum + n, 0);
  const builder = backend.createBuilder({ maxRows: nRows });
  const tensors = new Map<string, Tensor>();
  const inputs: { width: number; values: Float32Array | null }[] = [];
  const fills: { to: Tensor; from: Tensor }[] = [];
  const aliased = new Set<string>();
  for (const argument of Object.values(testCase.arguments)) {
    if (argument.kind === "alias") aliased.add(argument.of);
  }

  for (const [name, argument] of Object.entries(testCase.arguments)) {
    if (argument.kind === "weight") {
      const { dtype, shape, bytes, hasSparseInputs } = argument;
      const read = (target: Uint8Array): Promise<void> => {
        target.set(bytes);
        return Promise.resolve();
      };
      const upload = { name, dtype, shape, byteLength: bytes.byteLength, hasSparseInputs, read };
      tensors.set(name, await builder.weight(upload));
    } else if (argument.kind === "state") {
      tensors.set(name, builder.state(name, argument.shape, argument.initial));
    } else if (argument.kind === "rows") {
      const width = countElements(argument.shape);
      const source = builder.input(`${name}.given`, [width]);
      inputs.push({ width, values: argument.values });
      const isReadOnly = roleOf(testCase, name) === "in" && !aliased.has(name);
      // The rows of selectRows itself are token rows, those it makes are logit rows.
      const rows = testCase.op === "selectRows" && name === "x" ? "token" : testCase.rows;
      if (isReadOnly && rows === "token") {
        tensors.set(name, source);
      } else {
        const scratch = builder.scratch(name, [width], rows);
        tensors.set(name, scratch);
        fills.push({ to: scratch, from: source });
      }
    }
  }
  for (const [name, argument] of Object.entries(testCase.arguments)) {
    if (argument.kind === "alias") tensors.set(name, tensors.get(argument.of)!);
  }

  const width = countElements(rowsArgument(testCase, observed).shape);
  const output = builder.output("observed", [width]);
  const program = await builder.build((ops) => {
    for (const { to, from } of fills) {
      if (to.rows === "logit") ops.selectRows(to, from);
      else ops.copy(to, from);
    }
    testCase.call(ops, (name) => tensors.get(name)!);
    const result = tensors.get(observed)!;
    if (result.rows === "logit") ops.copy(output, result);
    else ops.selectRows(output, result);
  });
  return { program, width, inputs };
}

async function runProgram(
  { program, width, inputs }: BuiltCase,
  testCase: ContractCase,
  schedule: Schedule,
  garbage: number,
): Promise<{ output: Numbers; states: Record<string, Numbers> }> {
  const { runs, logits } = testCase;
  const isReference = "stepF64" in program;
  const firstRows = runs.map((_, run) => runs.slice(0, run).reduce((sum, n) => sum + n, 0));
  const nRows = runs.reduce((sum, n) => sum + n, 0);
  const output = isReference ? new Float64Array(nRows * width) : new Float32Array(nRows * width);
  output.fill(NaN);

  // Slots in another order than the runs, and one between them that no run touches.
  const slots = runs.map(() => program.createSlot()).reverse();
  const bystander = program.createSlot();
  const before = await program.readSlot(bystander);
  for (let run = 0; run < runs.length; run++) await writeStates(program, testCase, run, slots[run]!);

  for (const pieces of schedule) {
    const stepRuns = pieces.map(({ run, start, nRows: nPieceRows }): Run => {
      const isEnd = start + nPieceRows === runs[run];
      return {
        slot: slots[run]!,
        nRows: nPieceRows,
        logits: logits[run] === "last" && !isEnd ? "none" : logits[run]!,
      };
    });
    const stepInputs = inputs.map(({ width: inputWidth, values }) => {
      const nStepRows = pieces.reduce((sum, piece) => sum + piece.nRows, 0);
      const rows = new Float32Array(nStepRows * inputWidth).fill(garbage);
      let row = 0;
      for (const piece of pieces) {
        const from = (firstRows[piece.run]! + piece.start) * inputWidth;
        if (values !== null)
          rows.set(values.subarray(from, from + piece.nRows * inputWidth), row * inputWidth);
        row += piece.nRows;
      }
      return rows;
    });
    const got = isReference
      ? await (program as ReferenceProgram).stepF64(stepRuns, stepInputs)
      : await program.step(stepRuns, stepInputs);

    let row = 0;
    pieces.forEach(({ run, start, nRows: nPieceRows }, i) => {
      const wanted = stepRuns[i]!.logits;
      const first = { all: 0, last: nPieceRows - 1, none: nPieceRows }[wanted];
      for (let t = first; t < nPieceRows; t++, row++) {
        output.set(got.subarray(row * width, (row + 1) * width), (firstRows[run]! + start + t) * width);
      }
    });
    if (got.length !== row * width) {
      throw new Error(
        `${testCase.op}: ${got.length} values were returned for ${row} wanted rows of ${width}`,
      );
    }
  }

  const states = await readStates(program, testCase, slots);
  const after = await program.readSlot(bystander);
  if (after.some((value, i) => !Object.is(value, before[i])))
    throw new Error(`${testCase.op} wrote to a slot of no run`);
  for (const slot of [...slots, bystander]) program.releaseSlot(slot);
  return { output, states };
}

/** The states of a case in order of declaration, with their place in a slot. */
function stateLayout(
  testCase: ContractCase,
): { name: string; start: number; nElements: number; values: Float32Array | null }[] {
  let start = 0;
  return Object.entries(testCase.arguments).flatMap(([name, argument]) => {
    if (argument.kind !== "state") return [];
    const place = { name, start, nElements: countElements(argument.shape), values: argument.values };
    start += place.nElements;
    return [place];
  });
}

async function writeStates(
  program: Program,
  testCase: ContractCase,
  run: number,
  slot: number,
): Promise<void> {
  const content = await program.readSlot(slot);
  for (const { start, nElements, values } of stateLayout(testCase)) {
    if (values !== null) content.set(values.subarray(run * nElements, (run + 1) * nElements), start);
  }
  await program.writeSlot(slot, content);
}

async function readStates(
  program: Program,
  testCase: ContractCase,
  slots: readonly number[],
): Promise<Record<string, Numbers>> {
  const contents: Numbers[] = [];
  for (const slot of slots) {
    contents.push(
      "stepF64" in program
        ? await (program as ReferenceProgram).readSlotF64(slot)
        : await program.readSlot(slot),
    );
  }
  const states: Record<string, Numbers> = {};
  for (const { name, start, nElements } of stateLayout(testCase)) {
    states[name] = Float64Array.from(
      contents.flatMap((content) => [...content.subarray(start, start + nElements)]),
    );
  }
  return states;
}

/** What a case's limits are derived from. */
export function caseData(testCase: ContractCase, wanted: Written, flushesFactors = false): CaseData {
  return {
    nRows: Math.max(...testCase.runs),
    given(name) {
      const argument = testCase.arguments[name];
      if (argument === undefined) return new Float32Array(0);
      if (argument.kind === "alias") return rowsArgument(testCase, name).values ?? new Float32Array(0);
      if (argument.kind === "state" && argument.values === null) {
        return new Float32Array(testCase.runs.length * countElements(argument.shape)).fill(argument.initial);
      }
      return argument.values ?? new Float32Array(0);
    },
    wanted: (name) => Float64Array.from(wanted[name]!),
    flushesFactors,
  };
}

/**
 * The first element of `got` that is further from `want` than its limit allows, as a sentence such as
 * `cpu wkv7: y[3,1,17] is 0.4182, reference 0.4107, limit 2e-5; T=64 H=2 N=64 seed=7`; null if there is none.
 * Limits left out, and those of 0, ask for the same bits.
 */
export function firstError(
  backendName: string,
  testCase: ContractCase,
  got: Written,
  want: Written,
  wantName: string,
  limits: Readonly<Record<string, Limit>> = {},
): string | null {
  for (const [name, wanted] of Object.entries(want)) {
    const values = got[name]!;
    const limit = limits[name] ?? 0;
    for (let i = 0; i < wanted.length; i++) {
      const allowed = typeof limit === "number" ? limit : limit(i);
      const isRight =
        Object.is(values[i], wanted[i]) || (allowed > 0 && Math.abs(values[i]! - wanted[i]!) <= allowed);
      if (!isRight) {
        const place = indices(testCase, name, i).join(",");
        // 9 digits tell any two f32 apart
        const [is, shouldBe] = [values[i]!.toPrecision(9), wanted[i]!.toPrecision(9)];
        const amounts = `is ${is}, ${wantName} ${shouldBe}, limit ${allowed.toExponential(1)}`;
        return `${backendName} ${testCase.op}: ${name}[${place}] ${amounts}; ${testCase.title} seed=${testCase.seed}`;
      }
    }
  }
  return null;
}

/** Row (or run) first, then the indices within it. */
function indices(testCase: ContractCase, name: string, at: number): number[] {
  const argument = testCase.arguments[name];
  const shape = argument?.kind === "state" ? argument.shape : rowsArgument(testCase, name).shape;
  const found: number[] = [];
  let rest = at;
  for (const dimension of [...shape].reverse()) {
    found.unshift(rest % dimension);
    rest = Math.floor(rest / dimension);
  }
  return [rest, ...found];
}
