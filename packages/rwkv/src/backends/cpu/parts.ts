// Cuts the command list where the weights of a program lie in several memories: commands that follow one another in one
// memory are a part. Between parts, rows that were written in one memory and are read in another are copied. Hides where
// the cuts are and which rows cross them; with one memory there is one part and nothing to copy.

import { byteLengthOf } from "../../core/dtype.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import { roleOf, type Command } from "./commands.ts";

/** Commands that follow one another in one memory. */
export interface Part {
  /** The number of its memory. */
  readonly memory: number;
  readonly commands: readonly Command[];
  /** What has to be brought from other memories before the part begins. */
  readonly copies: readonly RowCopy[];
}

/** All rows of a tensor, from the memory of that number. */
export interface RowCopy {
  readonly tensor: Tensor;
  readonly from: number;
}

export interface CommandParts {
  /** At least one; neighbours lie in different memories. */
  readonly parts: readonly Part[];
  /** The memory of a state, the one that a step's rows of an input go to, and the one in which the output is found. */
  readonly memoryOf: (tensor: Tensor) => number;
}

/**
 * @param commands - in program order
 * @param nMemories - those that weights lie in
 * @param memoryOfWeight - where a weight lies
 */
export function cutIntoParts(
  commands: readonly Command[],
  nMemories: number,
  memoryOfWeight: (weight: Tensor) => number,
): CommandParts {
  if (nMemories === 1) return { parts: [{ memory: 0, commands, copies: [] }], memoryOf: () => 0 };
  const homes = homesOf(commands, memoryOfWeight);
  const memories = new Map<Tensor, number>();
  /** The memories that hold the present values of rows. */
  const holders = new Map<Tensor, Set<number>>();
  const parts = [newPart(homes[0] ?? 0)];
  commands.forEach((command, i) => {
    const memory = homes[i]!;
    if (parts.at(-1)!.memory !== memory) parts.push(newPart(memory));
    const part = parts.at(-1)!;
    part.commands.push(command);
    const { reads, writes, states } = accessesOf(command);
    for (const state of states) memories.set(state, memory);
    for (const tensor of reads) {
      const holding = holders.get(tensor);
      if (holding === undefined) {
        // An input goes to where it is first read; of other rows there is nothing yet that could be copied.
        memories.set(tensor, memory);
        holders.set(tensor, new Set([memory]));
      } else if (!holding.has(memory)) {
        part.copies.push({ tensor, from: [...holding][0]! });
        holding.add(memory);
      }
    }
    for (const tensor of writes) {
      holders.set(tensor, new Set([memory]));
      if (tensor.kind === "output") memories.set(tensor, memory);
    }
  });
  return { parts, memoryOf: (tensor) => memories.get(tensor) ?? 0 };
}

function newPart(memory: number): { memory: number; commands: Command[]; copies: RowCopy[] } {
  return { memory, commands: [], copies: [] };
}

/**
 * The memory of each command. A command with a matrix runs where that lies, one that shares a state with others in the
 * first memory; all others, whose vectors can be copied anywhere, go with those before or behind them.
 */
function homesOf(commands: readonly Command[], memoryOfWeight: (weight: Tensor) => number): number[] {
  const shared = sharedStates(commands);
  const anchors = commands.map(({ operands }) => {
    if (operands.some((tensor) => shared.has(tensor))) return 0;
    const matrix = largestMatrix(operands);
    return matrix === null ? null : memoryOfWeight(matrix);
  });
  const crossing = liveBytesBefore(commands);
  const homes: number[] = [];
  let before = anchors.find((anchor) => anchor !== null) ?? 0;
  let first = 0; // of the commands that still need a home
  for (let i = 0; i <= commands.length; i++) {
    const anchor = i < commands.length ? (anchors[i] ?? null) : before;
    if (anchor === null) continue;
    let cut = i;
    if (anchor !== before) {
      for (let at = first; at < i; at++) if (crossing[at]! < crossing[cut]!) cut = at;
    }
    for (let at = first; at < cut; at++) homes.push(before);
    for (let at = cut; at <= i && at < commands.length; at++) homes.push(anchor);
    before = anchor;
    first = i + 1;
  }
  return homes;
}

/** States that several commands use, which all have to find them in one place. */
function sharedStates(commands: readonly Command[]): ReadonlySet<Tensor> {
  const seen = new Set<Tensor>();
  const shared = new Set<Tensor>();
  for (const command of commands) {
    for (const state of accessesOf(command).states) (seen.has(state) ? shared : seen).add(state);
  }
  return shared;
}

function largestMatrix(operands: readonly Tensor[]): Tensor | null {
  let largest: Tensor | null = null;
  for (const tensor of operands) {
    if (tensor.kind !== "weight" || tensor.shape.length < 2) continue;
    if (
      largest === null ||
      byteLengthOf(tensor.dtype, tensor.shape) > byteLengthOf(largest.dtype, largest.shape)
    ) {
      largest = tensor;
    }
  }
  return largest;
}

/** For each command the bytes of rows, in each of them, that have to be there for it and those behind it. */
function liveBytesBefore(commands: readonly Command[]): number[] {
  const live = new Set<Tensor>();
  const bytes = new Array<number>(commands.length + 1).fill(0);
  let sum = 0;
  for (let i = commands.length - 1; i >= 0; i--) {
    const { reads, writes } = accessesOf(commands[i]!);
    for (const tensor of writes) if (live.delete(tensor)) sum -= 4 * rowElements(tensor);
    for (const tensor of reads) {
      if (live.has(tensor)) continue;
      live.add(tensor);
      sum += 4 * rowElements(tensor);
    }
    bytes[i] = sum;
  }
  return bytes;
}

interface Accesses {
  /** Rows, each once. */
  readonly reads: ReadonlySet<Tensor>;
  readonly writes: ReadonlySet<Tensor>;
  readonly states: ReadonlySet<Tensor>;
}

function accessesOf(command: Command): Accesses {
  const reads = new Set<Tensor>();
  const writes = new Set<Tensor>();
  const states = new Set<Tensor>();
  command.operands.forEach((tensor, i) => {
    if (tensor.kind === "weight") return;
    if (tensor.kind === "state") {
      states.add(tensor);
      return;
    }
    const role = roleOf(command, i);
    if (role !== "out") reads.add(tensor);
    if (role !== "in") writes.add(tensor);
  });
  return { reads, writes, states };
}
