// What commands read and write, from which fusion.ts derives what may be merged or change places.

import { operandsOf } from "../../ops/signature.ts";
import type { Tensor } from "../../ops/tensor.ts";
import type { Command } from "./commands.ts";
import type { FusedCommand } from "./fusion.ts";

export interface Access {
  readonly reads: readonly Tensor[];
  /** Each wholly, unless it is read as well. */
  readonly writes: readonly Tensor[];
}

export function accessOf(command: Command | FusedCommand): Access {
  switch (command.op) {
    case "product": {
      const { out, w, x, bias, factor, base } = command;
      return { reads: [w, x, bias, factor, base].filter((tensor) => tensor !== null), writes: [out] };
    }
    case "products":
      return unite(command.products.map(accessOf));
    case "chain":
      return unite(command.stages.map(accessOf));
    case "heads": {
      const { before, recurrence, after } = command;
      return unite([before, recurrence, after].filter((part) => part !== null).map(accessOf));
    }
    case "shift": {
      const { norm, x, isXKept, shift, delta, outs, mix } = command;
      const source = norm === null ? [x] : [norm.x, norm.weight, norm.bias];
      const kept = norm !== null && isXKept ? [x] : [];
      const deltas = delta === null ? [] : [delta];
      return { reads: [...source, shift, ...mix], writes: [...kept, shift, ...deltas, ...outs] };
    }
    default: {
      const operands = operandsOf(command);
      return {
        reads: operands.filter(({ role }) => role !== "out").map(({ tensor }) => tensor),
        writes: operands.filter(({ role }) => role !== "in").map(({ tensor }) => tensor),
      };
    }
  }
}

function unite(accesses: readonly Access[]): Access {
  return {
    reads: [...new Set(accesses.flatMap(({ reads }) => reads))],
    writes: [...new Set(accesses.flatMap(({ writes }) => writes))],
  };
}

/** Whether two commands may neither change places nor run at the same time. */
export function conflict(a: Access, b: Access): boolean {
  return (
    a.writes.some((tensor) => b.reads.includes(tensor) || b.writes.includes(tensor)) ||
    b.writes.some((tensor) => a.reads.includes(tensor))
  );
}

/** Whether nothing reads what a tensor holds once command `i` has run: scratch that is written anew before, or never read. */
export function isDeadAfter(commands: readonly Command[], i: number, tensor: Tensor): boolean {
  if (tensor.kind !== "scratch") return false;
  for (let j = i + 1; j < commands.length; j++) {
    const { reads, writes } = accessOf(commands[j]!);
    if (reads.includes(tensor)) return false;
    if (writes.includes(tensor)) return true;
  }
  return true;
}
