// Runs a graph forward and backward over the rows of a step. Hides where values and gradients lie; what they are is
// said by the graph, how long they are needed by the schedule.

import { WKV_CHUNK, type Numbers, type TrainKernels } from "../kernels/kernels.ts";
import type { Graph, Places, Step, Value, Weight } from "./graph.ts";
import { place, schedule, type Schedule, type Storage, type Transfer } from "./schedule.ts";

/** Most of what one step may have. */
export interface TapeLimits {
  readonly maxRows: number;
  readonly maxRuns: number;
}

/** How many numbers a tape needs; the same graph and limits need the same. */
export interface TapePlan {
  readonly graph: Graph;
  readonly limits: TapeLimits;
  readonly nElements: number;
  readonly schedule: Schedule;
  readonly offsets: ReadonlyMap<Storage, number>;
}

/** Numbers that belong to a tape but that others own. */
export interface WeightPlaces {
  weight(weight: Weight): Numbers;
  weightGradient(weight: Weight): Numbers | null;
  /** `[maxRuns, ...]`, by the name of the state; see the rules of kernels.ts. */
  stateGradient(name: string): Numbers | null;
}

/** A graph with places, ready to run. */
export interface Tape {
  readonly graph: Graph;
  /** Rows of the embedding, `[rows, C]`; filled before `forward`. */
  readonly input: Numbers;
  /** Their gradient after `backward`; null if nobody wants it. */
  readonly inputGradient: Numbers | null;
  /** `[rows, V]`; the loss puts its gradient in the same place. */
  readonly logits: Numbers;
  /** Every run's state before the step, filled by the caller, and after it. */
  readonly states: readonly { readonly name: string; readonly before: Numbers; readonly after: Numbers }[];
  forward(step: Step): void;
  backward(step: Step): void;
}

/** Multiple of elements at which every place begins: a cache line of 64 bytes in f32. */
const ALIGNMENT = 16;

export function planTape(graph: Graph, limits: TapeLimits): TapePlan {
  const planned = schedule(graph);
  const counts = {
    row: limits.maxRows,
    run: limits.maxRuns,
    // each run may have one chunk that is not full
    chunk: Math.ceil(limits.maxRows / WKV_CHUNK) + limits.maxRuns,
  };
  const lengthOf = ({ per, elements }: Storage): number =>
    Math.ceil((counts[per] * elements) / ALIGNMENT) * ALIGNMENT;
  const used = planned.data.filter(({ end }) => end >= 0); // what only the backward needs has no data
  const storages = [...used, ...planned.gradients.filter((storage) => storage !== undefined)];
  const { offsets, length } = place(storages, lengthOf);
  return { graph, limits, nElements: length, schedule: planned, offsets };
}

/** @param numbers - `plan.nElements` of them, for this tape alone */
export function createTape(
  plan: TapePlan,
  kernels: TrainKernels,
  numbers: Numbers,
  weights: WeightPlaces,
): Tape {
  const { graph, offsets } = plan;
  const { data, gradients, backward } = plan.schedule;
  const viewOf = (storage: Storage): Numbers => numbers.subarray(offsets.get(storage) ?? 0);
  const dataViews = data.map(viewOf);
  const gradientViews = gradients.map((storage) => (storage === undefined ? null : viewOf(storage)));
  const places: Places = {
    ...weights,
    data: ({ id }) => dataViews[id]!,
    gradient: ({ id }) => gradientViews[id]!,
  };
  const count = ({ elements }: Value, { rows }: Step): number => elements * rows;
  const transfer = ({ from, to, scale, isAdded }: Transfer, step: Step): void => {
    const source = places.gradient(from);
    const target = places.gradient(to);
    const n = count(to, step);
    if (isAdded) kernels.addScaled(target, target, source, scale, n);
    else if (scale === 1) target.set(source.subarray(0, n));
    else kernels.addScaled(target, source, source, scale - 1, n);
  };
  return {
    graph,
    input: places.data(graph.input),
    inputGradient: graph.input.isWanted ? places.gradient(graph.input) : null,
    logits: places.data(graph.logits),
    states: graph.states.map(({ name, before, after }) => ({
      name,
      before: places.data(before),
      after: places.data(after),
    })),
    forward(step) {
      for (const node of graph.nodes) node.forward(kernels, places, step);
    },
    backward(step) {
      for (const { node, added, cleared, transfers } of backward) {
        for (const value of cleared) places.gradient(value).fill(0, 0, count(value, step));
        node.backward?.(kernels, places, step, added);
        for (const each of transfers) transfer(each, step);
      }
    },
  };
}
