// What every thread of a training knows, and the map of the memory they share, which each computes for itself.

import { countElements, GROUP_NORM_EPS, stateLayout, weightRules, type ModelConfig } from "rwkv/model";
import type { KernelModule, Numbers, TrainMemory } from "../kernels/kernels.ts";
import {
  adapterNames,
  parameterTable,
  timeStateName,
  type ParameterTable,
  type TrainedParts,
} from "../parameters/parameters.ts";
import { planTape, type TapeLimits, type TapePlan } from "../tape/tape.ts";
import { trace, type Adapter } from "../tape/tracer.ts";

/** Plain data, which goes to workers as it is. */
export interface TrainSetup {
  readonly config: ModelConfig;
  readonly parts: TrainedParts;
  /** Of the rows that one pass forward and backward takes at once. */
  readonly limits: TapeLimits;
  readonly nThreads: number;
  /** Pull on the largest logit; see `crossEntropy`. */
  readonly pull: number;
}

/** The setup with all that follows from it. */
export interface TrainPlan {
  readonly setup: TrainSetup;
  readonly table: ParameterTable;
  readonly tape: TapePlan;
  /** States whose gradients are wanted, and their elements per run. */
  readonly trainedStates: ReadonlyMap<string, number>;
}

export function planTraining(setup: TrainSetup): TrainPlan {
  const { config, parts, limits } = setup;
  const table = parameterTable(config, parts);
  const isTrained = (name: string): boolean => table.byName.get(name)?.isTrained ?? false;
  const adapters = new Map<string, Adapter>();
  const rules = weightRules(config);
  if (parts.kind === "lora") {
    for (const { name } of rules) {
      const names = adapterNames(name);
      const down = table.byName.get(names.down);
      const up = table.byName.get(names.up);
      if (down !== undefined && up !== undefined) {
        adapters.set(name, { down, up, scale: parts.alpha / parts.rank });
      }
    }
  }
  const trainedStates = new Map<string, number>();
  if (parts.kind === "state") {
    for (const { name, shape } of stateLayout(config).tensors) {
      if (table.byName.has(timeStateName(name))) trainedStates.set(name, countElements(shape));
    }
  }
  const graph = trace(config, rules, {
    groupNormEps: GROUP_NORM_EPS,
    rescaleEveryNLayers: 0,
    isTrained,
    adapters,
    isStateWanted: (name) => trainedStates.has(name),
  });
  return { setup, table, tape: planTape(graph, limits), trainedStates };
}

/** The numbers and integers of one thread alone. */
export interface ThreadBlocks {
  readonly gradients: Numbers;
  readonly tape: Numbers;
  /** By name, `[maxRuns, ...]`. */
  readonly stateGradients: ReadonlyMap<string, Numbers>;
  /** `[maxRows]` */
  readonly losses: Numbers;
  readonly rowWeights: Numbers;
  readonly targets: Int32Array;
  /** `[maxRuns + 1]` */
  readonly runs: Int32Array;
}

/** The memory of a training. */
export interface TrainBlocks {
  readonly memory: TrainMemory;
  readonly weights: Numbers;
  /** Vectors in the form that the forward pass uses, where that differs. */
  readonly used: Numbers;
  readonly firstMoments: Numbers;
  readonly secondMoments: Numbers;
  readonly threads: readonly ThreadBlocks[];
}

/** Every array begins on a cache line, so that no two threads write to one. */
const LINE_BYTES = 64;

/** Takes views of `memory`, or of new memory if there is none yet. */
export function openBlocks(plan: TrainPlan, kernels: KernelModule, given?: TrainMemory): TrainBlocks {
  const elementBytes = kernels.precision === "f64" ? 8 : 4;
  const { table, tape, trainedStates } = plan;
  const { nThreads, limits } = plan.setup;
  let end = Math.ceil(kernels.reservedByteLength / LINE_BYTES) * LINE_BYTES;
  const reserve = (nElements: number, bytes: number): number => {
    const start = end;
    end = start + Math.ceil((nElements * bytes) / LINE_BYTES) * LINE_BYTES;
    return start;
  };
  const numbersAt = (length: number): { start: number; length: number } => ({
    start: reserve(length, elementBytes),
    length,
  });
  const integersAt = (length: number): { start: number; length: number } => ({
    start: reserve(length, 4),
    length,
  });
  const shared = {
    weights: numbersAt(table.weightLength),
    used: numbersAt(table.usedLength),
    firstMoments: numbersAt(table.gradientLength),
    secondMoments: numbersAt(table.gradientLength),
  };
  const own = Array.from({ length: nThreads }, () => ({
    gradients: numbersAt(table.gradientLength),
    tape: numbersAt(tape.nElements),
    stateGradients: [...trainedStates].map(
      ([name, nElements]) => [name, numbersAt(nElements * limits.maxRuns)] as const,
    ),
    losses: numbersAt(limits.maxRows),
    rowWeights: numbersAt(limits.maxRows),
    targets: integersAt(limits.maxRows),
    runs: integersAt(limits.maxRuns + 1),
  }));

  const memory = given ?? kernels.createMemory(end);
  const buffer = memory instanceof SharedArrayBuffer ? memory : memory.buffer;
  const numbers = ({ start, length }: { start: number; length: number }): Numbers =>
    kernels.precision === "f64"
      ? new Float64Array(buffer, start, length)
      : new Float32Array(buffer, start, length);
  const integers = ({ start, length }: { start: number; length: number }): Int32Array =>
    new Int32Array(buffer, start, length);
  return {
    memory,
    weights: numbers(shared.weights),
    used: numbers(shared.used),
    firstMoments: numbers(shared.firstMoments),
    secondMoments: numbers(shared.secondMoments),
    threads: own.map((block) => ({
      gradients: numbers(block.gradients),
      tape: numbers(block.tape),
      stateGradients: new Map(block.stateGradients.map(([name, place]) => [name, numbers(place)])),
      losses: numbers(block.losses),
      rowWeights: numbers(block.rowWeights),
      targets: integers(block.targets),
      runs: integers(block.runs),
    })),
  };
}
