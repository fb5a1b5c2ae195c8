// Passes that make fewer dispatches of a command list, none of which needs to know the model:
//
// 1. An activation, a factor, and a sum with other rows are done by the product before them, where each value is at hand.
// 2. A layer norm is done by the token shift after it, which needs two rows of it.
// 3. Products that do not wait for one another are side by side.
// 4. Operations on single elements and single heads that follow one another are stages of one kernel, in which a thread
//    only meets elements that it wrote itself and sums over its own head.
// 5. Such kernels before and after a recurrence are one with it in steps whose runs have one row each. In longer runs the
//    recurrence takes row after row, and these would wait for it though they need not.
//
// What a model wrote and nobody reads is not written.

import type { OpCall } from "../../ops/signature.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import { accessOf, conflict, isDeadAfter, type Access } from "./access.ts";
import type { Command, Product } from "./commands.ts";

/** Products that run at the same time, at most MAX_PRODUCTS. */
export interface Products {
  readonly op: "products";
  readonly products: readonly Product[];
}

/** A token shift: outs[i] = x + (previous - x) * mix[i] and delta = previous - x, where x may be a norm of other rows. */
export interface Shift {
  readonly op: "shift";
  /** What x is made from; null where it is there. */
  readonly norm: Omit<Extract<OpCall, { op: "layerNorm" }>, "op" | "out"> | null;
  readonly x: Tensor;
  /** Whether x is written, if there is a norm. */
  readonly isXKept: boolean;
  readonly shift: Tensor;
  readonly delta: Tensor | null;
  readonly outs: readonly Tensor[];
  readonly mix: readonly Tensor[];
}

const STAGE_NAMES = [
  "layerNorm",
  "groupNorm",
  "l2NormHeads",
  "addBonus",
  "addMul",
  "activate",
  "add",
  "mul",
  "lerp",
  "copy",
  "selectRows",
  "scaleKey",
] as const;

/** An operation on single elements, or on single groups of consecutive ones. */
export type Stage = Extract<OpCall, { op: (typeof STAGE_NAMES)[number] }>;

/** Stages over the same rows, one after the other. */
export interface Chain {
  readonly op: "chain";
  /** Groups that the rows are cut into; null where every element is for itself. */
  readonly nGroups: number | null;
  readonly stages: readonly Stage[];
}

export type Recurrence = Extract<OpCall, { op: "wkv4" | "wkv6" | "wkv7" }>;

/** A recurrence with what its heads, or channels, do before and after it. */
export interface Heads {
  readonly op: "heads";
  readonly before: Chain | null;
  readonly recurrence: Recurrence;
  readonly after: Chain | null;
}

export type FusedCommand = Products | Shift | Chain | Heads;

/** In pass 5, the longest head: sums over longer ones have more than one element in a thread. */
const LONGEST_HEAD = 64;

/** Products that one kernel works on. */
export const MAX_PRODUCTS = 8;

export function fuse(commands: readonly Command[]): FusedCommand[] {
  return joinHeads(chain(group(foldNorms(finishProducts(commands)))));
}

/** Pass 1. */
export function finishProducts(commands: readonly Command[]): Command[] {
  const done: Command[] = [];
  commands.forEach((command, i) => {
    const before = done.at(-1);
    const finished =
      before?.op === "product" ? finish(before, command, (tensor) => isDeadAfter(commands, i, tensor)) : null;
    if (finished === null) done.push(command);
    else done[done.length - 1] = finished;
  });
  return done;
}

/** The product with what the next command does to its rows, or null. */
function finish(product: Product, next: Command, isDead: (tensor: Tensor) => boolean): Product | null {
  const { out, x, activation, factor, base } = product;
  // Other workgroups read x while this one writes.
  const goesTo = (target: Tensor): boolean => target === out || (target !== x && isDead(out));
  switch (next.op) {
    case "activate":
      return activation === "none" && factor === null && base === null && next.x === out && goesTo(next.out)
        ? { ...product, out: next.out, activation: next.f }
        : null;
    case "mul":
      return factor === null && base === null && next.x === out && next.y !== out
        ? { ...product, factor: next.y }
        : null;
    case "add":
      return base === null && next.y === out && next.x !== out && goesTo(next.x)
        ? { ...product, out: next.x, base: next.x, scale: next.scale }
        : null;
    case "addMul": {
      const other = next.a === out ? next.b : next.a;
      const isFree = factor === null && base === null && (next.a === out || next.b === out);
      return isFree && other !== out && next.x !== out && goesTo(next.out)
        ? { ...product, out: next.out, factor: other, base: next.x }
        : null;
    }
    default:
      return null;
  }
}

/** Pass 2; all token shifts become `Shift`. */
export function foldNorms(commands: readonly Command[]): FoldedCommand[] {
  const done: FoldedCommand[] = [];
  for (let i = 0; i < commands.length; i++) {
    const command = commands[i]!;
    if (command.op !== "tokenShift" && command.op !== "shiftDelta") {
      done.push(command);
      continue;
    }
    const { x, shift } = command;
    const delta = command.op === "shiftDelta" ? command.out : null;
    const outs = command.op === "tokenShift" ? [...command.outs] : [];
    const mix = command.op === "tokenShift" ? [...command.mix] : [];
    const before = done.at(-1);
    // The norm of a row is made once more for the row after it, so that nothing may be written over its rows.
    const norm =
      before?.op === "layerNorm" && before.out === x && ![x, delta, ...outs].includes(before.x)
        ? before
        : null;
    if (norm !== null) done.pop();
    for (let next = commands[i + 1]; next?.op === "addMul"; next = commands[i + 1]) {
      const isShift = delta !== null && next.x === x && next.a === delta && next.b.kind === "weight";
      if (!isShift || [x, delta, norm?.x, ...outs].includes(next.out)) break;
      outs.push(next.out);
      mix.push(next.b);
      i += 1;
    }
    const isXKept = !isDeadAfter(commands, i, x);
    const keptDelta = delta === null || isDeadAfter(commands, i, delta) ? null : delta;
    done.push({ op: "shift", norm, x, isXKept, shift, delta: keptDelta, outs, mix });
  }
  return done;
}

type FoldedCommand = Exclude<Command, { op: "tokenShift" | "shiftDelta" }> | Shift;
type GroupedCommand = Exclude<FoldedCommand, Product> | Products;
type ChainedCommand = Products | Shift | Chain | Recurrence;

/** Pass 3: each product goes to the first group that it may join, over the commands in between. */
export function group(commands: readonly FoldedCommand[]): GroupedCommand[] {
  const done: GroupedCommand[] = [];
  const accesses: Access[] = [];
  for (const command of commands) {
    const access = accessOf(command);
    if (command.op !== "product") {
      done.push(command);
      accesses.push(access);
      continue;
    }
    let place: number | null = null;
    for (let i = done.length - 1; i >= 0 && !conflict(accesses[i]!, access); i--) {
      if (canJoin(command, done[i]!)) place = i;
    }
    if (place === null) {
      done.push({ op: "products", products: [command] });
      accesses.push(access);
    } else {
      const { products } = done[place] as Products;
      const joined: Products = { op: "products", products: [...products, command] };
      done[place] = joined;
      accesses[place] = accessOf(joined);
    }
  }
  return done;
}

function canJoin({ out }: Product, command: GroupedCommand): boolean {
  return (
    command.op === "products" &&
    command.products.length < MAX_PRODUCTS &&
    command.products[0]!.out.rows === out.rows
  );
}

/** Pass 4. */
export function chain(commands: readonly GroupedCommand[]): ChainedCommand[] {
  const done: ChainedCommand[] = [];
  for (const command of commands) {
    if (!isStage(command)) {
      done.push(command);
      continue;
    }
    const nGroups = groupsOf(command);
    const before = done.at(-1);
    if (before?.op === "chain" && canFollow(before, command)) {
      done[done.length - 1] = {
        op: "chain",
        nGroups: before.nGroups ?? nGroups,
        stages: [...before.stages, command],
      };
    } else {
      done.push({ op: "chain", nGroups, stages: [command] });
    }
  }
  return done;
}

/** Pass 5. */
export function joinHeads(commands: readonly ChainedCommand[]): FusedCommand[] {
  const done: FusedCommand[] = [];
  for (let i = 0; i < commands.length; i++) {
    const command = commands[i]!;
    if (command.op !== "wkv4" && command.op !== "wkv6" && command.op !== "wkv7") {
      done.push(command);
      continue;
    }
    const [last, next] = [done.at(-1), commands[i + 1]];
    const before = last?.op === "chain" && canSurround(last, command) ? last : null;
    const after = next?.op === "chain" && canSurround(next, command) ? next : null;
    if (before !== null) done.pop();
    if (after !== null) i += 1;
    done.push({ op: "heads", before, recurrence: command, after });
  }
  return done;
}

function canSurround({ nGroups, stages }: Chain, recurrence: Recurrence): boolean {
  const out = writtenBy(stages[0]!);
  if (out.rows !== "token" || rowElements(out) !== rowElements(recurrence.y)) return false;
  if (recurrence.op === "wkv4") return nGroups === null;
  const [heads, headSize] = recurrence.wkv.shape as readonly [number, number, number];
  const isPowerOfTwo = Number.isInteger(Math.log2(headSize));
  return (nGroups === null || nGroups === heads) && isPowerOfTwo && headSize <= LONGEST_HEAD;
}

function canFollow({ nGroups, stages }: Chain, stage: Stage): boolean {
  const [first, next] = [writtenBy(stages[0]!), writtenBy(stage)];
  const isAlike = first.rows === next.rows && rowElements(first) === rowElements(next);
  const hasGroups = nGroups === null || groupsOf(stage) === null || nGroups === groupsOf(stage);
  // Rows are selected out of those that other workgroups have.
  return isAlike && hasGroups && stage.op !== "selectRows";
}

function isStage(command: GroupedCommand): command is Stage {
  return (STAGE_NAMES as readonly string[]).includes(command.op);
}

/** The rows that are written; of a recurrence, those beside its state. */
export function writtenBy(call: Stage | Recurrence): Tensor {
  return accessOf(call).writes[0]!;
}

/** The groups of consecutive elements that a stage sums over; null if it does not. */
function groupsOf(stage: Stage): number | null {
  if (stage.op === "layerNorm") return 1;
  return "heads" in stage ? stage.heads : null;
}
