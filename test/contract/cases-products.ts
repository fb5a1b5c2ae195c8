// Cases of the operations that sum products: matmul and lora in every weight type, addBonus.

import { DTYPES, isDType, isQuantized, isWeightDType } from "../../packages/rwkv/src/core/dtype.ts";
import { hasLayouts } from "../../packages/rwkv/src/core/layout.ts";
import type { Activation } from "../../packages/rwkv/src/ops/ops.ts";
import type { ContractCase } from "./case.ts";
import { constant, uniform, type DeviceDType, type Fill } from "./data.ts";
import { define, EXTREMES, HEADS, onlyWritten, RAGGED, RUNS, type CaseOptions } from "./define.ts";
import { loraLimit, matmulLimit, roundings } from "./limits.ts";

const DEVICE_DTYPES: readonly DeviceDType[] = Object.keys(DTYPES)
  .filter(isDType)
  .filter(isWeightDType)
  .filter((dtype) => dtype !== "f64");

/** Rows that are few enough to skip zeros, and so many that the matrix is read densely. */
const SPARSE_RUNS = [[1], [2], [7], [40], RAGGED];

export function matrices(): ContractCase[] {
  const matmul = (
    dtype: DeviceDType,
    [nOut, nIn]: readonly [number, number],
    options: CaseOptions,
    details = "",
    x?: Fill,
    hasSparseInputs = false,
  ): ContractCase =>
    define(
      "matmul",
      `[${nOut},${nIn}] ${dtype}${details}`,
      options,
      ({ rows, matrix }) => ({
        x: rows([nIn], x),
        w: matrix(dtype, [nOut, nIn], hasSparseInputs),
        out: onlyWritten(nOut),
      }),
      (ops, t) => ops.matmul(t("out"), t("w"), t("x")),
      (data) => ({ out: matmulLimit(data, nOut, isQuantized(dtype)) }),
    );
  const lora = (
    dtype: DeviceDType,
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
      (data) => ({ out: loraLimit(data, rank, isQuantized(dtype), inner, outer) }),
    );
  return DEVICE_DTYPES.flatMap((dtype) => {
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
    const sparse = (shape: readonly [number, number], runs: readonly number[], x: Fill, what: string) =>
      matmul(dtype, shape, { runs }, ` sparse inputs, ${what}`, x, true);
    /** Two of three inputs zero, in runs of various lengths, negative ones too. */
    const gaps: Fill = (random) => (random() < 1 / 3 ? 0 : random());
    return [
      ...(hasLayouts(dtype)
        ? [
            ...shapes.flatMap((shape) => SPARSE_RUNS.map((runs) => sparse(shape, runs, gaps, "gaps"))),
            sparse([130, last[1]], [64], gaps, "gaps"),
            sparse([130, last[1]], [2], uniform(1), "no zeros"),
            ...SPARSE_RUNS.map((runs) => sparse(last, runs, constant(0), "zeros")),
            ...SPARSE_RUNS.map((runs) => sparse(last, runs, EXTREMES, "extremes")),
          ]
        : []),
      ...shapes.flatMap((shape) => RUNS.map((runs) => matmul(dtype, shape, { runs }))),
      matmul(dtype, last, { runs: [17] }),
      matmul(dtype, [20, 768], { runs: [67] }, " more inputs and rows than kernels take up at once"),
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

export function bonuses(): ContractCase[] {
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
