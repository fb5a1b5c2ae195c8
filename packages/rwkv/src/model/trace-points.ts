// The names of the values inside a forward pass, found in the recorded operations alone: the layer from the weights that
// an operation reads, the rest from the handle that it writes. Hides how short names of handles, several of which serve both
// mixes and are written more than once, become names that tell one value from another.

import { operandsOf, type OpCall } from "../ops/signature.ts";
import type { Tap } from "../ops/taps.ts";
import type { Tensor } from "../ops/tensor.ts";

/** A value that can be looked at. */
export interface TracePoint {
  /** Such as `blocks.0.att.k`; unique in the model. */
  readonly name: string;
  /** Null before the first and behind the last layer. */
  readonly layer: number | null;
  readonly value: TracedValue;
}

export type TracedValue =
  /** Rows in the middle of a step. */
  | { readonly kind: "rows"; readonly tap: Tap }
  /** What a step returns. */
  | { readonly kind: "logits" }
  /** A state after the last token, by its name in `stateLayout`. */
  | { readonly kind: "state"; readonly stateName: string };

/** Where the operations are that follow one another. */
interface Section {
  /** Of all names in it: empty, or `blocks.<layer>.att.`. */
  readonly prefix: string;
  readonly layer: number | null;
}

const OUTSIDE_LAYERS: Section = { prefix: "", layer: null };

/**
 * Names of values by handle; by handle and operation where that makes a difference. All others are called as their
 * handle is, and `<name>.<function>` after an activation in place.
 */
const NAMES: Readonly<Record<string, string>> = {
  embedding: "emb",
  position: "pos_emb",
  xn: "ln",
  dx: "out",
  // Version 6, with the letters of the official training code.
  delta: "xx",
  xx: "xxx",
  // Version 7.
  vGate: "v_gate",
  "v lerp": "v.mixed",
  "k scaleKey": "k.scaled",
  y: "wkv",
  "y groupNorm": "ln_x",
  "y addBonus": "bonus",
  "y mul": "gated",
  // The channel mix; `r` exists up to version 6.
  hidden: "k",
  ffnR: "r",
  "last layerNorm": "ln_out",
};

const FUNCTIONS: Readonly<Record<string, string>> = { reluSquared: "relu_squared" };

/**
 * All values of a forward pass, in order of computation. Operations that only move rows add none.
 * @param calls - as recorded
 */
export function tracePoints(calls: readonly OpCall[]): TracePoint[] {
  const points: TracePoint[] = [];
  const names = new Set<string>();
  const add = (section: Section, name: string, value: TracedValue): void => {
    let unique = `${section.prefix}${name}`;
    for (let n = 2; names.has(unique); n++) unique = `${section.prefix}${name}.${n}`;
    names.add(unique);
    points.push({ name: unique, layer: section.layer, value });
  };
  const operands = calls.flatMap(operandsOf);
  const inputs = new Set(operands.flatMap(({ tensor }) => (tensor.kind === "input" ? [tensor] : [])));
  for (const tensor of inputs) {
    add(OUTSIDE_LAYERS, NAMES[tensor.name] ?? tensor.name, { kind: "rows", tap: { tensor, nCalls: 0 } });
  }
  let section = OUTSIDE_LAYERS;
  calls.forEach((call, i) => {
    section = sectionOf(call) ?? section;
    if (call.op === "copy" || call.op === "selectRows") return;
    for (const { tensor, role } of operandsOf(call)) {
      if (role === "in") continue;
      if (tensor.kind === "state") {
        add(section, `state.${shortStateName(tensor.name)}`, { kind: "state", stateName: tensor.name });
      } else if (tensor.kind === "output") {
        add(section, "head", { kind: "logits" });
      } else {
        const isLast = !isWrittenAgain(calls, i, tensor);
        add(section, nameOf(call, tensor, isLast), { kind: "rows", tap: { tensor, nCalls: i + 1 } });
      }
    }
  });
  return points;
}

/** The section that an operation begins or goes on with, as its weights and states tell; null if it has none. */
function sectionOf(call: OpCall): Section | null {
  for (const { tensor } of operandsOf(call)) {
    if (tensor.kind !== "weight" && tensor.kind !== "state") continue;
    const [, layer, part] = /^blocks\.(\d+)\.(ln0|ln1|ln2|att|ffn)?/.exec(tensor.name) ?? [];
    if (layer === undefined) return OUTSIDE_LAYERS;
    if (part === "ln0") return { prefix: `blocks.${layer}.`, layer: Number(layer) };
    if (part === undefined) continue; // wkv and its kin do not say, but stand in the middle of the time mix
    const mix = part === "ln2" || part === "ffn" ? "ffn" : "att";
    return { prefix: `blocks.${layer}.${mix}.`, layer: Number(layer) };
  }
  return null;
}

function nameOf(call: OpCall, tensor: Tensor, isLast: boolean): string {
  const { name } = tensor;
  if (name === "x" && call.op === "layerNorm") return "ln0";
  // Up to version 6 the channel mix gates its product in place, so that what leaves it comes second.
  if (name === "dx" && !isLast) return "kv";
  // The shares of version 6 go through one handle after the other, told apart by their maps' weights.
  if (name === "share" && call.op === "lora") return `mix_${call.down.name.at(-1)!}`;
  const known = NAMES[`${name} ${call.op}`] ?? NAMES[name] ?? name;
  return call.op === "activate" ? `${known}.${FUNCTIONS[call.f] ?? call.f}` : known;
}

/** Whether the handle is changed in place later on, before it is written anew. */
function isWrittenAgain(calls: readonly OpCall[], i: number, tensor: Tensor): boolean {
  for (const call of calls.slice(i + 1)) {
    const operand = operandsOf(call).find((other) => other.tensor === tensor && other.role !== "in");
    if (operand !== undefined) return operand.role === "inout";
  }
  return false;
}

function shortStateName(name: string): string {
  const last = name.slice(name.lastIndexOf(".") + 1);
  return last.endsWith("Shift") ? "shift" : last;
}
