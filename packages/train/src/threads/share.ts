// The work of one thread: its sequences forward and backward, and its part of the optimiser's step. Runs in a worker or
// in the caller's thread alike. Weights are shared, gradients are summed over threads in their order, so that results
// depend on the number of threads but never on their timing.

import type { KernelModule, Numbers, TrainKernels } from "../kernels/kernels.ts";
import type { Parameter } from "../parameters/parameters.ts";
import { storedGradient, writeUsed } from "../parameters/used.ts";
import type { Step } from "../tape/graph.ts";
import { createTape, type Tape } from "../tape/tape.ts";
import { SlotStates } from "./slot-states.ts";
import type { ThreadBlocks, TrainBlocks, TrainPlan } from "./setup.ts";

/** A piece of one sequence. */
export interface Sequence {
  /** Which of the sequences that are read at the same time; its state is kept under this number. */
  readonly slot: number;
  /** Whether it begins here; otherwise it goes on from the state that the slot was left with. */
  readonly isStart: boolean;
  /** Whether nothing of it follows, so that its state need not be kept. */
  readonly isEnd: boolean;
  readonly tokens: Int32Array;
  /** The token after each; -1 where nothing is to be learnt. */
  readonly targets: Int32Array;
}

/** Numbers of the optimiser for one step. */
export interface UpdateOptions {
  readonly rate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** Of the parameters that decay. */
  readonly weightDecay: number;
  /** Steps so far, this one included. */
  readonly step: number;
  readonly gradientScale: number;
}

export interface Share {
  /**
   * Runs sequences forward and adds their gradients.
   * @param weight - of each target in the loss: one over the number of targets of the whole batch
   * @returns the weighted sum of the losses
   */
  accumulate(sequences: readonly Sequence[], weight: number): number;
  /** The sum of the losses; no gradient, and slots stay as they are. */
  evaluate(sequences: readonly Sequence[]): number;
  /** Sums this share's part of all threads' gradients. @returns the sum of their squares */
  reduce(): number;
  /** Changes this share's part of the parameters and clears its gradients. */
  update(options: UpdateOptions): void;
  /** The states left in slots, by slot, in the order of `stateLayout`. */
  readStates(): ReadonlyMap<number, Numbers>;
  writeStates(states: ReadonlyMap<number, Numbers>): void;
}

export function createShare(
  plan: TrainPlan,
  blocks: TrainBlocks,
  kernelModule: KernelModule,
  thread: number,
): Share {
  const kernels = kernelModule.open(blocks.memory);
  const own = blocks.threads[thread]!;
  const tape = openTape(plan, blocks, own, kernels);
  const states = new SlotStates(plan, blocks, own, tape);
  const parts = partOf(plan.table.parameters, plan.setup.nThreads, thread);
  const embedding = plan.table.byName.get("emb.weight")!;
  const { nEmbd, nVocab } = plan.setup.config;
  const { maxRows, maxRuns } = plan.setup.limits;
  const { pull } = plan.setup;

  /** Puts sequences into the tape's places. */
  function load(sequences: readonly Sequence[], tokens: Int32Array, weight: number): Step {
    let rows = 0;
    own.runs[0] = 0;
    for (const [run, sequence] of sequences.entries()) {
      tokens.set(sequence.tokens, rows);
      own.targets.set(sequence.targets, rows);
      rows += sequence.tokens.length;
      own.runs[run + 1] = rows;
    }
    states.load(sequences);
    own.rowWeights.fill(weight, 0, rows);
    for (let row = 0; row < rows; row++) {
      const from = embedding.offset + tokens[row]! * nEmbd;
      tape.input.set(blocks.weights.subarray(from, from + nEmbd), row * nEmbd);
    }
    return { rows, runs: own.runs.subarray(0, sequences.length + 1) };
  }

  function addEmbeddingGradient(tokens: Int32Array, rows: number): void {
    const { inputGradient } = tape;
    if (inputGradient === null) return;
    for (let row = 0; row < rows; row++) {
      const to = embedding.gradientOffset! + tokens[row]! * nEmbd;
      for (let c = 0; c < nEmbd; c++) {
        own.gradients[to + c] = own.gradients[to + c]! + inputGradient[row * nEmbd + c]!;
      }
    }
  }

  const tokens = new Int32Array(maxRows);

  function run(sequences: readonly Sequence[], weight: number, isTraining: boolean): number {
    let sum = 0;
    for (const group of grouped(sequences, maxRows, maxRuns)) {
      const step = load(group, tokens, weight);
      tape.forward(step);
      const dLogits = isTraining ? tape.logits : null;
      kernels.crossEntropy(
        own.losses,
        dLogits,
        tape.logits,
        own.targets,
        own.rowWeights,
        step.rows,
        nVocab,
        pull,
      );
      for (let row = 0; row < step.rows; row++) sum += own.losses[row]! * weight;
      if (!isTraining) continue;
      states.clearGradients();
      tape.backward(step);
      addEmbeddingGradient(tokens, step.rows);
      states.addGradients(group);
      states.keep(group);
    }
    return sum;
  }

  return {
    accumulate: (sequences, weight) => run(sequences, weight, true),
    evaluate: (sequences) => run(sequences, 1, false),
    reduce() {
      let squares = 0;
      for (const parameter of parts) {
        const n = parameter.nElements * parameter.repeat;
        const start = parameter.gradientOffset!;
        const [first, ...others] = blocks.threads.map(({ gradients }) =>
          gradients.subarray(start, start + n),
        );
        for (const other of others) kernels.addScaled(first!, first!, other, 1, n);
        if (parameter.usedOffset !== null) {
          const { stored, used } = viewsOf(parameter, blocks);
          storedGradient(parameter, stored, used, first!);
        }
        squares += kernels.sumOfSquares(first!, parameter.nElements);
      }
      return squares;
    },
    update(options) {
      const { rate, beta1, beta2, eps, weightDecay, step, gradientScale } = options;
      for (const parameter of parts) {
        const n = parameter.nElements;
        const start = parameter.gradientOffset!;
        const { stored, used } = viewsOf(parameter, blocks);
        kernels.adamw(
          stored,
          blocks.firstMoments.subarray(start, start + n),
          blocks.secondMoments.subarray(start, start + n),
          blocks.threads[0]!.gradients.subarray(start, start + n),
          n,
          rate * parameter.rateFactor,
          beta1,
          beta2,
          eps,
          parameter.decays ? weightDecay : 0,
          1 - beta1 ** step,
          1 - beta2 ** step,
          gradientScale,
        );
        if (parameter.usedOffset !== null) writeUsed(parameter, stored, used);
        for (const { gradients } of blocks.threads) gradients.fill(0, start, start + n * parameter.repeat);
      }
    },
    readStates: () => states.kept,
    writeStates: (saved) => states.restore(saved),
  };
}

/** A parameter as stored, and as used if that is another vector. */
export function viewsOf(
  parameter: Parameter,
  blocks: TrainBlocks,
): { readonly stored: Numbers; readonly used: Numbers } {
  const { offset, usedOffset, nElements, repeat } = parameter;
  const stored = blocks.weights.subarray(offset, offset + nElements);
  const used =
    usedOffset === null ? stored : blocks.used.subarray(usedOffset, usedOffset + nElements * repeat);
  return { stored, used };
}

function openTape(plan: TrainPlan, blocks: TrainBlocks, own: ThreadBlocks, kernels: TrainKernels): Tape {
  const weights = new Map<string, Numbers>();
  const gradients = new Map<string, Numbers>();
  for (const parameter of plan.table.parameters) {
    const { name, gradientOffset, nElements, repeat } = parameter;
    weights.set(name, viewsOf(parameter, blocks).used);
    if (gradientOffset !== null) {
      gradients.set(name, own.gradients.subarray(gradientOffset, gradientOffset + nElements * repeat));
    }
  }
  return createTape(plan.tape, kernels, own.tape, {
    weight: ({ name }) => weights.get(name)!,
    weightGradient: ({ name }) => gradients.get(name) ?? null,
    stateGradient: (name) => own.stateGradients.get(name) ?? null,
  });
}

/** As many sequences at a time as the tape takes. */
function* grouped(
  sequences: readonly Sequence[],
  maxRows: number,
  maxRuns: number,
): Generator<readonly Sequence[]> {
  let group: Sequence[] = [];
  let rows = 0;
  for (const sequence of sequences) {
    const nRows = sequence.tokens.length;
    if (group.length > 0 && (rows + nRows > maxRows || group.length === maxRuns)) {
      yield group;
      group = [];
      rows = 0;
    }
    group.push(sequence);
    rows += nRows;
  }
  if (group.length > 0) yield group;
}

/** The trained parameters that one thread sums and changes: neighbours, of about equal numbers of elements. */
function partOf(parameters: readonly Parameter[], nThreads: number, thread: number): Parameter[] {
  const trained = parameters.filter(({ isTrained }) => isTrained);
  const total = trained.reduce((sum, { nElements }) => sum + nElements, 0);
  let done = 0;
  return trained.filter(({ nElements }) => {
    const middle = done + nElements / 2;
    done += nElements;
    return Math.min(nThreads - 1, Math.floor((middle / total) * nThreads)) === thread;
  });
}
