// The states of sequences that are read in pieces: kept between two pieces, begun from the initial or the trained one.
// Carried states are constants to the gradient; it reaches a trained state only through sequences that begin in the step.

import { stateLayout } from "rwkv/model";
import type { Numbers } from "../kernels/kernels.ts";
import { timeStateName } from "../parameters/parameters.ts";
import type { Tape } from "../tape/tape.ts";
import type { ThreadBlocks, TrainBlocks, TrainPlan } from "./setup.ts";
import type { Sequence } from "./share.ts";

interface StatePlace {
  /** `[maxRuns, nElements]` */
  readonly before: Numbers;
  readonly after: Numbers;
  readonly nElements: number;
  /** In a kept state. */
  readonly offset: number;
  readonly initial: number;
  /** The trained initial state with its gradient, and the gradient per run. */
  readonly trained: { readonly values: Numbers; readonly gradient: Numbers; readonly perRun: Numbers } | null;
}

export class SlotStates {
  #kept = new Map<number, Numbers>();
  readonly #places: readonly StatePlace[];
  readonly #nElements: number;

  constructor(plan: TrainPlan, blocks: TrainBlocks, own: ThreadBlocks, tape: Tape) {
    const layout = stateLayout(plan.setup.config);
    this.#nElements = layout.nElements;
    this.#places = layout.tensors.map(({ name, shape, offset, initial }): StatePlace => {
      const { before, after } = tape.states.find((state) => state.name === name)!;
      const nElements = shape.reduce((product, dimension) => product * dimension, 1);
      const place = { before, after, nElements, offset, initial };
      const perRun = own.stateGradients.get(name);
      if (perRun === undefined) return { ...place, trained: null };
      const parameter = plan.table.byName.get(timeStateName(name))!;
      const start = parameter.gradientOffset!;
      return {
        ...place,
        trained: {
          values: blocks.weights.subarray(parameter.offset, parameter.offset + nElements),
          gradient: own.gradients.subarray(start, start + nElements),
          perRun,
        },
      };
    });
  }

  /** Puts the state of each sequence before its run. */
  load(sequences: readonly Sequence[]): void {
    for (const { before, nElements, offset, initial, trained } of this.#places) {
      for (const [run, { slot, isStart }] of sequences.entries()) {
        const start = run * nElements;
        const kept = isStart ? undefined : this.#kept.get(slot)!;
        if (kept !== undefined) before.set(kept.subarray(offset, offset + nElements), start);
        else if (trained !== null) before.set(trained.values, start);
        else before.fill(initial, start, start + nElements);
      }
    }
  }

  /** Keeps the states after the runs of sequences that go on. */
  keep(sequences: readonly Sequence[]): void {
    for (const [run, { slot, isEnd }] of sequences.entries()) {
      if (isEnd) {
        this.#kept.delete(slot);
        continue;
      }
      let kept = this.#kept.get(slot);
      if (kept === undefined) {
        const { before } = this.#places[0]!;
        kept =
          before instanceof Float64Array
            ? new Float64Array(this.#nElements)
            : new Float32Array(this.#nElements);
        this.#kept.set(slot, kept);
      }
      for (const { after, nElements, offset } of this.#places) {
        kept.set(after.subarray(run * nElements, (run + 1) * nElements), offset);
      }
    }
  }

  /** Nothing follows the pieces of a step, so that the gradients of the states after them are zero. */
  clearGradients(): void {
    for (const { trained } of this.#places) trained?.perRun.fill(0);
  }

  addGradients(sequences: readonly Sequence[]): void {
    for (const { trained, nElements } of this.#places) {
      if (trained === null) continue;
      const { gradient, perRun } = trained;
      for (const [run, { isStart }] of sequences.entries()) {
        if (!isStart) continue;
        for (let i = 0; i < nElements; i++) gradient[i] = gradient[i]! + perRun[run * nElements + i]!;
      }
    }
  }

  get kept(): ReadonlyMap<number, Numbers> {
    return this.#kept;
  }

  restore(saved: ReadonlyMap<number, Numbers>): void {
    this.#kept = new Map(saved);
  }
}
