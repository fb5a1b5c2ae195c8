// Drives a loaded program directly, as the tests of this folder need it: tokens in, all logits and the state out, cut
// into chunks or beside other sequences at will.

import type { LoadedProgram } from "../../packages/rwkv/src/model/load.ts";
import type { Run } from "../../packages/rwkv/src/ops/backend.ts";

export interface Outcome {
  /** `[tokens, V]` */
  readonly logits: Float32Array;
  readonly state: Float32Array;
}

/** The inputs of a step for tokens at given positions. */
function inputRows(
  loaded: LoadedProgram,
  tokens: readonly number[],
  positions: readonly number[],
): Float32Array[] {
  const inputs = loaded.inputWidths.map((width) => new Float32Array(width * tokens.length));
  tokens.forEach((token, row) => {
    loaded.embedding.row(token, inputs[0]!, row * loaded.config.nEmbd);
    if (loaded.positions !== null)
      loaded.positions.row(positions[row]!, inputs[1]!, row * loaded.config.nEmbd);
  });
  return inputs;
}

/**
 * Reads the tokens from the model's initial state (or `initialState`) in chunks of `chunk`.
 * @returns the logits after every token, and the state after the last
 */
export async function runTokens(
  loaded: LoadedProgram,
  tokens: readonly number[],
  chunk = 1,
  initialState = loaded.initialState,
): Promise<Outcome> {
  const { program, config } = loaded;
  const slot = program.createSlot();
  try {
    if (initialState !== null) await program.writeSlot(slot, initialState);
    const logits = new Float32Array(tokens.length * config.nVocab);
    for (let start = 0; start < tokens.length; start += chunk) {
      const piece = tokens.slice(start, start + chunk);
      const positions = piece.map((_, i) => start + i);
      const run: Run = { slot, nRows: piece.length, logits: "all" };
      logits.set(await program.step([run], inputRows(loaded, piece, positions)), start * config.nVocab);
    }
    return { logits, state: await program.readSlot(slot) };
  } finally {
    program.releaseSlot(slot);
  }
}

/**
 * Reads the tokens of a first sequence in chunks, each beside a run of other tokens in two more sequences, one before
 * it and one after it in the step.
 */
export async function runBesideOthers(
  loaded: LoadedProgram,
  tokens: readonly number[],
  chunk: number,
  initialState = loaded.initialState,
): Promise<Outcome> {
  const { program, config } = loaded;
  const { nVocab } = config;
  const slots = [program.createSlot(), program.createSlot(), program.createSlot()] as const;
  try {
    if (initialState !== null) await program.writeSlot(slots[1], initialState);
    const logits = new Float32Array(tokens.length * nVocab);
    for (let start = 0; start < tokens.length; start += chunk) {
      const piece = tokens.slice(start, start + chunk);
      const before = [...tokens].reverse().slice(0, 1 + (start % 4));
      const after = tokens.slice(0, 2);
      const runs: Run[] = [
        { slot: slots[0], nRows: before.length, logits: "last" },
        { slot: slots[1], nRows: piece.length, logits: "all" },
        { slot: slots[2], nRows: after.length, logits: "none" },
      ];
      const rows = [...before, ...piece, ...after];
      const positions = [
        ...before.map((_, i) => i),
        ...piece.map((_, i) => start + i),
        ...after.map((_, i) => i),
      ];
      const all = await program.step(runs, inputRows(loaded, rows, positions));
      logits.set(all.subarray(nVocab, (1 + piece.length) * nVocab), start * nVocab);
    }
    return { logits, state: await program.readSlot(slots[1]) };
  } finally {
    for (const slot of slots) program.releaseSlot(slot);
  }
}

/** Largest absolute difference, with its place; NaN counts as infinite. */
export function maxDifference(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
): { value: number; at: number } {
  if (got.length !== want.length) return { value: Infinity, at: -1 };
  let value = 0;
  let at = 0;
  for (let i = 0; i < want.length; i++) {
    const difference = Math.abs(got[i]! - want[i]!);
    if (!(difference <= value)) {
      value = Number.isNaN(difference) ? Infinity : difference;
      at = i;
    }
  }
  return { value, at };
}

/** Throws a message that names the place where two arrays differ most. */
export function expectClose(
  what: string,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  limit: number,
): void {
  const { value, at } = maxDifference(got, want);
  if (value <= limit) return;
  throw new Error(
    `${what}: element ${at} is ${String(got[at])}, reference ${String(want[at])}, limit ${limit}; ` +
      `lengths ${got.length} and ${want.length}`,
  );
}
