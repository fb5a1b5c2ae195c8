// Passes that make fewer dispatches of a command list, none of which needs to know the model:
//
// 1. An activation, a factor, and a sum with other rows are done by the product before them, where each value is at hand.
// 2. A layer norm is done by the token shift after it, which needs two rows of it.
// 3. Products that do not wait for one another are side by side.
// 4. Operations on single elements and single heads that follow one another are stages of one kernel, in which a thread
//    only meets elements that it wrote itself and sums over its own head.
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

export type FusedCommand =
  Products | Shift | Chain | Exclude<Command, Product | Stage | { op: "tokenShift" | "shiftDelta" }>;

/** Products that one kernel works on. */
export const MAX_PRODUCTS = 8;

export function fuse(commands: readonly Command[]): FusedCommand[] {
  return chain(group(foldNorms(finishProducts(commands))));
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
export function chain(commands: readonly GroupedCommand[]): FusedCommand[] {
  const done: FusedCommand[] = [];
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

/** What a stage writes. */
export function writtenBy(stage: Stage): Tensor {
  return accessOf(stage).writes[0]!;
}

/** The groups of consecutive elements that a stage sums over; null if it does not. */
function groupsOf(stage: Stage): number | null {
  if (stage.op === "layerNorm") return 1;
  return "heads" in stage ? stage.heads : null;
}
