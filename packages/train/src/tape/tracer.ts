// Turns the calls of a forward pass into a graph. Hides the versions of handles: a model file overwrites its scratch,
// here each write is a value of its own, and copies are none.

import { UnsupportedError } from "rwkv";
import { declareForward, type ForwardOptions, type ModelConfig, type WeightRule } from "rwkv/model";
import {
  createOps,
  type OpCall,
  type RowKind,
  type Tensor,
  type TensorDeclarer,
  type TensorKind,
} from "rwkv/ops";
import type { Graph, Node, StateValues, Value, Weight } from "./graph.ts";
import { addNode } from "./nodes.ts";

/** A low-rank addition to a matrix: W + scale * B A. */
export interface Adapter {
  /** `[rank, in]` */
  readonly down: Weight;
  /** `[out, rank]` */
  readonly up: Weight;
  /** alpha / rank */
  readonly scale: number;
}

/** What is trained. */
export interface TraceOptions extends ForwardOptions {
  readonly isTrained: (weightName: string) => boolean;
  /** By the name of the matrix. */
  readonly adapters?: ReadonlyMap<string, Adapter>;
  /** Whether a state before the step is a parameter, so that gradients must reach it. */
  readonly isStateWanted: (stateName: string) => boolean;
}

/** What nodes are made with. */
export interface Tracer {
  /** The newest version of a handle of rows. */
  read(tensor: Tensor): Value;
  /** A new version of a handle of rows; wanted if any source is. */
  write(tensor: Tensor, isWanted: boolean): Value;
  /** Makes `tensor` another name for a value. */
  alias(tensor: Tensor, value: Value): void;
  weight(tensor: Tensor): Weight;
  adapter(weight: Weight): Adapter | undefined;
  /** Something between forward and backward, or inside one of them. */
  extra(name: string, per: Value["per"], elements: number, isWanted?: boolean): Value;
  /** The state before the step and a new value for the one after it. */
  state(tensor: Tensor): StateValues;
  add(node: Node): void;
}

/**
 * Records the forward pass of a model.
 * @param rules - of all its weights
 * @throws UnsupportedError for models with a table of positions
 */
export function trace(config: ModelConfig, rules: readonly WeightRule[], options: TraceOptions): Graph {
  if (config.positions > 0) {
    throw new UnsupportedError("Models with a table of positions (v4neo) cannot be trained, only run.");
  }
  const calls: OpCall[] = [];
  const declared = declareTensors(config, rules, options);
  declared.forward(createOps((call) => calls.push(call)));

  const values: Value[] = [];
  const nodes: Node[] = [];
  const weights = new Map<string, Weight>();
  const versions = new Map<Tensor, Value>();
  const states: StateValues[] = [];
  const newValue = (name: string, per: Value["per"], elements: number, isWanted: boolean): Value => {
    const value = { id: values.length, name, per, elements, isWanted };
    values.push(value);
    return value;
  };
  const input = newValue("embedding", "row", config.nEmbd, options.isTrained("emb.weight"));
  versions.set(declared.input, input);

  const tracer: Tracer = {
    read: (tensor) => versions.get(tensor)!,
    write(tensor, isWanted) {
      const value = newValue(tensor.name, "row", tensor.shape[0]!, isWanted);
      versions.set(tensor, value);
      return value;
    },
    alias: (tensor, value) => void versions.set(tensor, value),
    weight({ name, shape }) {
      let weight = weights.get(name);
      if (weight === undefined) {
        weight = { name, shape, isTrained: options.isTrained(name) };
        weights.set(name, weight);
      }
      return weight;
    },
    adapter: ({ name }) => options.adapters?.get(name),
    extra: (name, per, elements, isWanted = false) => newValue(name, per, elements, isWanted),
    state(tensor) {
      const elements = tensor.shape.reduce((product, dimension) => product * dimension, 1);
      const isWanted = options.isStateWanted(tensor.name);
      const before = newValue(`${tensor.name} before`, "run", elements, isWanted);
      const after = newValue(`${tensor.name} after`, "run", elements, isWanted);
      const state = { name: tensor.name, initial: declared.initial.get(tensor)!, before, after };
      states.push(state);
      return state;
    },
    add: (node) => void nodes.push(node),
  };
  for (const call of calls) addNode(call, tracer);
  return { values, nodes, weights, input, logits: versions.get(declared.logits)!, states };
}

interface Declared {
  readonly forward: ReturnType<typeof declareForward>;
  readonly input: Tensor;
  readonly logits: Tensor;
  readonly initial: ReadonlyMap<Tensor, number>;
}

function declareTensors(
  config: ModelConfig,
  rules: readonly WeightRule[],
  options: ForwardOptions,
): Declared {
  let nTensors = 0;
  const make = (kind: TensorKind, rows: RowKind, name: string, shape: readonly number[]): Tensor => ({
    index: nTensors++,
    kind,
    rows,
    name,
    shape,
    dtype: "f32",
  });
  const handles = new Map<string, Tensor>();
  for (const { name, kind, shape, repeat } of rules) {
    if (kind === "embedding") continue; // looked up outside the pass
    handles.set(name, make("weight", "none", name, shape.length === 1 ? [shape[0]! * repeat] : shape));
  }
  const inputs: Tensor[] = [];
  const outputs: Tensor[] = [];
  const initial = new Map<Tensor, number>();
  const declarer: TensorDeclarer = {
    state(name, shape, value) {
      const tensor = make("state", "none", name, shape);
      initial.set(tensor, value);
      return tensor;
    },
    input(name, shape) {
      const tensor = make("input", "token", name, shape);
      inputs.push(tensor);
      return tensor;
    },
    scratch: (name, shape, rows) => make("scratch", rows, name, shape),
    output(name, shape) {
      const tensor = make("output", "logit", name, shape);
      outputs.push(tensor);
      return tensor;
    },
  };
  const forward = declareForward(declarer, config, handles, options);
  return { forward, input: inputs[0]!, logits: outputs[0]!, initial };
}
