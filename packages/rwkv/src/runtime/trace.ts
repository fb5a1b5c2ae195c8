// What goes on inside a model while it reads a prompt. The values are copied by a program that is recorded for this one
// trace and freed behind it; the model's own program, its sessions and their speed are left alone.

import { countElements } from "../core/dtype.ts";
import { DeviceError, UnsupportedError, UsageError } from "../core/errors.ts";
import { wildcardSource } from "../core/wildcard.ts";
import type { Trace, TraceTensor } from "../formats/trace-file.ts";
import type { ModelConfig } from "../model/config.ts";
import { stateLayout } from "../model/state.ts";
import { tracePoints, type TracePoint } from "../model/trace-points.ts";
import type { Recording, TappedProgram } from "../ops/backend.ts";
import { rowElements } from "../ops/tensor.ts";
import type { Engine, Prompt, PromptRows } from "./engine.ts";
import type { ModelInfo } from "./model.ts";

/** What is traced. */
export interface TraceOptions {
  /** Patterns of names, in which `*` stands for any characters; what fits one of them is traced. Default: everything. */
  readonly names?: string | readonly string[] | undefined;
  /** Numbers of layers, from 0; nothing outside the layers is traced then. Default: everything. */
  readonly layers?: readonly number[] | undefined;
  /** A whole state block to start from, laid out as `stateLayout` says. Default: what a new session starts from. */
  readonly initialState?: Float32Array | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Most bytes that the copies of one step take; longer prompts are read in more steps. Values do not depend on it. */
const MAX_STEP_BYTES = 64 * 2 ** 20;

/** The names of all values that can be traced, in order of computation. @throws as `trace` */
export function traceNames(engine: Engine): string[] {
  return tracePoints(recordingOf(engine).calls).map(({ name }) => name);
}

/**
 * Reads a prompt and keeps what is asked for.
 * @throws UsageError for a name or layer that the model does not have, an empty prompt, or as `session.append`
 * @throws UnsupportedError if the backend cannot look inside a step, or the engine runs in a worker
 * @throws DeviceError if there is no memory
 * @throws the signal's reason if aborted
 */
export async function trace(
  engine: Engine,
  info: ModelInfo,
  prompt: Prompt,
  options: TraceOptions,
): Promise<Trace> {
  const recording = recordingOf(engine);
  const points = choosePoints(engine, tracePoints(recording.calls), options);
  const input = engine.prepare(prompt);
  if (input.nRows === 0) throw new UsageError("A trace needs at least one token; the prompt is empty.");
  engine.checkState(options.initialState);
  const initialState = options.initialState ?? engine.initialState;
  return {
    origin: {
      model: info.name,
      modelVersion: engine.config.version,
      fingerprint: info.fingerprint,
      backend: info.backend,
      device: info.device,
    },
    tokens: input.tokens,
    tensors: await traceTensors(engine, recording, points, input, initialState, options.signal),
  };
}

function recordingOf(engine: Engine): Recording {
  engine.checkAlive();
  const { recording } = engine.program;
  if (recording !== undefined) return recording;
  throw new UnsupportedError(
    `What ${engine.name} runs on cannot look inside a step. Load the model with backend "cpu" or "reference", and not in a worker.`,
  );
}

function choosePoints(
  { name: model, config }: Engine,
  points: readonly TracePoint[],
  { names, layers }: TraceOptions,
): TracePoint[] {
  for (const layer of layers ?? []) {
    if (Number.isInteger(layer) && layer >= 0 && layer < config.nLayer) continue;
    throw new UsageError(`Layer ${layer} is unknown to ${model}: its layers are 0 to ${config.nLayer - 1}.`);
  }
  const inLayers =
    layers === undefined ? points : points.filter(({ layer }) => layer !== null && layers.includes(layer));
  const patterns = typeof names === "string" ? [names] : (names ?? ["*"]);
  const chosen = new Set<TracePoint>();
  for (const pattern of patterns) {
    const expression = new RegExp(`^${wildcardSource(pattern)}$`, "s");
    const fitting = inLayers.filter(({ name }) => expression.test(name));
    if (fitting.length === 0) {
      throw new UsageError(
        `Nothing in ${layers === undefined ? "" : `layers ${layers.join(", ")} of `}${model} is called "${pattern}". ` +
          `There are ${summary(inLayers)}; * stands for any characters.`,
      );
    }
    for (const point of fitting) chosen.add(point);
  }
  return points.filter((point) => chosen.has(point));
}

/** Names without the numbers of layers, each once, those of a mix together. */
function summary(points: readonly TracePoint[]): string {
  const groups = new Map<string, Set<string>>();
  for (const { name } of points) {
    const [, mix, last] = /^blocks\.\d+\.(?:(att|ffn)\.)?(.+)$/.exec(name) ?? [];
    const group = mix === undefined ? "" : `blocks.*.${mix}.`;
    const known = groups.get(group) ?? new Set();
    groups.set(group, known.add(last === undefined ? name : mix === undefined ? `blocks.*.${last}` : last));
  }
  return [...groups]
    .map(([group, names]) => {
      const list = [...names].join(", ");
      return group === "" ? list : `${group}{${list}}`;
    })
    .join(", ");
}

async function traceTensors(
  engine: Engine,
  recording: Recording,
  points: readonly TracePoint[],
  input: PromptRows,
  initialState: Float32Array | null,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, TraceTensor>> {
  const taps = points.flatMap(({ value }) => (value.kind === "rows" ? [value.tap] : []));
  const needsLogits = points.some(
    ({ value }) => value.kind === "logits" || (value.kind === "rows" && value.tap.tensor.rows === "logit"),
  );
  const bytesPerRow = 4 * taps.reduce((sum, { tensor }) => sum + rowElements(tensor), engine.config.nVocab);
  const maxRows = Math.max(
    1,
    Math.min(engine.program.maxRows, input.nRows, Math.floor(MAX_STEP_BYTES / bytesPerRow)),
  );
  const tensors = allocateTensors(engine.config, points, input.nRows);
  let program: TappedProgram | null = null;
  try {
    program = await recording.tapped(taps, maxRows);
    const slot = program.createSlot();
    if (initialState !== null) await program.writeSlot(slot, initialState);
    for (let first = 0; first < input.nRows; first += maxRows) {
      const nRows = Math.min(maxRows, input.nRows - first);
      const inputs = engine.createInputs(nRows);
      engine.fillRows(input, 0, inputs, 0, first, nRows);
      const run = { slot, nRows, logits: needsLogits ? "all" : "none" } as const;
      const logits = await program.step([run], inputs, { signal });
      let tap = 0;
      for (const { name, value } of points) {
        if (value.kind === "state") continue;
        const { shape, values } = tensors.get(name)!;
        values.set(value.kind === "logits" ? logits : program.readTap(tap++), first * shape[1]!);
      }
    }
    const state = await program.readSlot(slot);
    const states = new Map(stateLayout(engine.config).tensors.map((tensor) => [tensor.name, tensor]));
    for (const { name, value } of points) {
      if (value.kind !== "state") continue;
      const { offset } = states.get(value.stateName)!;
      const { values } = tensors.get(name)!;
      values.set(state.subarray(offset, offset + values.length));
    }
    return tensors;
  } catch (error) {
    engine.checkAlive(); // what a disposed program says means nothing to the model's user
    throw error;
  } finally {
    program?.dispose();
  }
}

/** @throws DeviceError if there is no memory */
function allocateTensors(
  config: ModelConfig,
  points: readonly TracePoint[],
  nRows: number,
): Map<string, TraceTensor> {
  const states = new Map(stateLayout(config).tensors.map(({ name, shape }) => [name, shape]));
  const shapeOf = ({ value }: TracePoint): readonly number[] => {
    if (value.kind === "state") return states.get(value.stateName)!;
    return [nRows, value.kind === "logits" ? config.nVocab : rowElements(value.tap.tensor)];
  };
  try {
    return new Map(
      points.map((point) => {
        const shape = shapeOf(point);
        return [point.name, { shape, values: new Float32Array(countElements(shape)) }];
      }),
    );
  } catch (cause) {
    throw new DeviceError(
      `There is no memory for ${points.length} values of ${nRows} tokens. Trace fewer layers or names, or a shorter prompt.`,
      { cause },
    );
  }
}
