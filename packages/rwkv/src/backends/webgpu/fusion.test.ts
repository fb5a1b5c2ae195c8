import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createOps } from "../../ops/create-ops.ts";
import type { Activation, Ops } from "../../ops/ops.ts";
import { operandsOf, type OpCall } from "../../ops/signature.ts";
import type { Tensor, TensorKind } from "../../ops/tensor.ts";
import { accessOf } from "./access.ts";
import { lower, type Command, type Product } from "./commands.ts";
import { fuse, MAX_PRODUCTS, type FusedCommand } from "./fusion.ts";

const WIDTH = 4;
let nTensors = 0;
const tensor = (kind: TensorKind, name: string, shape: readonly number[] = [WIDTH]): Tensor => {
  const rows = kind === "weight" || kind === "state" ? "none" : "token";
  return { index: nTensors++, kind, rows, name, shape, dtype: "f32" };
};
const rows = (name: string): Tensor => tensor("scratch", name);
const matrix = (name: string): Tensor => tensor("weight", name, [WIDTH, WIDTH]);

const X = rows("x");
const SCRATCH = ["a", "b", "c", "d", "e"].map(rows);
const [A, B, C, D, E] = SCRATCH as [Tensor, Tensor, Tensor, Tensor, Tensor];
const OUTPUTS = [X, ...SCRATCH].map(({ name }) => tensor("output", `seen ${name}`));
const MATRICES = ["W0", "W1", "W2"].map(matrix);
const [W0, W1, W2] = MATRICES as [Tensor, Tensor, Tensor];
const VECTORS = ["v0", "v1"].map((name) => tensor("weight", name));
const [V0, V1] = VECTORS as [Tensor, Tensor];
const SHIFTS = ["shift0", "shift1"].map((name) => tensor("state", name));
const [SHIFT] = SHIFTS as [Tensor, Tensor];
const STATE = tensor("state", "wkv", [2, 2, 2]);
const NORM = { weight: V0, bias: V1 };

function commandsOf(forward: (ops: Ops) => void): Command[] {
  const recorded: OpCall[] = [];
  forward(createOps((call) => recorded.push(call)));
  return lower(recorded, (name, width) => tensor("scratch", name, [width]));
}

const fused = (forward: (ops: Ops) => void): FusedCommand[] => fuse(commandsOf(forward));

const productsOf = (command: FusedCommand | undefined): readonly Product[] => {
  if (command?.op !== "products") throw new Error(`expected products, found ${command?.op ?? "nothing"}`);
  return command.products;
};

describe("a product", () => {
  test("does the activation, the factor and the residual sum that follow it", () => {
    const commands = fused((ops) => {
      ops.matmul(A, W0, B);
      ops.activate(A, A, "silu");
      ops.mul(A, C);
      ops.add(X, A, 0.5);
    });
    expect(commands).toHaveLength(1);
    expect(productsOf(commands[0])).toEqual([
      { op: "product", out: X, w: W0, x: B, bias: null, activation: "silu", factor: C, base: X, scale: 0.5 },
    ]);
  });

  test("keeps its rows if they are read later", () => {
    const commands = fused((ops) => {
      ops.matmul(A, W0, B);
      ops.add(X, A, 1);
      ops.mul(C, A);
    });
    expect(productsOf(commands[0])[0]).toMatchObject({ out: A, base: null });
    expect(commands[1]).toMatchObject({ op: "chain", stages: [{ op: "add" }, { op: "mul" }] });
  });

  test("adds nothing to its own input, which other workgroups still read", () => {
    const commands = fused((ops) => {
      ops.matmul(A, W0, X);
      ops.add(X, A, 1);
    });
    expect(commands.map(({ op }) => op)).toEqual(["products", "chain"]);
  });
});

describe("a layer norm", () => {
  test("is done by the token shift after it, and not written if nobody reads it", () => {
    const commands = fused((ops) => {
      ops.layerNorm(A, X, NORM, 1e-5);
      ops.tokenShift([B, C], A, SHIFT, [V0, V1]);
    });
    expect(commands).toHaveLength(1);
    expect(commands[0]).toMatchObject({
      op: "shift",
      norm: { x: X, eps: 1e-5 },
      isXKept: false,
      outs: [B, C],
    });
  });

  test("is written if it is read later, as is the difference", () => {
    const commands = fused((ops) => {
      ops.layerNorm(A, X, NORM, 1e-5);
      ops.shiftDelta(B, A, SHIFT);
      ops.addMul(C, A, B, V0);
      ops.matmul(D, W0, C);
      ops.addMul(E, A, B, D);
    });
    expect(commands[0]).toMatchObject({ op: "shift", isXKept: true, delta: B, outs: [C], mix: [V0] });
    expect(productsOf(commands[1])[0]).toMatchObject({ out: E, factor: B, base: A });
    expect(commands).toHaveLength(2);
  });

  test("stays apart from a token shift that writes over its rows", () => {
    const commands = fused((ops) => {
      ops.layerNorm(A, X, NORM, 1e-5);
      ops.tokenShift([X], A, SHIFT, [V0]);
    });
    expect(commands.map(({ op }) => op)).toEqual(["chain", "shift"]);
  });
});

describe("products", () => {
  test("that do not wait for one another are side by side, both halves of low-rank maps too", () => {
    const commands = fused((ops) => {
      ops.matmul(A, W0, X);
      ops.lora(B, X, { down: W1, up: W2, bias: V0 }, "tanh", "sigmoid");
      ops.lora(C, X, { down: W2, up: W1, bias: null }, "sigmoid", "none");
    });
    expect(commands).toHaveLength(2);
    expect(productsOf(commands[0]).map(({ w }) => w.name)).toEqual(["W0", "W1", "W2"]);
    expect(productsOf(commands[1]).map(({ w }) => w.name)).toEqual(["W2", "W1"]);
  });

  test("wait for what they read, and for readers of what they write", () => {
    const commands = fused((ops) => {
      ops.matmul(A, W0, X);
      ops.matmul(B, W1, A);
      ops.mul(C, A);
      ops.matmul(A, W2, X);
    });
    expect(commands.map(({ op }) => op)).toEqual(["products", "products", "chain", "products"]);
  });

  test(`are at most ${MAX_PRODUCTS} at a time`, () => {
    const outs = Array.from({ length: MAX_PRODUCTS + 1 }, (_, i) => rows(`out${i}`));
    const commands = fused((ops) => {
      for (const out of outs) ops.matmul(out, W0, X);
    });
    expect(commands.map((command) => productsOf(command).length)).toEqual([MAX_PRODUCTS, 1]);
  });
});

test("operations on elements and heads that follow one another are one kernel, unless their heads differ", () => {
  const commands = fused((ops) => {
    ops.lerp(A, B, C);
    ops.l2NormHeads(D, A, V0, 2, 1e-12);
    ops.scaleKey(A, C, V1);
    ops.groupNorm(B, B, NORM, 4, 1e-5);
  });
  expect(commands).toMatchObject([
    { op: "chain", nGroups: 2, stages: [{ op: "lerp" }, { op: "l2NormHeads" }, { op: "scaleKey" }] },
    { op: "chain", nGroups: 4, stages: [{ op: "groupNorm" }] },
  ]);
});

describe("a recurrence", () => {
  const wkv = (ops: Ops, state: Tensor): void => ops.wkv6(D, state, A, B, C, V0, V1);

  test("takes in what its heads do before and after it", () => {
    const commands = fused((ops) => {
      ops.lerp(A, B, C);
      wkv(ops, STATE);
      ops.groupNorm(D, D, NORM, 2, 1e-5);
      ops.mul(D, A);
      ops.matmul(X, W0, D);
    });
    expect(commands).toMatchObject([
      {
        op: "heads",
        before: { stages: [{ op: "lerp" }] },
        recurrence: { op: "wkv6" },
        after: { stages: [{ op: "groupNorm" }, { op: "mul" }] },
      },
      { op: "products" },
    ]);
  });

  test("leaves alone what is done in other heads", () => {
    const commands = fused((ops) => {
      wkv(ops, STATE);
      ops.groupNorm(D, D, NORM, 4, 1e-5);
    });
    expect(commands).toMatchObject([{ op: "heads", after: null }, { op: "chain" }]);
  });
});

/** What each tensor holds, as the formula by which it was made. */
type Values = Map<Tensor, string>;

const read = (values: Values, of: Tensor): string => values.get(of) ?? of.name;
const times = (a: string, b: string): string => `(${[a, b].sort().join("*")})`;

function productValue(values: Values, product: Product): string {
  const { w, x, bias, activation, factor, base, scale } = product;
  let value = `(${w.name} ${read(values, x)})`;
  if (bias !== null) value = `(${value}+${read(values, bias)})`;
  if (activation !== "none") value = `${activation}(${value})`;
  if (factor !== null) value = times(value, read(values, factor));
  return base === null ? value : `(${read(values, base)}+${scale}*${value})`;
}

/** Computes formulas, each command after the other; products of one command all at once. */
function run(commands: readonly (Command | FusedCommand)[], values: Values): void {
  for (const command of commands) {
    const get = (of: Tensor): string => read(values, of);
    switch (command.op) {
      case "product":
        values.set(command.out, productValue(values, command));
        break;
      case "products": {
        const { products } = command;
        for (const { out } of products) {
          const readers = products.filter((other) => accessOf(other).reads.includes(out));
          // Only a product that adds to rows may read what it writes, and no other product may.
          expect(readers.every(({ out: own, x }) => own === out && x !== out)).toBe(true);
        }
        expect(new Set(products.map(({ out }) => out)).size).toBe(products.length);
        const results = products.map((product) => productValue(values, product));
        products.forEach(({ out }, i) => values.set(out, results[i]!));
        break;
      }
      case "chain":
        run(command.stages, values);
        break;
      case "heads": {
        const { before, recurrence, after } = command;
        run(
          [before, recurrence, after].filter((part) => part !== null),
          values,
        );
        break;
      }
      case "shift": {
        const { norm, x, isXKept, shift, delta, outs, mix } = command;
        // The rows before and after are read by other workgroups.
        const source = norm?.x ?? x;
        expect([delta, ...outs, ...(norm === null ? [] : [x])]).not.toContain(source);
        const current =
          norm === null ? get(x) : `norm(${[norm.x, norm.weight, norm.bias].map(get).join(",")},${norm.eps})`;
        const difference = `(${get(shift)}-${current})`;
        const results = mix.map((share) => `(${current}+1*${times(difference, get(share))})`);
        // Where it is not kept, x holds what it held: a product that was to be after this may have written it already.
        if (norm !== null && isXKept) values.set(x, current);
        if (delta !== null) values.set(delta, difference);
        values.set(shift, current);
        outs.forEach((out, i) => values.set(out, results[i]!));
        break;
      }
      case "tokenShift":
      case "shiftDelta": {
        const { x, shift } = command;
        const outs = command.op === "tokenShift" ? command.outs : [];
        const mix = command.op === "tokenShift" ? command.mix : [];
        const delta = command.op === "shiftDelta" ? command.out : null;
        run([{ op: "shift", norm: null, x, isXKept: true, shift, delta, outs, mix }], values);
        break;
      }
      case "layerNorm": {
        const { out, x, weight, bias, eps } = command;
        values.set(out, `norm(${[x, weight, bias].map(get).join(",")},${eps})`);
        break;
      }
      case "activate":
        values.set(command.out, `${command.f}(${get(command.x)})`);
        break;
      case "copy":
        values.set(command.out, get(command.x));
        break;
      case "mul":
        values.set(command.x, times(get(command.x), get(command.y)));
        break;
      case "add":
        values.set(command.x, `(${get(command.x)}+${command.scale}*${get(command.y)})`);
        break;
      case "addMul":
        values.set(command.out, `(${get(command.x)}+1*${times(get(command.a), get(command.b))})`);
        break;
      default: {
        const operands = operandsOf(command);
        const inputs = operands.filter(({ role }) => role !== "out").map(({ tensor: input }) => get(input));
        for (const { argument, role, tensor: written } of operands) {
          if (role !== "in") values.set(written, `${command.op}.${argument}(${inputs.join(",")})`);
        }
      }
    }
  }
}

const anyRows = fc.constantFrom(X, ...SCRATCH);
const anyMatrix = fc.constantFrom(...MATRICES);
const anyVector = fc.constantFrom(...VECTORS);
const anyShift = fc.constantFrom(...SHIFTS);
const anyFunction = fc.constantFrom<Activation>("none", "sigmoid", "tanh");

/** Operations with any operands; those that no model could record are left out. */
const anyOperation: fc.Arbitrary<(ops: Ops) => void> = fc.oneof(
  fc.tuple(anyRows, anyMatrix, anyRows).map(
    ([out, w, x]) =>
      (ops: Ops) =>
        ops.matmul(out, w, x),
  ),
  fc.tuple(anyRows, anyRows, anyMatrix, anyMatrix, anyVector, anyFunction, anyFunction).map(
    ([out, x, down, up, bias, inner, outer]) =>
      (ops: Ops) =>
        ops.lora(out, x, { down, up, bias }, inner, outer),
  ),
  fc.tuple(anyRows, anyRows, anyFunction).map(
    ([out, x, f]) =>
      (ops: Ops) =>
        ops.activate(out, x, f),
  ),
  fc.tuple(anyRows, anyRows).map(
    ([x, y]) =>
      (ops: Ops) =>
        ops.mul(x, y),
  ),
  fc.tuple(anyRows, anyRows).map(
    ([x, y]) =>
      (ops: Ops) =>
        ops.add(x, y, 2),
  ),
  fc.tuple(anyRows, anyRows, anyRows, fc.oneof(anyRows, anyVector)).map(
    ([out, x, a, b]) =>
      (ops: Ops) =>
        ops.addMul(out, x, a, b),
  ),
  fc.tuple(anyRows, anyRows).map(
    ([out, x]) =>
      (ops: Ops) =>
        ops.layerNorm(out, x, NORM, 1e-5),
  ),
  fc.tuple(anyRows, anyRows, anyRows, anyShift).map(
    ([out, other, x, shift]) =>
      (ops: Ops) =>
        ops.tokenShift([out, other], x, shift, [V0, V1]),
  ),
  fc.tuple(anyRows, anyRows, anyShift).map(
    ([out, x, shift]) =>
      (ops: Ops) =>
        ops.shiftDelta(out, x, shift),
  ),
  fc.tuple(anyRows, anyRows).map(
    ([out, x]) =>
      (ops: Ops) =>
        ops.l2NormHeads(out, x, V0, 2, 1e-12),
  ),
  fc.tuple(anyRows, anyRows, anyRows).map(
    ([x, to, weight]) =>
      (ops: Ops) =>
        ops.lerp(x, to, weight),
  ),
  fc.tuple(anyRows, anyRows, anyRows, anyRows).map(
    ([y, r, k, v]) =>
      (ops: Ops) =>
        ops.wkv6(y, STATE, r, k, v, V0, V1),
  ),
);

test("fused commands compute what the recorded ones do, for any list of operations", () => {
  const operations = fc.array(anyOperation, { minLength: 1, maxLength: 24 });
  const seen = fc.subarray(OUTPUTS.map((_, i) => i));
  fc.assert(
    fc.property(operations, seen, (forward, wanted) => {
      const commands = commandsOf((ops) => {
        for (const operation of forward) {
          try {
            operation(ops);
          } catch (error) {
            if ((error as Error).name !== "ShapeError") throw error;
          }
        }
        for (const i of wanted) ops.copy(OUTPUTS[i]!, [X, ...SCRATCH][i]!);
      });
      const plain: Values = new Map();
      const result: Values = new Map();
      run(commands, plain);
      run(fuse(commands), result);
      for (const output of [...wanted.map((i) => OUTPUTS[i]!), ...SHIFTS, STATE]) {
        expect(read(result, output)).toBe(read(plain, output));
      }
    }),
    { numRuns: 2000 },
  );
});
