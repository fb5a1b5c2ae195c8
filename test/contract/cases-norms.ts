// Cases of the norms: layerNorm, groupNorm, l2NormHeads.

import type { ContractCase } from "./case.ts";
import { between, constant, uniform, type Fill } from "./data.ts";
import { define, HEADS, onlyWritten, RAGGED, RUNS, same, WIDTHS, type CaseOptions } from "./define.ts";
import { normLimit, roundings } from "./limits.ts";

const LAYER_NORM_EPS = 1e-5;
const GROUP_NORM_EPS = 64e-5;
const L2_EPS = 1e-12;

export function norms(): ContractCase[] {
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
