// From the operations of a model to programs that replay them: one that the builder makes and, on demand, others with taps
// that use the same weights. Hides what they share, and what goes with each of them.

import { UsageError } from "../../core/errors.ts";
import type { Activations, TappedProgram } from "../../ops/backend.ts";
import { withTaps, type Tap, type TappedCalls } from "../../ops/taps.ts";
import type { Tensor } from "../../ops/tensor.ts";
import { RegionGroup, type Regions } from "./arena.ts";
import { lower } from "./commands.ts";
import { encodeProgram } from "./encode.ts";
import type { EncodedPart, ProgramHost } from "./host.ts";
import { cutIntoParts } from "./parts.ts";
import { CpuProgram, type CpuRecording } from "./program.ts";
import { schedule, type ScheduledCommand } from "./schedule.ts";
import { Slots } from "./slots.ts";
import type { Weights } from "./weights.ts";

/** What all programs of a model have in common. */
export interface RecordedModel {
  readonly host: ProgramHost;
  readonly weights: Weights;
  /** The initial value of each state, in order of declaration. */
  readonly initials: ReadonlyMap<Tensor, number>;
  readonly activations: Activations;
  readonly weightByteLength: number;
}

/**
 * The program of a model; disposing it frees the model's memories.
 * @throws DeviceError if there is no memory
 */
export async function recordProgram(
  model: RecordedModel,
  recorded: TappedCalls,
  maxRows: number,
): Promise<CpuProgram> {
  const { host } = model;
  const tappedPrograms = new Set<CpuProgram>();
  let isDisposed = false;
  const tapped = async (taps: readonly Tap[], mostRows: number): Promise<TappedProgram> => {
    const { calls, tensors } = recorded;
    const program = await recordTapped(model, withTaps(calls, tensors, taps), mostRows, () =>
      tappedPrograms.delete(program),
    );
    if (isDisposed) {
      program.dispose();
      throw new UsageError("the program was disposed while another was recorded from it; build another.");
    }
    tappedPrograms.add(program);
    return program;
  };
  return record(model, recorded, maxRows, host.arenas, {
    recording: { calls: recorded.calls, tapped },
    onDispose() {
      isDisposed = true;
      for (const program of tappedPrograms) program.dispose();
      host.release();
    },
  });
}

/** A program beside that of the model, in regions that it gives back. */
async function recordTapped(
  model: RecordedModel,
  recorded: TappedCalls,
  maxRows: number,
  onDispose: () => void,
): Promise<CpuProgram> {
  const groups = model.host.arenas.map((arena) => new RegionGroup(arena));
  const freeAll = (): void => {
    for (const group of groups) group.freeAll();
  };
  try {
    const beside = { ...model, weights: model.weights.withoutCopies() };
    return await record(beside, recorded, maxRows, groups, {
      onDispose() {
        freeAll();
        onDispose();
      },
    });
  } catch (error) {
    freeAll();
    throw error;
  }
}

async function record(
  model: RecordedModel,
  recorded: TappedCalls,
  maxRows: number,
  arenas: readonly Regions[],
  owner: Pick<CpuRecording, "recording" | "onDispose">,
): Promise<CpuProgram> {
  const { host, weights } = model;
  const tensors = [...recorded.tensors];
  const lowered = lower(recorded.calls, (width, rows) => {
    const name = `low-rank ${width}`;
    const tensor: Tensor = {
      index: tensors.length,
      kind: "scratch",
      rows,
      name,
      shape: [width],
      dtype: "f32",
    };
    tensors.push(tensor);
    return tensor;
  });
  const { parts, memoryOf } = cutIntoParts(lowered, arenas.length, (weight) => weights.memoryOf(weight));
  const slots = new Slots(arenas, model.initials, memoryOf);
  const encodedParts = parts.map(({ memory, commands }) => {
    const scheduled = schedule(commands, (matrix) => weights.layoutOf(matrix));
    return encodePart(model, slots, memory, arenas[memory]!, scheduled, tensors.length, maxRows);
  });
  return new CpuProgram({
    arenas,
    slots,
    parts: parts.map((part, i) => ({ ...part, encoded: encodedParts[i]!.encoded })),
    memoryOf,
    replay: await host.start(encodedParts),
    maxRows,
    tensors,
    copies: recorded.copies,
    weightByteLength: model.weightByteLength,
    skipsZeros: tensors.some((tensor) => tensor.kind === "weight" && weights.layoutOf(tensor) === "columns"),
    ...owner,
  });
}

function encodePart(
  { host, weights, activations }: RecordedModel,
  slots: Slots,
  memory: number,
  arena: Regions,
  commands: readonly ScheduledCommand[],
  nTensors: number,
  maxRows: number,
): EncodedPart {
  for (const { operands } of commands) weights.bringTo(memory, arena, operands);
  const encoded = encodeProgram(arena, nTensors, commands, maxRows, host.nThreads, activations, (tensor) =>
    tensor.kind === "weight"
      ? weights.placeIn(memory, tensor)
      : { address: slots.offsetOf(tensor), layout: "rows" },
  );
  return { memory, encoded, commands };
}
