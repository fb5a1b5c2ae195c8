// The state of a sampler as a list of whole numbers, which JSON keeps exactly. The generator stands first and alone is a valid
// list too: what follows is there for steps, and skipped where a chain has none that would use it.
//
//   4 words               the generator, xoshiro128**
//   3 numbers             tokens in the whole sequence, the last of them plus 1 or 0 for none, tokens of the answer so far
//   1 + 1 + 2 n words     for each step that remembers n numbers: FNV-1a of its name, n, the numbers as f64, low word first

import { UsageError } from "../core/errors.ts";
import type { RandomState } from "./random.ts";

/** What `Sampler.state` gives: whole numbers from 0 to 2^53 - 1. */
export type SamplerState = readonly number[];

const GENERATOR_WORDS = 4;

export interface SamplerParts {
  readonly random: RandomState;
  readonly position: number;
  readonly lastToken: number | null;
  readonly nGenerated: number;
  readonly steps: readonly { readonly name: string; readonly values: Float64Array }[];
}

export interface DecodedState {
  readonly random: RandomState;
  readonly position: number;
  readonly lastToken: number | null;
  readonly nGenerated: number;
  /** What a step of that name has kept, each entry once; null if nothing is there. */
  readonly valuesOf: (name: string, length: number) => Float64Array | null;
}

export function encodeState({ random, position, lastToken, nGenerated, steps }: SamplerParts): SamplerState {
  const list = [...random, position, lastToken === null ? 0 : lastToken + 1, nGenerated];
  for (const { name, values } of steps) {
    if (values.length === 0) continue;
    const words = new DataView(new ArrayBuffer(8));
    list.push(tagOf(name), values.length);
    for (const value of values) {
      words.setFloat64(0, value, true);
      list.push(words.getUint32(0, true), words.getUint32(4, true));
    }
  }
  return list;
}

/** @throws UsageError if the list is none that `encodeState` gives; the generator's words are checked by the generator */
export function decodeState(state: SamplerState): DecodedState {
  const random = state.slice(0, GENERATOR_WORDS);
  const entries: { tag: number; values: Float64Array; isTaken: boolean }[] = [];
  const [position = 0, last = 0, nGenerated = 0, ...rest] = state.slice(GENERATOR_WORDS);
  const isWhole = state.every((word) => Number.isSafeInteger(word) && word >= 0);
  const nPlace = state.length - GENERATOR_WORDS;
  if (!isWhole || nPlace === 1 || nPlace === 2) throw damaged(state);
  while (rest.length > 0) {
    const [tag, length = 0] = rest.splice(0, 2);
    const words = rest.splice(0, 2 * length);
    if (length < 1 || words.length < 2 * length || words.some((word) => word >= 2 ** 32))
      throw damaged(state);
    const view = new DataView(new ArrayBuffer(8 * length));
    words.forEach((word, i) => view.setUint32(4 * i, word, true));
    const values = Float64Array.from({ length }, (_, i) => view.getFloat64(8 * i, true));
    entries.push({ tag: tag!, values, isTaken: false });
  }
  return {
    random,
    position,
    lastToken: last === 0 ? null : last - 1,
    nGenerated,
    valuesOf(name, length) {
      const tag = tagOf(name);
      const entry = entries.find((one) => one.tag === tag && one.values.length === length && !one.isTaken);
      if (entry === undefined) return null;
      entry.isTaken = true;
      return entry.values;
    },
  };
}

function damaged(state: SamplerState): UsageError {
  const shown = state.slice(0, 12).join(", ");
  return new UsageError(
    `The state of the sampler should be what state() gave: the generator's four numbers, and those of its steps; found ` +
      `${state.length} numbers [${shown}${state.length > 12 ? ", ..." : ""}].`,
  );
}

/** FNV-1a, 32 bits, of the name's UTF-16 units. */
function tagOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
