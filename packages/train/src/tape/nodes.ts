// The node of each operation: what its backward needs, and which kernels it calls. Nothing here knows where values lie.

import type { OpArguments, OpCall } from "rwkv/ops";
import type { Value, Weight } from "./graph.ts";
import { addLora, addMatmul } from "./products.ts";
import { addWkv4, addWkv6, addWkv7 } from "./recurrences.ts";
import type { Tracer } from "./tracer.ts";

/** Adds the node of a call, or none where it is only another name for a value. */
export function addNode(call: OpCall, t: Tracer): void {
  switch (call.op) {
    case "layerNorm":
      addNorm(t, call, 1);
      return;
    case "groupNorm":
      addNorm(t, call, call.heads);
      return;
    case "tokenShift":
      addTokenShift(t, call);
      return;
    case "shiftDelta":
      addShiftDelta(t, call);
      return;
    case "addMul":
      addAddMul(t, call);
      return;
    case "matmul":
      addMatmul(t, call);
      return;
    case "lora":
      addLora(t, call);
      return;
    case "activate":
      addActivate(t, call);
      return;
    case "add":
      addAdd(t, call);
      return;
    case "mul":
      addMul(t, call);
      return;
    case "lerp":
      addLerp(t, call);
      return;
    case "copy":
      t.alias(call.out, t.read(call.x));
      return;
    case "selectRows":
      // every row's logits are wanted in training
      t.alias(call.out, t.read(call.x));
      return;
    case "l2NormHeads":
      addL2NormHeads(t, call);
      return;
    case "scaleKey":
      addScaleKey(t, call);
      return;
    case "addBonus":
      addAddBonus(t, call);
      return;
    case "wkv4":
      addWkv4(t, call);
      return;
    case "wkv6":
      addWkv6(t, call);
      return;
    case "wkv7":
      addWkv7(t, call);
      return;
    default:
      call satisfies never;
  }
}

/** Whether gradients must flow through a node with these sources. */
export function anyWanted(values: readonly Value[], weights: readonly Weight[] = []): boolean {
  return values.some(({ isWanted }) => isWanted) || weights.some(({ isTrained }) => isTrained);
}

function addNorm(t: Tracer, call: OpArguments["layerNorm"], groups: number): void {
  const x = t.read(call.x);
  const weight = t.weight(call.weight);
  const bias = t.weight(call.bias);
  const stats = t.extra("stats", "row", 2 * groups);
  const out = t.write(call.out, anyWanted([x], [weight, bias]));
  const width = x.elements;
  const { eps } = call;
  t.add({
    op: "norm",
    reads: [x],
    writes: [out, stats],
    keeps: [x, stats],
    gradientsOf: [out],
    gradients: [x],
    forward: (k, m, { rows }) =>
      k.norm(
        m.data(out),
        m.data(stats),
        m.data(x),
        m.weight(weight),
        m.weight(bias),
        rows,
        width,
        groups,
        eps,
      ),
    backward: (k, m, { rows }, added) =>
      k.normBackward(
        m.gradient(x),
        m.weightGradient(weight),
        m.weightGradient(bias),
        m.gradient(out),
        m.data(x),
        m.data(stats),
        m.weight(weight),
        rows,
        width,
        groups,
        added,
      ),
  });
}

function addTokenShift(t: Tracer, call: OpArguments["tokenShift"]): void {
  const x = t.read(call.x);
  const { name, before, after } = t.state(call.shift);
  const mix = call.mix.map((tensor) => t.weight(tensor));
  const outs = call.outs.map((tensor) => t.write(tensor, anyWanted([x, before], mix)));
  const width = x.elements;
  t.add({
    op: "tokenShift",
    reads: [x, before],
    writes: [...outs, after],
    keeps: [x, before],
    gradientsOf: outs,
    gradients: [x],
    forward: (k, m, { runs }) =>
      k.tokenShift(
        outs.map((out) => m.data(out)),
        m.data(after),
        m.data(x),
        m.data(before),
        mix.map((weight) => m.weight(weight)),
        runs,
        width,
      ),
    backward: (k, m, { runs }, added) =>
      k.tokenShiftBackward(
        m.gradient(x),
        m.stateGradient(name),
        mix.map((weight) => m.weightGradient(weight)),
        outs.map((out) => m.gradient(out)),
        m.data(x),
        m.data(before),
        mix.map((weight) => m.weight(weight)),
        runs,
        width,
        added,
      ),
  });
}

function addShiftDelta(t: Tracer, call: OpArguments["shiftDelta"]): void {
  const x = t.read(call.x);
  const { name, before, after } = t.state(call.shift);
  const out = t.write(call.out, anyWanted([x, before]));
  const width = x.elements;
  t.add({
    op: "shiftDelta",
    reads: [x, before],
    writes: [out, after],
    keeps: [],
    gradientsOf: [out],
    gradients: [x],
    forward: (k, m, { runs }) =>
      k.shiftDelta(m.data(out), m.data(after), m.data(x), m.data(before), runs, width),
    backward: (k, m, { runs }, added) =>
      k.shiftDeltaBackward(m.gradient(x), m.stateGradient(name), m.gradient(out), runs, width, added),
  });
}

function addAddMul(t: Tracer, call: OpArguments["addMul"]): void {
  const x = t.read(call.x);
  const a = t.read(call.a);
  const width = x.elements;
  if (call.b.kind === "weight") {
    const b = t.weight(call.b);
    const out = t.write(call.out, anyWanted([x, a], [b]));
    t.add({
      op: "addMul",
      reads: [x, a],
      writes: [out],
      keeps: [a],
      gradientsOf: [out],
      gradients: [a],
      passes: [{ from: out, to: x, scale: 1 }],
      forward: (k, m, { rows }) =>
        k.addMul(m.data(out), m.data(x), m.data(a), m.weight(b), rows * width, width),
      backward: (k, m, { rows }, added) =>
        k.addMulBackward(
          m.gradient(a),
          m.weightGradient(b),
          m.gradient(out),
          m.data(a),
          m.weight(b),
          rows * width,
          width,
          added,
        ),
    });
    return;
  }
  const b = t.read(call.b);
  const out = t.write(call.out, anyWanted([x, a, b]));
  t.add({
    op: "addMul",
    reads: [x, a, b],
    writes: [out],
    keeps: [a, b],
    gradientsOf: [out],
    gradients: [a, b],
    passes: [{ from: out, to: x, scale: 1 }],
    forward: (k, m, { rows }) =>
      k.addMul(m.data(out), m.data(x), m.data(a), m.data(b), rows * width, rows * width),
    backward: (k, m, { rows }, added) =>
      k.addMulBackward(
        m.gradient(a),
        m.gradient(b),
        m.gradient(out),
        m.data(a),
        m.data(b),
        rows * width,
        rows * width,
        added,
      ),
  });
}

function addActivate(t: Tracer, call: OpArguments["activate"]): void {
  const x = t.read(call.x);
  const out = t.write(call.out, x.isWanted);
  const width = x.elements;
  const { f } = call;
  t.add({
    op: "activate",
    reads: [x],
    writes: [out],
    keeps: [x, out],
    gradientsOf: [out],
    overwrites: true,
    gradients: [],
    passes: [{ from: out, to: x, scale: 1 }],
    forward: (k, m, { rows }) => k.activate(m.data(out), m.data(x), null, rows, width, f),
    backward: (k, m, { rows }) =>
      k.activateBackward(
        m.gradient(out),
        null,
        m.gradient(out),
        m.data(x),
        m.data(out),
        null,
        rows,
        width,
        f,
      ),
  });
}

function addAdd(t: Tracer, call: OpArguments["add"]): void {
  const x = t.read(call.x);
  const y = t.read(call.y);
  const out = t.write(call.x, anyWanted([x, y]));
  const width = x.elements;
  const { scale } = call;
  t.add({
    op: "add",
    reads: [x, y],
    writes: [out],
    keeps: [],
    gradientsOf: [out],
    gradients: [],
    passes: [
      { from: out, to: y, scale },
      { from: out, to: x, scale: 1 },
    ],
    forward: (k, m, { rows }) => k.addScaled(m.data(out), m.data(x), m.data(y), scale, rows * width),
  });
}

function addMul(t: Tracer, call: OpArguments["mul"]): void {
  const x = t.read(call.x);
  const y = t.read(call.y);
  const out = t.write(call.x, anyWanted([x, y]));
  const width = x.elements;
  t.add({
    op: "mul",
    reads: [x, y],
    writes: [out],
    keeps: [x, y],
    gradientsOf: [out],
    gradients: [x, y],
    forward: (k, m, { rows }) => k.mul(m.data(out), m.data(x), m.data(y), rows * width),
    backward: (k, m, { rows }, added) =>
      k.mulBackward(m.gradient(x), m.gradient(y), m.gradient(out), m.data(x), m.data(y), rows * width, added),
  });
}

function addLerp(t: Tracer, call: OpArguments["lerp"]): void {
  const x = t.read(call.x);
  const target = t.read(call.target);
  const weight = t.read(call.weight);
  const out = t.write(call.x, anyWanted([x, target, weight]));
  const width = x.elements;
  t.add({
    op: "lerp",
    reads: [x, target, weight],
    writes: [out],
    keeps: [x, target, weight],
    gradientsOf: [out],
    gradients: [x, target, weight],
    forward: (k, m, { rows }) => k.lerp(m.data(out), m.data(x), m.data(target), m.data(weight), rows * width),
    backward: (k, m, { rows }, added) =>
      k.lerpBackward(
        m.gradient(x),
        m.gradient(target),
        m.gradient(weight),
        m.gradient(out),
        m.data(x),
        m.data(target),
        m.data(weight),
        rows * width,
        added,
      ),
  });
}

function addL2NormHeads(t: Tracer, call: OpArguments["l2NormHeads"]): void {
  const x = t.read(call.x);
  const scale = t.weight(call.scale);
  const inverses = t.extra("inverses", "row", call.heads);
  const out = t.write(call.out, anyWanted([x], [scale]));
  const width = x.elements;
  const { heads, eps } = call;
  t.add({
    op: "l2NormHeads",
    reads: [x],
    writes: [out, inverses],
    keeps: [out, inverses, x],
    gradientsOf: [out],
    gradients: [x],
    forward: (k, m, { rows }) =>
      k.l2NormHeads(m.data(out), m.data(inverses), m.data(x), m.weight(scale), rows, width, heads, eps),
    backward: (k, m, { rows }, added) =>
      k.l2NormHeadsBackward(
        m.gradient(x),
        m.weightGradient(scale),
        m.gradient(out),
        m.data(out),
        m.data(inverses),
        m.data(x),
        m.weight(scale),
        rows,
        width,
        heads,
        eps,
        added,
      ),
  });
}

function addScaleKey(t: Tracer, call: OpArguments["scaleKey"]): void {
  const key = t.read(call.k);
  const a = t.read(call.a);
  const kA = t.weight(call.kA);
  const out = t.write(call.k, anyWanted([key, a], [kA]));
  const width = key.elements;
  t.add({
    op: "scaleKey",
    reads: [key, a],
    writes: [out],
    keeps: [key, a],
    gradientsOf: [out],
    gradients: [key, a],
    forward: (k, m, { rows }) => k.scaleKey(m.data(out), m.data(key), m.data(a), m.weight(kA), rows, width),
    backward: (k, m, { rows }, added) =>
      k.scaleKeyBackward(
        m.gradient(key),
        m.gradient(a),
        m.weightGradient(kA),
        m.gradient(out),
        m.data(key),
        m.data(a),
        m.weight(kA),
        rows,
        width,
        added,
      ),
  });
}

function addAddBonus(t: Tracer, call: OpArguments["addBonus"]): void {
  const y = t.read(call.y);
  const [r, key, v] = [t.read(call.r), t.read(call.k), t.read(call.v)];
  const rK = t.weight(call.rK);
  const out = t.write(call.y, anyWanted([y, r, key, v], [rK]));
  const width = y.elements;
  const { heads } = call;
  t.add({
    op: "addBonus",
    reads: [y, r, key, v],
    writes: [out],
    keeps: [r, key, v],
    gradientsOf: [out],
    gradients: [r, key, v],
    passes: [{ from: out, to: y, scale: 1 }],
    forward: (k, m, { rows }) =>
      k.addBonus(m.data(out), m.data(y), m.data(r), m.data(key), m.data(v), m.weight(rK), rows, width, heads),
    backward: (k, m, { rows }, added) =>
      k.addBonusBackward(
        m.gradient(r),
        m.gradient(key),
        m.gradient(v),
        m.weightGradient(rK),
        m.gradient(out),
        m.data(r),
        m.data(key),
        m.data(v),
        m.weight(rK),
        rows,
        width,
        heads,
        added,
      ),
  });
}
