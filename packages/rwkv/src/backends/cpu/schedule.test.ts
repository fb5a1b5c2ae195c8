import { describe, expect, test } from "vitest";
import { createOps } from "../../ops/create-ops.ts";
import type { Ops } from "../../ops/ops.ts";
import type { OpCall } from "../../ops/signature.ts";
import type { RowKind, Tensor } from "../../ops/tensor.ts";
import * as abi from "./abi.ts";
import { lower } from "./commands.ts";
import { schedule, type ScheduledCommand } from "./schedule.ts";

let index = 0;
const declare = (kind: Tensor["kind"], rows: RowKind, name: string, shape: number[]): Tensor => ({
  index: index++,
  kind,
  rows,
  name,
  shape,
  dtype: "f32",
});
const weight = (name: string, ...shape: number[]): Tensor => declare("weight", "none", name, shape);
const rows = (name: string, width: number): Tensor => declare("scratch", "token", name, [width]);
const state = (name: string, ...shape: number[]): Tensor => declare("state", "none", name, shape);

function scheduled(forward: (ops: Ops) => void): ScheduledCommand[] {
  const calls: OpCall[] = [];
  forward(createOps((call) => calls.push(call)));
  return schedule(
    lower(calls, (width) => rows("hidden", width)),
    () => "panels",
  );
}

/** The numbers of the commands behind barriers. */
const barriers = (commands: readonly ScheduledCommand[]): number[] =>
  commands.flatMap(({ needsBarrier }, i) => (needsBarrier ? [i] : []));

const x = rows("x", 32);
const y = rows("y", 32);
const z = rows("z", 32);
const w = weight("w", 32, 32);
const v = weight("v", 32);
const norm = { weight: v, bias: v };

describe("a barrier stands", () => {
  test("before a whole row is read that threads have written in parts", () => {
    const commands = scheduled((ops) => {
      ops.copy(x, y);
      ops.matmul(z, w, x);
    });
    expect(barriers(commands)).toEqual([1]);
  });

  test("before a part is overwritten that another thread may still read", () => {
    const commands = scheduled((ops) => {
      ops.matmul(z, w, x);
      ops.copy(x, y);
    });
    expect(barriers(commands)).toEqual([1]);
  });

  test("before and behind a layer norm in place, which threads share by rows", () => {
    const commands = scheduled((ops) => {
      ops.copy(x, y);
      ops.layerNorm(x, x, norm, 1e-5);
      ops.copy(z, x);
    });
    expect(barriers(commands)).toEqual([1, 2]);
  });

  test("nowhere between commands that each thread runs on its own columns", () => {
    const S = state("wkv", 2, 16, 16);
    const shift = state("shift", 32);
    const commands = scheduled((ops) => {
      ops.layerNorm(x, y, norm, 1e-5);
      ops.tokenShift([z], x, shift, [v]);
      ops.wkv7(x, S, z, z, z, z, z, z);
      ops.groupNorm(x, x, norm, 2, 1e-5);
      ops.mul(x, z);
      ops.activate(x, x, "tanh");
    });
    expect(commands.length).toBe(6);
    expect(barriers(commands)).toEqual([]);
  });

  test("never at the beginning, and an empty list has none", () => {
    expect(scheduled((ops) => ops.matmul(z, w, x))[0]!.needsBarrier).toBe(false);
    expect(schedule([], () => "panels")).toEqual([]);
  });
});

describe("the order", () => {
  test("brings together what can run between two barriers: all first factors of low-rank maps", () => {
    const down = weight("down", 4, 32);
    const up = weight("up", 32, 4);
    const commands = scheduled((ops) => {
      ops.lora(x, z, { down, up, bias: null }, "tanh", "none");
      ops.lora(y, z, { down, up, bias: null }, "tanh", "none");
      ops.mul(x, y);
    });
    expect(commands.map(({ operands }) => operands[1])).toEqual([down, down, up, up, y]);
    expect(barriers(commands)).toEqual([2]);
  });

  test("keeps two commands apart that touch the same data, even if one thread could run both", () => {
    const commands = scheduled((ops) => {
      ops.copy(x, y);
      ops.matmul(z, w, x); // waits for a barrier
      ops.add(z, y, 1); // must not overtake it
      ops.copy(x, y); // must not overwrite what it reads
      ops.copy(y, x); // nor this one, since it reads what the one before writes
    });
    expect(commands.map(({ op }) => op)).toEqual([
      abi.OP_COPY,
      abi.OP_MATMUL,
      abi.OP_ADD,
      abi.OP_COPY,
      abi.OP_COPY,
    ]);
    expect(barriers(commands)).toEqual([1, 3]);
  });

  test("is left alone beyond the window, and nothing is lost", () => {
    const commands = scheduled((ops) => {
      for (let i = 0; i < 300; i++) ops.matmul(i % 2 === 0 ? z : x, w, i % 2 === 0 ? x : z);
    });
    expect(commands.length).toBe(300);
    expect(barriers(commands).length).toBe(299);
  });
});

describe("columns are handed out", () => {
  test("in whole panels, and in whole heads at every width that has them", () => {
    const wide = rows("wide", 120);
    const commands = scheduled((ops) => {
      ops.matmul(z, w, x);
      ops.matmul(wide, weight("up", 120, 32), x);
      ops.copy(wide, wide);
      ops.l2NormHeads(wide, wide, weight("scale", 120), 5, 1e-6); // heads of 24
      ops.groupNorm(wide, wide, { weight: weight("a", 120), bias: weight("b", 120) }, 3, 1e-5); // of 40
    });
    expect(commands.map(({ granule }) => granule)).toEqual([16, 240, 240, 240, 240]);
  });
});
