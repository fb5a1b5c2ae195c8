// Puts the commands into an order in which threads rarely wait for one another, and says where they must. Every thread
// runs the whole list, each command on its own columns; all rows of one width are cut at the same columns. So a thread
// may read what it wrote itself at once, and must wait for all others before it reads a whole row.
//
// The order keeps every pair of commands that touch the same data in the order of the program, so results are the same.

import { COLUMN_OUTPUTS, PANEL_OUTPUTS, type WeightLayout } from "../../core/layout.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import * as abi from "./abi.ts";
import { isMatmul, roleOf, type Command } from "./commands.ts";

/** A command with its place among threads. */
export interface ScheduledCommand extends Command {
  /** Columns that are handed to threads as one. */
  readonly granule: number;
  /** Whether all threads must have finished the commands before this one. */
  readonly needsBarrier: boolean;
}

/** Which part of a tensor a thread touches: its own columns (of rows of that width), its own rows, or all of it. */
type Extent = number | "rows" | "all";

interface Access {
  readonly tensor: Tensor;
  readonly extent: Extent;
  readonly isWrite: boolean;
}

/** How far ahead of the first waiting command others are looked at: more than the commands of a layer. */
const WINDOW = 64;

/**
 * @param layoutOf - the order that a matrix is kept in
 * @returns the same commands; the first needs no barrier, since a step begins with all threads at one place
 */
export function schedule(
  commands: readonly Command[],
  layoutOf: (matrix: Tensor) => WeightLayout,
): ScheduledCommand[] {
  const granules = granulesByWidth(commands, layoutOf);
  const scheduled: ScheduledCommand[] = [];
  let near: WaitingCommand[] = [];
  let nTaken = 0;
  while (scheduled.length < commands.length) {
    while (near.length < WINDOW && nTaken < commands.length) near.push(waitingCommand(commands[nTaken++]!));
    // One region: all that can run without waiting for another thread, and does not overtake what it depends on.
    const region = new Footprint();
    const overtaken = new Footprint();
    const rest: WaitingCommand[] = [];
    let needsBarrier = scheduled.length > 0;
    for (const item of near) {
      if (overtaken.touches(item.accesses) || region.crosses(item.accesses)) {
        overtaken.add(item.accesses);
        rest.push(item);
      } else {
        region.add(item.accesses);
        scheduled.push({ ...item.command, granule: granules.get(item.width)!, needsBarrier });
        needsBarrier = false;
      }
    }
    near = rest;
  }
  return scheduled;
}

interface WaitingCommand {
  readonly command: Command;
  /** See `slicedWidth`. */
  readonly width: number;
  readonly accesses: readonly Access[];
}

function waitingCommand(command: Command): WaitingCommand {
  const width = slicedWidth(command);
  return { command, width, accesses: accessesOf(command, width) };
}

/** What a group of commands reads and writes. */
class Footprint {
  readonly #accesses = new Map<Tensor, Access[]>();

  add(accesses: readonly Access[]): void {
    for (const access of accesses) {
      const known = this.#accesses.get(access.tensor);
      if (known === undefined) this.#accesses.set(access.tensor, [access]);
      else known.push(access);
    }
  }

  /** Whether the order of these accesses and those of the group matters at all. */
  touches(accesses: readonly Access[]): boolean {
    for (const access of accesses) {
      for (const other of this.#accesses.get(access.tensor) ?? NONE) {
        if (access.isWrite || other.isWrite) return true;
      }
    }
    return false;
  }

  /** Whether one thread's access meets another thread's. */
  crosses(accesses: readonly Access[]): boolean {
    for (const access of accesses) {
      for (const other of this.#accesses.get(access.tensor) ?? NONE) {
        const isApart = access.extent !== "all" && access.extent === other.extent;
        if (!isApart && (access.isWrite || other.isWrite)) return true;
      }
    }
    return false;
  }
}

const NONE: readonly Access[] = [];

/**
 * Everything but weights, which nobody writes.
 * @param own - the command's `slicedWidth`
 */
function accessesOf(command: Command, own: number): Access[] {
  const accesses: Access[] = [];
  command.operands.forEach((tensor, i) => {
    if (tensor.kind === "weight") return;
    accesses.push({ tensor, extent: extentOf(command, i, own), isWrite: roleOf(command, i) !== "in" });
  });
  return accesses;
}

function extentOf(command: Command, operand: number, own: number): Extent {
  const { op, operands } = command;
  if (op === abi.OP_LAYER_NORM && operands[0] === operands[1]) return "rows";
  const readsRow = op === abi.OP_LAYER_NORM ? operand === 1 : isMatmul(command) && operand === 2;
  return readsRow ? "all" : own;
}

/** The width of the rows that a command's columns are counted in: that of its destination. */
function slicedWidth({ op, operands }: Command): number {
  return rowElements(operands[op === abi.OP_TOKEN_SHIFT ? 2 : 0]!);
}

const OPS_WITH_HEADS: ReadonlySet<number> = new Set([
  abi.OP_GROUP_NORM,
  abi.OP_L2_NORM_HEADS,
  abi.OP_ADD_BONUS,
  abi.OP_WKV6,
  abi.OP_WKV7,
]);

/**
 * For each width the least number of columns that are whole panels of a product, or what columns of a matrix are padded
 * to, and whole heads of every operation.
 */
function granulesByWidth(
  commands: readonly Command[],
  layoutOf: (matrix: Tensor) => WeightLayout,
): Map<number, number> {
  const granules = new Map<number, number>();
  for (const command of commands) {
    const width = slicedWidth(command);
    const granule = granules.get(width) ?? PANEL_OUTPUTS;
    const headSize = OPS_WITH_HEADS.has(command.op) ? width / command.heads : 1;
    const isInColumns = isMatmul(command) && layoutOf(command.operands[1]!) === "columns";
    granules.set(width, [headSize, isInColumns ? COLUMN_OUTPUTS : 1].reduce(leastCommonMultiple, granule));
  }
  return granules;
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}
