// Files that the Python package converted for itself, in 8 bits or not, are the models they were made from. They are made
// here by the published steps of rwkv 0.7's model.py, in f32 arithmetic.

import { describe, expect, test } from "vitest";
import type { LocalFile } from "../../packages/rwkv/src/core/byte-source.ts";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import { FormatError, UnsupportedError } from "../../packages/rwkv/src/core/errors.ts";
import type {
  Checkpoint,
  CheckpointTensor,
  MetadataValue,
} from "../../packages/rwkv/src/formats/checkpoint.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { readValues } from "../../packages/rwkv/src/model/values.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { expectClose, runTokens } from "./run-model.ts";
import {
  checkpointOf,
  syntheticModel,
  TOKENS,
  type SyntheticVersion,
  type TensorValues,
} from "./synthetic.ts";

const { fround } = Math;

function transposed({ shape, values }: TensorValues): TensorValues {
  const [rows, columns] = shape as [number, number];
  const turned = new Float32Array(values.length);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) turned[j * rows + i] = values[i * columns + j]!;
  return { shape: [columns, rows], values: turned };
}

/** A matrix in 8 bits, and its companions by suffix. */
interface Mm8 {
  readonly quants: Uint8Array;
  readonly companions: Readonly<Record<"_mx" | "_rx" | "_my" | "_ry", Float32Array>>;
}

/** amin, amax, subtraction and division of the package, over the columns and rows of `[rows, columns]`. */
function toMm8({ shape, values }: TensorValues): Mm8 {
  const [nRows, nColumns] = shape as [number, number];
  const w = values.slice();
  const reduce = (byColumn: boolean, pick: (a: number, b: number) => number): Float32Array => {
    const result = new Float32Array(byColumn ? nColumns : nRows).fill(NaN);
    w.forEach((value, i) => {
      const at = byColumn ? i % nColumns : Math.floor(i / nColumns);
      result[at] = Number.isNaN(result[at]) ? value : pick(result[at]!, value);
    });
    return result;
  };
  const apply = (byColumn: boolean, by: Float32Array, change: (a: number, b: number) => number): void => {
    w.forEach((value, i) => {
      w[i] = change(value, by[byColumn ? i % nColumns : Math.floor(i / nColumns)]!);
    });
  };
  const rowsFirst = nRows > nColumns;
  const take = (byColumn: boolean): Float32Array => {
    const least = reduce(byColumn, Math.min);
    apply(byColumn, least, (a, b) => a - b);
    return least;
  };
  const first = take(!rowsFirst);
  const second = take(rowsFirst);
  const rx = reduce(true, Math.max);
  apply(true, rx, (a, b) => a / b);
  const ry = reduce(false, Math.max);
  apply(false, ry, (a, b) => a / b);
  const quants = Uint8Array.from(w, (value) => Math.min(255, Math.max(0, Math.floor(fround(value * 256)))));
  const companions = {
    _mx: rowsFirst ? second : first,
    _my: rowsFirst ? first : second,
    _rx: rx.map((r) => r / 16),
    _ry: ry.map((r) => r / 16),
  };
  return { quants, companions };
}

/** `(w + 0.5) * ry * rx + my + mx` of the package, as `[columns, rows]`. */
function fromMm8({ quants, companions: { _mx, _rx, _my, _ry } }: Mm8): Float32Array {
  const nColumns = _mx.length;
  const nRows = _my.length;
  const values = new Float32Array(quants.length);
  quants.forEach((q, i) => {
    const [row, column] = [Math.floor(i / nColumns), i % nColumns];
    const scaled = fround(fround((q + 0.5) * _ry[row]!) * _rx[column]!);
    values[column * nRows + row] = fround(scaled + _my[row]!) + _mx[column]!;
  });
  return values;
}

interface Conversion {
  readonly rescale?: number;
  readonly is8Bit?: boolean;
  readonly metadata?: ReadonlyMap<string, MetadataValue>;
  readonly edit?: (tensors: Map<string, CheckpointTensor>) => void;
}

const LN0_EPS = 1e-5;

/** What `convert_and_save_and_exit` makes of a model. */
function convert(
  version: SyntheticVersion,
  { rescale = 0, is8Bit = false, metadata, edit }: Conversion = {},
) {
  const model = syntheticModel(version);
  const converted = new Map<string, TensorValues>();
  const mm8 = new Map<string, Mm8>();
  for (const [name, tensor] of model) {
    const { shape, values } = tensor;
    if (name.startsWith("blocks.0.ln0")) continue;
    const layer = Number(/^blocks\.(\d+)\./.exec(name)?.[1] ?? 0);
    if (name === "emb.weight") {
      converted.set(name, { shape, values: normed(values, model) });
    } else if (/(\.(key|value|receptance|gate|output)|^head)\.weight$/.test(name)) {
      const isResidual = rescale > 0 && /(att\.output|ffn\.value)\.weight$/.test(name);
      const divisor = isResidual ? 2 ** Math.floor(layer / rescale) : 1;
      const turned = transposed({ shape, values: values.map((value) => value / divisor) });
      if (is8Bit) mm8.set(name, toMm8(turned));
      converted.set(name, turned);
    } else if (name.endsWith("time_decay")) {
      const minusExp = (w: number): number => -fround(Math.exp(w));
      const apply = version === "4" ? minusExp : (w: number) => fround(Math.exp(minusExp(w)));
      const heads =
        version === "6" ? [2, values.length / 2, 1] : [...shape, ...(version === "5.2" ? [1] : [1, 1])];
      converted.set(name, {
        shape: version === "4" ? shape : heads,
        values: version === "6" ? values : values.map(apply),
      });
    } else if (/time_(first|faaaa)$/.test(name)) {
      const isLogarithm = version === "5.0";
      converted.set(name.replace("faaaa", "first"), {
        shape: version === "4" ? shape : [...shape, 1],
        values: isLogarithm ? values.map(Math.exp) : values,
      });
    } else {
      converted.set(name, { shape: shape.filter((n) => n !== 1), values });
    }
  }
  const file = checkpointOf(converted, {
    metadata:
      metadata ??
      new Map<string, MetadataValue>([
        ["_strategy", "cpu"],
        ["_version", "0.7"],
        ["_rescale_layer", rescale],
      ]),
  });
  const tensors = new Map(file.tensors);
  for (const [name, { quants, companions }] of mm8) {
    tensors.set(name, bytesTensor(name, "u8", converted.get(name)!.shape, quants));
    for (const [suffix, values] of Object.entries(companions)) {
      const shape = suffix.endsWith("y") ? [values.length, 1] : [values.length];
      tensors.set(name + suffix, bytesTensor(name + suffix, "f32", shape, new Uint8Array(values.buffer)));
    }
  }
  edit?.(tensors);
  return { model, mm8, checkpoint: { ...file, tensors } satisfies Checkpoint };
}

function bytesTensor(
  name: string,
  dtype: "u8" | "f32",
  shape: readonly number[],
  bytes: Uint8Array,
): CheckpointTensor {
  const read = (target: Uint8Array): Promise<void> => {
    target.set(bytes);
    return Promise.resolve();
  };
  const place = { file: {} as LocalFile, offset: 0 };
  return { name, dtype, shape, byteLength: bytes.byteLength, read, readPart, place };
}

/** Of the stored bytes, which no weight should be taken from. */
const readPart = (): Promise<void> => Promise.reject(new Error("the stored bytes were read"));

/** Rows after ln0. */
function normed(rows: Float32Array, model: ReadonlyMap<string, TensorValues>): Float32Array {
  const weight = model.get("blocks.0.ln0.weight")!.values;
  const bias = model.get("blocks.0.ln0.bias")!.values;
  const width = weight.length;
  const result = new Float32Array(rows.length);
  for (let o = 0; o < rows.length; o += width) {
    const row = rows.subarray(o, o + width);
    const mean = row.reduce((sum, x) => sum + x, 0) / width;
    const variance = row.reduce((sum, x) => sum + (x - mean) ** 2, 0) / width;
    row.forEach((x, i) => {
      result[o + i] = ((x - mean) / Math.sqrt(variance + LN0_EPS)) * weight[i]! + bias[i]!;
    });
  }
  return result;
}

async function logitsOf(checkpoint: Checkpoint): Promise<Float32Array> {
  const loaded = await loadProgram(createReferenceBackend(), canonicalWeights(checkpoint), { maxRows: 8 });
  return (await runTokens(loaded, TOKENS, 8)).logits;
}

const VERSIONS = ["4", "5.0", "5.1", "5.2", "6"] as const;

describe.each(VERSIONS)("RWKV %s", (version) => {
  test.each([0, 1])(
    "converted, residual matrices halved every %s layers, gives the original's logits",
    async (rescale) => {
      const { model, checkpoint } = convert(version, { rescale });
      expect(canonicalWeights(checkpoint).config).toMatchObject({ version, hasLn0: false });
      expectClose("logits", await logitsOf(checkpoint), await logitsOf(checkpointOf(model)), 2e-5);
    },
  );

  test.each([0, 1])(
    "in 8 bits, halved every %s layers, has the matrices of the package's formula",
    async (rescale) => {
      const { mm8, checkpoint } = convert(version, { rescale, is8Bit: true });
      const { tensors } = canonicalWeights(checkpoint);
      expect(mm8.size).toBeGreaterThan(12);
      for (const [name, matrix] of mm8) {
        const weight = tensors.get(name)!;
        expect(weight).toMatchObject({ dtype: "f32", place: undefined, readPart: undefined });
        const isHalved = rescale === 1 && /blocks\.1\.(att\.output|ffn\.value)/.test(name);
        expect(await readValues(weight)).toEqual(
          fromMm8(matrix).map((value) => (isHalved ? 2 * value : value)),
        );
      }
    },
  );

  test("in 8 bits, is within half a step of the original", async () => {
    const { model, mm8, checkpoint } = convert(version, { is8Bit: true });
    const { tensors } = canonicalWeights(checkpoint);
    for (const [name, { companions }] of mm8) {
      const got = await readValues(tensors.get(name)!);
      const step = Math.max(...companions._rx) * Math.max(...companions._ry);
      expectClose(name, got, model.get(name)!.values, 0.5 * step + 1e-6);
    }
  });
});

describe("a converted file that cannot be read", () => {
  const open = (conversion: Conversion) => () => canonicalWeights(convert("4", conversion).checkpoint);

  test("because of its version, or because it does not say what was divided", () => {
    const other = new Map<string, MetadataValue>([
      ["_version", "0.6"],
      ["_rescale_layer", 0],
    ]);
    expect(open({ metadata: other })).toThrow(UnsupportedError);
    expect(open({ metadata: other })).toThrow(/version "0.6"/);
    expect(open({ metadata: new Map([["_strategy", "cpu fp32"]]) })).toThrow(UnsupportedError);
    expect(
      open({
        metadata: new Map([
          ["_version", "0.7"],
          ["_rescale_layer", "x"],
        ]),
      }),
    ).toThrow(/_rescale_layer/);
    expect(open({ is8Bit: true, metadata: new Map() })).toThrow(/_rescale_layer/);
    expect(open({ is8Bit: true, metadata: new Map([["_rescale_layer", "6"]]) })).not.toThrow();
  });

  test("because a companion is missing or of another shape", () => {
    const name = "blocks.1.ffn.key.weight";
    const without = open({ is8Bit: true, edit: (tensors) => tensors.delete(`${name}_ry`) });
    expect(without).toThrow(FormatError);
    expect(without).toThrow(`"${name}_ry" is missing`);
    const put = (tensor: CheckpointTensor) =>
      open({ is8Bit: true, edit: (tensors) => tensors.set(tensor.name, tensor) });
    expect(put(bytesTensor(`${name}_mx`, "f32", [3], new Uint8Array(12)))).toThrow(/should hold 32 numbers/);
    expect(put(bytesTensor(`${name}_mx`, "u8", [32], new Uint8Array(32)))).toThrow(/is u8/);
    expect(put(bytesTensor(name, "u8", [2, 2, 128], new Uint8Array(512)))).toThrow(/is no matrix/);
  });

  test("because halving would leave nothing", () => {
    const edit = (tensors: Map<string, CheckpointTensor>): void => {
      const tensor = tensors.get("blocks.1.att.output.weight")!;
      tensors.set("blocks.99.att.output.weight", { ...tensor, name: "blocks.99.att.output.weight" });
    };
    expect(open({ rescale: 1, edit })).toThrow(/divided by two 99 times/);
  });
});
