// Cases of the recurrences: wkv4, wkv6, wkv7.

import type { Argument, ContractCase } from "./case.ts";
import { between, constant, cycle, uniform, unitHeads, type Fill } from "./data.ts";
import { define, EXTREMES, HEADS, onlyWritten, RAGGED, RUNS, WIDTHS } from "./define.ts";
import { wkv4Limits, wkv6Limits, wkv7Limits } from "./limits.ts";

/** The runs that recurrences meet, the long one to let errors grow. */
const RECURRENT_RUNS = [...RUNS, [64]];

export function wkv4(): ContractCase[] {
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

export function wkv6(): ContractCase[] {
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

export function wkv7(): ContractCase[] {
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
