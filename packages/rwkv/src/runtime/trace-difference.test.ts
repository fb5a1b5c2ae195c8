import fc from "fast-check";
import { expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import type { Trace, TraceTensor } from "../formats/trace-file.ts";
import { diffTraces } from "./trace-difference.ts";

const ORIGIN = { model: "m", modelVersion: "7", fingerprint: "f", backend: "cpu", device: "d" };

function traceOf(tensors: Record<string, [number[], number[]]>, origin: Trace["origin"] = ORIGIN): Trace {
  const entries = Object.entries(tensors).map(([name, [shape, values]]): [string, TraceTensor] => [
    name,
    { shape, values: Float32Array.from(values) },
  ]);
  return { origin, tokens: null, tensors: new Map(entries) };
}

const NAMES = ["emb", "blocks.0.att.k", "blocks.1.att.state.wkv", "blocks.11.ffn.out", "head"];
const LAYERS = [null, 0, 1, 11, null];

test("one changed number is found at its layer, name, token and index, wherever it is", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.float({ noNaN: true, min: -8, max: 8 }), { minLength: 24, maxLength: 24 }), {
        minLength: NAMES.length,
        maxLength: NAMES.length,
      }),
      fc.nat(NAMES.length - 1),
      fc.nat(23),
      (values, which, element) => {
        const shapeOf = (i: number): number[] => (i === 2 ? [2, 3, 4] : [4, 6]);
        const build = (all: number[][]): Trace =>
          traceOf(Object.fromEntries(NAMES.map((name, i) => [name, [shapeOf(i), all[i]!]])));
        const changed = values.map((list) => [...list]);
        // Whatever comes later may differ too.
        for (let i = element; i < 24; i++) changed[which]![i]! += 1;
        for (const list of changed.slice(which + 1)) list.fill(100);
        const { first, tensors } = diffTraces(build(values), build(changed), { atol: 0.5 });
        const isState = which === 2;
        expect(first).toEqual({
          name: NAMES[which],
          layer: LAYERS[which],
          token: isState ? null : Math.floor(element / 6),
          index: isState
            ? [Math.floor(element / 12), Math.floor(element / 4) % 3, element % 4]
            : [element % 6],
          values: [Math.fround(values[which]![element]!), Math.fround(changed[which]![element]!)],
        });
        expect(tensors.map(({ nBeyond }) => nBeyond)).toEqual(
          NAMES.map((_, i) => (i < which ? 0 : i === which ? 24 - element : 24)),
        );
      },
    ),
  );
});

test("differences up to atol + rtol * |a| are none", () => {
  const a = traceOf({
    head: [
      [1, 3],
      [0, 100, -100],
    ],
  });
  const b = traceOf({
    head: [
      [1, 3],
      [0.5, 101, -102],
    ],
  });
  expect(diffTraces(a, b, { atol: 0.5 }).first).toMatchObject({ index: [1] });
  expect(diffTraces(a, b, { atol: 0.5, rtol: 0.01 }).first).toMatchObject({
    index: [2],
    values: [-100, -102],
  });
  expect(diffTraces(a, b, { atol: 0.5, rtol: 0.02 })).toMatchObject({
    first: null,
    tensors: [{ nBeyond: 0, nElements: 3, maxDifference: 2 }],
  });
  expect(diffTraces(a, a)).toMatchObject({ first: null, tensors: [{ maxDifference: 0 }] });
});

test.each([
  [NaN, NaN, true],
  [Infinity, Infinity, true],
  [0, -0, true],
  [NaN, 1, false],
  [1, NaN, false],
  [Infinity, 1, false],
  [Infinity, -Infinity, false],
])("%d and %d are equal: %s, under any tolerance", (x, y, areEqual) => {
  const [a, b] = [traceOf({ head: [[1], [x]] }), traceOf({ head: [[1], [y]] })];
  const { first, tensors } = diffTraces(a, b, { atol: 1e30, rtol: 1e30 });
  expect(first === null).toBe(areEqual);
  expect(tensors[0]!.maxDifference).toBe(areEqual ? 0 : Infinity);
});

test("names that only one has are told, and the others compared in the order of the one that a trace made", () => {
  const foreign = traceOf({ a: [[1], [1]], b: [[1], [1]], z: [[1], [1]] }, null);
  const own = traceOf({ z: [[1], [2]], y: [[1], [1]], a: [[1], [2]] });
  for (const [first, second] of [
    [foreign, own],
    [own, foreign],
  ] as const) {
    const difference = diffTraces(first, second);
    expect(difference.tensors.map(({ name }) => name)).toEqual(["z", "a"]);
    expect(difference.first?.name).toBe("z");
    expect(first === foreign ? difference.onlyInFirst : difference.onlyInSecond).toEqual(["b"]);
    expect(first === foreign ? difference.onlyInSecond : difference.onlyInFirst).toEqual(["y"]);
  }
});

test("dimensions of 1 do not matter, and places are counted in the trace's own", () => {
  const foreign = traceOf(
    {
      head: [
        [1, 2, 3],
        [1, 2, 3, 4, 5, 6],
      ],
    },
    null,
  );
  const own = traceOf({
    head: [
      [2, 3],
      [1, 2, 3, 4, 5, 7],
    ],
  });
  expect(diffTraces(foreign, own).first).toMatchObject({ token: 1, index: [2], values: [6, 7] });
});

test("other shapes, nothing in common and negative tolerances are refused", () => {
  const a = traceOf({
    head: [
      [2, 3],
      [1, 2, 3, 4, 5, 6],
    ],
  });
  const b = traceOf({
    head: [
      [3, 2],
      [1, 2, 3, 4, 5, 6],
    ],
  });
  expect(() => diffTraces(a, b)).toThrow("head is [2, 3] in the first trace and [3, 2] in the second");
  expect(() => diffTraces(a, traceOf({ emb: [[1], [1]] }))).toThrow(
    "no name in common: the first has head, the second emb",
  );
  expect(() => diffTraces(a, traceOf({}))).toThrow(UsageError);
  expect(() => diffTraces(a, a, { atol: -1 })).toThrow("atol is -1");
  expect(() => diffTraces(a, a, { rtol: NaN })).toThrow("rtol is NaN");
});
