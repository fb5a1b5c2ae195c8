// The declared cases of every operation. Shapes: one row, odd numbers of rows, several runs of unequal length; widths
// that are no multiple of any vector register; every weight type; zeros, large values, subnormals.

import {
  countElements,
  DTYPES,
  isWeightDType,
  type WeightDType,
} from "../../packages/rwkv/src/core/dtype.ts";
import { isQuantized, isDType } from "../../packages/rwkv/src/core/dtype.ts";
import type { Run } from "../../packages/rwkv/src/ops/backend.ts";
import type { Activation } from "../../packages/rwkv/src/ops/ops.ts";
import type { OpName } from "../../packages/rwkv/src/ops/signature.ts";
import type { Argument, ContractCase } from "./case.ts";
import {
  between,
  constant,
  cycle,
  fillArray,
  seeded,
  storedWeight,
  uniform,
  unitHeads,
  type Fill,
  type Random,
} from "./data.ts";
import {
  ACTIVATION_ROUNDINGS,
  loraLimit,
  matmulLimit,
  maxAbs,
  normLimit,
  roundings,
  wkv4Limits,
  wkv6Limits,
  wkv7Limits,
} from "./limits.ts";

const LAYER_NORM_EPS = 1e-5;
const GROUP_NORM_EPS = 64e-5;
const L2_EPS = 1e-12;

const ONE: readonly number[] = [1];
const RAGGED: readonly number[] = [3, 1, 8];
const LONG: readonly number[] = [64];
const RUNS = [ONE, [7], RAGGED];

/** Odd, just past a vector register, no power of two, a whole number of blocks. */
const WIDTHS = [5, 33, 100, 256];

/** [H, N] */
const HEADS: readonly (readonly [number, number])[] = [
  [3, 8],
  [2, 16],
  [2, 64],
  [1, 100],
];

const WEIGHT_DTYPES: readonly WeightDType[] = Object.keys(DTYPES).filter(isDType).filter(isWeightDType);

/** Makes the arguments of a case; one seeded generator serves all of them in order. */
interface Maker {
  readonly random: Random;
  /** Rows with values. */
  rows(shape: readonly number[], fill?: Fill): Argument;
  vector(nElements: number, fill?: Fill): Argument;
  matrix(dtype: WeightDType, shape: readonly number[]): Argument;
  state(shape: readonly number[], fill?: Fill): Argument;
}

const onlyWritten = (...shape: readonly number[]): Argument => ({ kind: "rows", shape, values: null });
const same = (of: string): Argument => ({ kind: "alias", of });

interface CaseOptions {
  readonly runs: readonly number[];
  readonly seed?: number;
  readonly rows?: "logit";
  readonly logits?: readonly Run["logits"][];
}

function define(
  op: OpName,
  details: string,
  { runs, seed = 7, rows, logits }: CaseOptions,
  make: (maker: Maker) => Record<string, Argument>,
  call: ContractCase["call"],
  limits: ContractCase["limits"],
): ContractCase {
  const random = seeded(seed);
  const nRows = runs.reduce((sum, n) => sum + n, 0);
  const maker: Maker = {
    random,
    rows: (shape, fill = uniform(1)) => ({
      kind: "rows",
      shape,
      values: fillArray(nRows * countElements(shape), fill, random),
    }),
    vector: (nElements, fill = uniform(1)) => ({
      kind: "weight",
      ...storedWeight("f32", [nElements], fill, random),
    }),
    matrix: (dtype, shape) => ({ kind: "weight", ...storedWeight(dtype, shape, uniform(0.5), random) }),
    state: (shape, fill = uniform(1)) => ({
      kind: "state",
      shape,
      initial: 0,
      values: fillArray(runs.length * countElements(shape), fill, random),
    }),
  };
  return {
    op,
    title: `T=${runs.join("+")} ${details}`,
    seed,
    runs,
    rows: rows ?? "token",
    logits: logits ?? runs.map(() => "all"),
    arguments: make(maker),
    call,
    limits,
  };
}

function norms(): ContractCase[] {
  const layerNorm = (
    width: number,
    details: string,
    options: CaseOptions,
    x?: Fill,
    isInPlace = false,
  ): ContractCase =>
    define(
      "layerNorm",
      `C=${width}${details}`,
      options,
      ({ rows, vector }) => ({
        x: rows([width], x),
        out: isInPlace ? same("x") : onlyWritten(width),
        weight: vector(width, between(0.5, 1.5)),
        bias: vector(width),
      }),
      (ops, t) => ops.layerNorm(t("out"), t("x"), { weight: t("weight"), bias: t("bias") }, LAYER_NORM_EPS),
      (data) => ({ out: normLimit(data, width, LAYER_NORM_EPS) }),
    );
  const groupNorm = (
    [H, N]: readonly [number, number],
    details: string,
    options: CaseOptions,
    x?: Fill,
    isInPlace = false,
  ): ContractCase =>
    define(
      "groupNorm",
      `H=${H} N=${N}${details}`,
      options,
      ({ rows, vector }) => ({
        x: rows([H, N], x),
        out: isInPlace ? same("x") : onlyWritten(H, N),
        weight: vector(H * N, between(0.5, 1.5)),
        bias: vector(H * N),
      }),
      (ops, t) =>
        ops.groupNorm(t("out"), t("x"), { weight: t("weight"), bias: t("bias") }, H, GROUP_NORM_EPS),
      (data) => ({ out: normLimit(data, N, GROUP_NORM_EPS) }),
    );
  const l2 = (
    [H, N]: readonly [number, number],
    details: string,
    options: CaseOptions,
    x?: Fill,
    isInPlace = false,
  ): ContractCase =>
    define(
      "l2NormHeads",
      `H=${H} N=${N}${details}`,
      options,
      ({ rows, vector }) => ({
        x: rows([H, N], x),
        out: isInPlace ? same("x") : onlyWritten(H, N),
        scale: vector(H * N, between(0.5, 1.5)),
      }),
      (ops, t) => ops.l2NormHeads(t("out"), t("x"), t("scale"), H, L2_EPS),
      () => ({ out: roundings(N + 6, 1) }),
    );
  /** A mean a thousand times the deviation: the mean of squares less the square of the mean would lose everything. */
  const offset: Fill = (random) => 1000 + random();
  return [
    ...WIDTHS.flatMap((width) => RUNS.map((runs) => layerNorm(width, "", { runs }))),
    layerNorm(33, " in place", { runs: RAGGED }, undefined, true),
    layerNorm(33, " logit rows", { runs: RAGGED, rows: "logit", logits: ["last", "none", "all"] }),
    layerNorm(33, " logit rows in place", { runs: [5], rows: "logit", logits: ["last"] }, undefined, true),
    layerNorm(100, " zeros", { runs: [2] }, constant(0)),
    layerNorm(100, " all alike", { runs: [2] }, constant(0.3)),
    layerNorm(100, " large", { runs: [2] }, uniform(1e15)),
    layerNorm(100, " subnormal", { runs: [2] }, uniform(1e-40)),
    layerNorm(100, " mean 1000", { runs: [2] }, offset),
    ...HEADS.flatMap((heads) => RUNS.map((runs) => groupNorm(heads, "", { runs }))),
    groupNorm([3, 5], " in place", { runs: RAGGED }, undefined, true),
    groupNorm([2, 64], " zeros", { runs: [2] }, constant(0)),
    groupNorm([2, 64], " all alike", { runs: [2] }, constant(-0.7)),
    groupNorm([2, 64], " large", { runs: [2] }, uniform(1e15)),
    groupNorm([2, 64], " subnormal", { runs: [2] }, uniform(1e-40)),
    groupNorm([2, 64], " mean 1000", { runs: [2] }, offset),
    ...HEADS.flatMap((heads) => RUNS.map((runs) => l2(heads, "", { runs }))),
    l2([3, 5], " in place", { runs: RAGGED }, undefined, true),
    l2([2, 64], " zeros", { runs: [2] }, constant(0)),
    l2([2, 8], " first head of zeros", { runs: [1] }, (random, i) => (i < 8 ? 0 : random())),
    l2([2, 64], " large", { runs: [2] }, uniform(1e15)),
    l2([2, 64], " subnormal", { runs: [2] }, uniform(1e-40)),
  ];
}

function shifts(): ContractCase[] {
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

/** Values at which element-wise operations are apt to go wrong; products of two of them stay finite. */
const EXTREMES = cycle(0, -0, 1e-40, -1e-40, 1e-20, -1e-20, 1, -1, 1e15, -1e15, 3.5, -2.25e-7);

function elementwise(): ContractCase[] {
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
          return { out: (i) => roundings(2, Math.abs(x[i]!) + Math.abs(a[i]! * b[i % b.length]!)) };
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

function activations(): ContractCase[] {
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

function selections(): ContractCase[] {
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

function matrices(): ContractCase[] {
  const matmul = (
    dtype: WeightDType,
    [nOut, nIn]: readonly [number, number],
    options: CaseOptions,
    details = "",
    x?: Fill,
  ): ContractCase =>
    define(
      "matmul",
      `[${nOut},${nIn}] ${dtype}${details}`,
      options,
      ({ rows, matrix }) => ({
        x: rows([nIn], x),
        w: matrix(dtype, [nOut, nIn]),
        out: onlyWritten(nOut),
      }),
      (ops, t) => ops.matmul(t("out"), t("w"), t("x")),
      (data) => ({ out: matmulLimit(data, nOut, isQuantized(dtype)) }),
    );
  const lora = (
    dtype: WeightDType,
    [nIn, rank, nOut]: readonly [number, number, number],
    runs: readonly number[],
    inner: Activation,
    outer: Activation,
    hasBias: boolean,
  ): ContractCase =>
    define(
      "lora",
      `[${nIn},${rank},${nOut}] ${dtype} ${inner} ${outer}${hasBias ? " bias" : ""}`,
      { runs },
      ({ rows, matrix, vector }) => ({
        x: rows([nIn]),
        down: matrix(dtype, [rank, nIn]),
        up: matrix(dtype, [nOut, rank]),
        ...(hasBias ? { bias: vector(nOut) } : {}),
        out: onlyWritten(nOut),
      }),
      (ops, t) =>
        ops.lora(
          t("out"),
          t("x"),
          { down: t("down"), up: t("up"), bias: hasBias ? t("bias") : null },
          inner,
          outer,
        ),
      (data) => ({ out: loraLimit(data, rank, isQuantized(dtype), inner !== "none") }),
    );
  return WEIGHT_DTYPES.flatMap((dtype) => {
    const block = DTYPES[dtype].blockElements;
    const shapes: readonly (readonly [number, number])[] =
      block === 1
        ? [
            [5, 33],
            [33, 5],
            [100, 100],
            [64, 256],
          ]
        : [
            [5, block],
            [33, 3 * block],
            [64, 512],
          ];
    const rank = block === 1 ? 12 : block;
    const width = block === 1 ? 33 : 2 * block;
    const last = shapes.at(-1)!;
    return [
      ...shapes.flatMap((shape) => RUNS.map((runs) => matmul(dtype, shape, { runs }))),
      matmul(dtype, last, { runs: [17] }),
      matmul(dtype, last, { runs: RAGGED, rows: "logit", logits: ["last", "none", "all"] }, " logit rows"),
      matmul(dtype, last, { runs: RAGGED, rows: "logit", logits: ["last", "last", "last"] }, " last rows"),
      matmul(dtype, last, { runs: [2] }, " zeros", constant(0)),
      matmul(dtype, last, { runs: [2] }, " extremes", EXTREMES),
      matmul(dtype, last, { runs: [1] }, " sparse", (random, i) => (i % 7 === 0 ? random() : 0)),
      ...RUNS.map((runs) => lora(dtype, [width, rank, 33], runs, "tanh", "decay7", true)),
      lora(dtype, [width, rank, 33], RAGGED, "none", "sigmoid", true),
      lora(dtype, [width, rank, 33], RAGGED, "sigmoid", "none", false),
      lora(dtype, [width, rank, 33], RAGGED, "tanh", "none", true),
      lora(dtype, [width, rank, 33], RAGGED, "tanh", "decay6", true),
    ];
  });
}

function bonuses(): ContractCase[] {
  return HEADS.flatMap(([H, N]) =>
    RUNS.map((runs) =>
      define(
        "addBonus",
        `H=${H} N=${N}`,
        { runs },
        ({ rows, vector }) => ({
          y: rows([H, N]),
          r: rows([H, N]),
          k: rows([H, N]),
          v: rows([H, N]),
          rK: vector(H * N),
        }),
        (ops, t) => ops.addBonus(t("y"), t("r"), t("k"), t("v"), t("rK"), H),
        // N products of r, k, rK and v, each at most 1, and y
        () => ({ y: roundings(N + 4, N + 1) }),
      ),
    ),
  );
}

/** The runs that recurrences meet, the long one to let errors grow. */
const RECURRENT_RUNS = [...RUNS, LONG];

function wkv4(): ContractCase[] {
  interface Fills {
    readonly k?: Fill;
    readonly v?: Fill;
    readonly decay?: Fill;
    /** Begins with no text read. */
    readonly isFresh?: boolean;
  }
  const wkv = (width: number, details: string, runs: readonly number[], fills: Fills): ContractCase =>
    define(
      "wkv4",
      `C=${width}${details}`,
      { runs },
      ({ rows, vector, state }) => {
        const begin = (initial: number, fill: Fill): Argument =>
          fills.isFresh === true
            ? { kind: "state", shape: [width], initial, values: null }
            : state([width], fill);
        return {
          k: rows([width], fills.k ?? uniform(4)),
          v: rows([width], fills.v),
          decay: vector(width, fills.decay ?? between(-3, -0.01)),
          first: vector(width),
          aa: begin(0, uniform(1)),
          bb: begin(0, between(0.5, 2)),
          pp: begin(-1e30, uniform(2)),
          y: onlyWritten(width),
        };
      },
      (ops, t) =>
        ops.wkv4(t("y"), { aa: t("aa"), bb: t("bb"), pp: t("pp") }, t("k"), t("v"), t("decay"), t("first")),
      wkv4Limits,
    );
  return [
    ...WIDTHS.flatMap((width) => RECURRENT_RUNS.map((runs) => wkv(width, "", runs, {}))),
    wkv(33, " from the initial state", RAGGED, { isFresh: true }),
    wkv(33, " large exponents", RAGGED, { k: uniform(80), isFresh: true }),
    wkv(33, " fast decay", RAGGED, { decay: between(-90, -20) }),
    wkv(33, " zeros", [3], { k: constant(0), v: constant(0), isFresh: true }),
    wkv(33, " large and subnormal values", [12], { v: EXTREMES }),
  ];
}

function wkv6(): ContractCase[] {
  const wkv = (
    [H, N]: readonly [number, number],
    details: string,
    runs: readonly number[],
    isDecayOfAllRows: boolean,
    decay: Fill = between(0.1, 0.999),
    v?: Fill,
  ): ContractCase =>
    define(
      "wkv6",
      `H=${H} N=${N}${isDecayOfAllRows ? " one decay" : ""}${details}`,
      { runs },
      ({ rows, vector, state }) => ({
        r: rows([H, N]),
        k: rows([H, N], uniform(1 / Math.sqrt(N))),
        v: rows([H, N], v),
        decay: isDecayOfAllRows ? vector(H * N, decay) : rows([H, N], decay),
        first: vector(H * N),
        wkv: state([H, N, N]),
        y: onlyWritten(H, N),
      }),
      (ops, t) => ops.wkv6(t("y"), t("wkv"), t("r"), t("k"), t("v"), t("decay"), t("first")),
      (data) => wkv6Limits(data, N),
    );
  return [
    ...HEADS.flatMap((heads) =>
      RECURRENT_RUNS.flatMap((runs) => [wkv(heads, "", runs, false), wkv(heads, "", runs, true)]),
    ),
    wkv([2, 16], " decay 0 and almost 1", RAGGED, false, cycle(0, 1 - 2 ** -24, 1e-38)),
    wkv([2, 16], " large values", RAGGED, false, undefined, uniform(1e15)),
    wkv([2, 16], " zeros", [3], false, undefined, constant(0)),
  ];
}

function wkv7(): ContractCase[] {
  const wkv = (
    [H, N]: readonly [number, number],
    details: string,
    runs: readonly number[],
    special: { kk?: Fill; v?: Fill } = {},
  ): ContractCase =>
    define(
      "wkv7",
      `H=${H} N=${N}${details}`,
      { runs },
      ({ rows, state, random }) => {
        const nElements = runs.reduce((sum, n) => sum + n, 0) * H * N;
        return {
          r: rows([H, N], uniform(1)),
          w: rows([H, N], between(0.546, 0.999)),
          k: rows([H, N], uniform(1 / Math.sqrt(N))),
          v: rows([H, N], special.v),
          kk:
            special.kk === undefined
              ? { kind: "rows", shape: [H, N], values: unitHeads(nElements, N, random) }
              : rows([H, N], special.kk),
          a: rows([H, N], between(0.05, 0.95)),
          wkv: state([H, N, N]),
          y: onlyWritten(H, N),
        };
      },
      (ops, t) => ops.wkv7(t("y"), t("wkv"), t("r"), t("w"), t("k"), t("v"), t("kk"), t("a")),
      (data) => wkv7Limits(data, N),
    );
  return [
    ...HEADS.flatMap((heads) => RECURRENT_RUNS.map((runs) => wkv(heads, "", runs))),
    wkv([2, 16], " kk of a zero vector", RAGGED, { kk: constant(0) }),
    wkv([2, 16], " large values", RAGGED, { v: uniform(1e15) }),
    wkv([2, 16], " subnormal values", RAGGED, { v: uniform(1e-40) }),
    wkv([2, 16], " zeros", [3], { v: constant(0) }),
  ];
}

/** Every case, in the order of the interface. */
export function contractCases(): ContractCase[] {
  return [
    ...norms(),
    ...shifts(),
    ...elementwise(),
    ...activations(),
    ...selections(),
    ...matrices(),
    ...bonuses(),
    ...wkv4(),
    ...wkv6(),
    ...wkv7(),
  ];
}
