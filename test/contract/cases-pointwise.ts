// Cases of the operations on single elements and whole rows: token shift, arithmetic, activations, choice of rows.

import type { Run } from "../../packages/rwkv/src/ops/backend.ts";
import type { Activation } from "../../packages/rwkv/src/ops/ops.ts";
import type { ContractCase } from "./case.ts";
import { between, cycle, uniform, type Fill } from "./data.ts";
import { define, EXTREMES, onlyWritten, RAGGED, RUNS, same, WIDTHS } from "./define.ts";
import { ACTIVATION_ROUNDINGS, flushedFactors, maxAbs, roundings } from "./limits.ts";

export function shifts(): ContractCase[] {
  const tokenShift = (width: number, nOuts: number, runs: readonly number[], x?: Fill): ContractCase => {
    const indices = Array.from({ length: nOuts }, (_, i) => i);
    return define(
      "tokenShift",
      `C=${width} outs=${nOuts}${x === undefined ? "" : " large"}`,
      { runs },
      ({ rows, vector, state }) => ({
        x: rows([width], x),
        shift: state([width], x),
        ...Object.fromEntries(indices.map((i) => [`outs[${i}]`, onlyWritten(width)])),
        ...Object.fromEntries(indices.map((i) => [`mix[${i}]`, vector(width, between(0, 1))])),
      }),
      (ops, t) =>
        ops.tokenShift(
          indices.map((i) => t(`outs[${i}]`)),
          t("x"),
          t("shift"),
          indices.map((i) => t(`mix[${i}]`)),
        ),
      (data) => {
        const most = Math.max(maxAbs(data.given("x")), maxAbs(data.given("shift")));
        return Object.fromEntries(indices.map((i) => [`outs[${i}]`, roundings(3, 3 * most)]));
      },
    );
  };
  const shiftDelta = (width: number, runs: readonly number[], x?: Fill): ContractCase =>
    define(
      "shiftDelta",
      `C=${width}${x === undefined ? "" : " large"}`,
      { runs },
      ({ rows, state }) => ({ x: rows([width], x), shift: state([width], x), out: onlyWritten(width) }),
      (ops, t) => ops.shiftDelta(t("out"), t("x"), t("shift")),
      (data) => ({
        out: roundings(1, maxAbs(data.given("x")) + maxAbs(data.given("shift"))),
      }),
    );
  return [
    ...WIDTHS.flatMap((width) => RUNS.map((runs) => tokenShift(width, 1, runs))),
    tokenShift(33, 2, RAGGED),
    tokenShift(33, 3, RAGGED),
    tokenShift(100, 6, RAGGED),
    tokenShift(33, 2, RAGGED, uniform(1e30)),
    ...WIDTHS.flatMap((width) => RUNS.map((runs) => shiftDelta(width, runs))),
    shiftDelta(33, RAGGED, uniform(1e30)),
  ];
}

export function elementwise(): ContractCase[] {
  const shapes: { details: string; width: number; runs: readonly number[]; fill?: Fill }[] = [
    ...WIDTHS.flatMap((width) => RUNS.map((runs) => ({ details: `C=${width}`, width, runs }))),
    { details: "C=33 extremes", width: 33, runs: RAGGED, fill: EXTREMES },
  ];
  return shapes.flatMap(({ details, width, runs, fill }) => {
    const row = [width];
    const options = { runs };
    const addMul = (title: string, make: Parameters<typeof define>[3]): ContractCase =>
      define(
        "addMul",
        `${details} ${title}`,
        options,
        make,
        (ops, t) => ops.addMul(t("out"), t("x"), t("a"), t("b")),
        (data) => {
          const [x, a, b] = [data.given("x"), data.given("a"), data.given("b")];
          return {
            out: (i) => {
              const factor = b[i % b.length]!;
              const flushed = data.flushesFactors ? flushedFactors(a[i]!, factor) : 0;
              return roundings(2, Math.abs(x[i]!) + Math.abs(a[i]! * factor)) + flushed;
            },
          };
        },
      );
    const add = (scale: number): ContractCase =>
      define(
        "add",
        `${details} scale=${scale}`,
        options,
        ({ rows }) => ({ x: rows(row, fill), y: rows(row, fill) }),
        (ops, t) => ops.add(t("x"), t("y"), scale),
        (data) => {
          const [x, y] = [data.given("x"), data.given("y")];
          return { x: (i) => roundings(2, Math.abs(x[i]!) + Math.abs(y[i]! * scale)) };
        },
      );
    return [
      addMul("b of each row", ({ rows }) => ({
        x: rows(row, fill),
        a: rows(row, fill),
        b: rows(row, fill),
        out: onlyWritten(width),
      })),
      addMul("b of all rows", ({ rows, vector }) => ({
        x: rows(row, fill),
        a: rows(row, fill),
        b: vector(width, fill),
        out: onlyWritten(width),
      })),
      ...["x", "a", "b"].map((of) =>
        addMul(`in place of ${of}`, ({ rows }) => ({
          x: rows(row, fill),
          a: rows(row, fill),
          b: rows(row, fill),
          out: same(of),
        })),
      ),
      add(1),
      add(4),
      define(
        "mul",
        details,
        options,
        ({ rows }) => ({ x: rows(row, fill), y: rows(row, fill) }),
        (ops, t) => ops.mul(t("x"), t("y")),
        (data) => {
          const [x, y] = [data.given("x"), data.given("y")];
          return { x: (i) => roundings(1, Math.abs(x[i]! * y[i]!)) };
        },
      ),
      define(
        "lerp",
        details,
        options,
        ({ rows }) => ({
          x: rows(row, fill),
          target: rows(row, fill),
          weight: rows(row, between(0, 1)),
        }),
        (ops, t) => ops.lerp(t("x"), t("target"), t("weight")),
        (data) => {
          const [x, target] = [data.given("x"), data.given("target")];
          return { x: (i) => roundings(3, 2 * Math.abs(x[i]!) + Math.abs(target[i]!)) };
        },
      ),
      define(
        "copy",
        details,
        options,
        ({ rows }) => ({ x: rows(row, fill), out: onlyWritten(width) }),
        (ops, t) => ops.copy(t("out"), t("x")),
        () => ({ out: 0 }),
      ),
      define(
        "scaleKey",
        details,
        options,
        ({ rows, vector }) => ({ k: rows(row, fill), a: rows(row, between(0, 1)), kA: vector(width) }),
        (ops, t) => ops.scaleKey(t("k"), t("a"), t("kA")),
        (data) => {
          const [k, a, kA] = [data.given("k"), data.given("a"), data.given("kA")];
          return {
            k: (i) => roundings(4, Math.abs(k[i]!) * (1 + (1 + a[i]!) * Math.abs(kA[i % kA.length]!))),
          };
        },
      ),
    ];
  });
}

/** Where exp overflows, underflows or meets subnormals in f32: about 88, -87 and -104. */
const EXPONENTS = cycle(0, -0, 1e-40, -1e-7, 20, -20, 88, -88, 89, -89, 104, -104, 200, -200, 1e4, -1e4);

export function activations(): ContractCase[] {
  const functions: readonly Activation[] = [
    "none",
    "sigmoid",
    "silu",
    "tanh",
    "reluSquared",
    "decay6",
    "decay7",
  ];
  const activate = (
    f: Activation,
    details: string,
    runs: readonly number[],
    width: number,
    x: Fill,
    isInPlace: boolean,
  ): ContractCase =>
    define(
      "activate",
      `C=${width} ${f}${details}`,
      { runs },
      ({ rows }) => ({ x: rows([width], x), out: isInPlace ? same("x") : onlyWritten(width) }),
      (ops, t) => ops.activate(t("out"), t("x"), f),
      (data) => {
        const given = data.given("x");
        /** Bounded by 1 are all but these; decay6 included, since x exp(-x) is. */
        const size = (x: number): number =>
          f === "silu" ? Math.max(1, Math.abs(x)) : f === "reluSquared" ? x * x : 1;
        return { out: f === "none" ? 0 : (i) => roundings(ACTIVATION_ROUNDINGS, size(given[i]!)) };
      },
    );
  return functions.flatMap((f) => [
    ...WIDTHS.flatMap((width) => RUNS.map((runs) => activate(f, "", runs, width, uniform(8), false))),
    activate(f, " in place", RAGGED, 33, uniform(8), true),
    activate(f, " extremes", [3], 33, EXPONENTS, false),
  ]);
}

export function selections(): ContractCase[] {
  const modes: readonly (readonly Run["logits"][])[] = [
    ["all", "all", "all"],
    ["last", "last", "last"],
    ["none", "last", "all"],
    ["last", "none", "none"],
  ];
  return modes.map((logits) =>
    define(
      "selectRows",
      `C=33 logits=${logits.join()}`,
      { runs: RAGGED, rows: "logit", logits },
      ({ rows }) => ({ x: rows([33]), out: onlyWritten(33) }),
      (ops, t) => ops.selectRows(t("out"), t("x")),
      () => ({ out: 0 }),
    ),
  );
}
