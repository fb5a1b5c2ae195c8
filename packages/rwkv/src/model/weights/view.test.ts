import { describe, expect, test } from "vitest";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { CheckpointTensor } from "../../formats/checkpoint.ts";
import { byteLengthOf, type DType } from "../../core/dtype.ts";
import {
  matrixShape,
  reshaped,
  rowParts,
  transposed,
  viewOf,
  withoutUnits,
  type TensorView,
} from "./view.ts";

interface Counted extends CheckpointTensor {
  nReads: number;
}

/** A tensor whose bytes are 0, 1, 2, ... */
function counted(dtype: DType, shape: readonly number[]): Counted {
  const byteLength = byteLengthOf(dtype, shape);
  return {
    name: "t",
    dtype,
    shape,
    byteLength,
    nReads: 0,
    read(target, signal) {
      this.nReads++;
      if (signal?.aborted === true) return Promise.reject(signal.reason as Error);
      for (let i = 0; i < byteLength; i++) target[i] = i;
      return Promise.resolve();
    },
  };
}

async function bytesOf(view: TensorView): Promise<number[]> {
  const bytes = new Uint8Array(byteLengthOf(view.dtype, view.shape));
  await view.read(bytes);
  return [...bytes];
}

describe("rowParts", () => {
  test("cuts quantised rows at exact bytes and reads the whole once", async () => {
    const tensor = counted("q8_0", [6, 32]);
    const parts = rowParts(viewOf(tensor), 3);
    expect(parts.map(({ shape }) => shape)).toEqual([
      [2, 32],
      [2, 32],
      [2, 32],
    ]);
    const bytes = (await Promise.all(parts.map(bytesOf))).flat();
    expect(bytes).toEqual(Array.from({ length: 6 * 34 }, (_, i) => i));
    expect(tensor.nReads).toBe(1);
  });

  test("drops the first dimension where each part is one row, and can be read again", async () => {
    const tensor = counted("i8", [2, 1, 3]);
    const [first, second] = rowParts(viewOf(tensor), 2);
    expect(second!.shape).toEqual([1, 3]);
    expect(second!.fileName).toBe("t[1]");
    for (let round = 0; round < 2; round++) {
      expect(await bytesOf(second!)).toEqual([3, 4, 5]);
      expect(await bytesOf(first!)).toEqual([0, 1, 2]);
    }
    expect(tensor.nReads).toBe(2);
  });

  test("a read that failed does not stay behind", async () => {
    const [first] = rowParts(viewOf(counted("i8", [2, 3])), 2);
    const reason = new Error("stopped");
    await expect(first!.read(new Uint8Array(3), AbortSignal.abort(reason))).rejects.toBe(reason);
    expect(await bytesOf(first!)).toEqual([0, 1, 2]);
  });

  test("refuses a first dimension that is no multiple", () => {
    expect(() => rowParts(viewOf(counted("i8", [5, 3])), 2)).toThrow(FormatError);
    expect(() => rowParts(viewOf(counted("i8", [6])), 2)).toThrow(/"t" should hold 2 equal parts.*\[6\]/);
  });
});

describe("transposed", () => {
  test("exchanges the last two dimensions of each matrix, whole elements at a time", async () => {
    const view = transposed(viewOf(counted("i16", [2, 2, 3]), "in-out"));
    expect(view.shape).toEqual([2, 3, 2]);
    expect(view.loraOrder).toBe("out-in");
    const elements = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11];
    expect(await bytesOf(view)).toEqual(elements.flatMap((e) => [2 * e, 2 * e + 1]));
  });

  test("twice is the tensor itself", async () => {
    const view = viewOf(counted("f32", [3, 5]), "out-in");
    const twice = transposed(transposed(view));
    expect(twice.loraOrder).toBe("out-in");
    expect(await bytesOf(twice)).toEqual(await bytesOf(view));
  });

  test("quantised tensors are refused by name", () => {
    expect(() => transposed(viewOf(counted("q4_0", [32, 32])))).toThrow(UnsupportedError);
    expect(() => transposed(viewOf(counted("q4_0", [32, 32])))).toThrow(/"t" is quantised \(q4_0\)/);
  });
});

test("parts can be read of a view in the file's own order, and of no other", async () => {
  const readPart = (offset: number, target: Uint8Array): Promise<void> => {
    for (let i = 0; i < target.length; i++) target[i] = offset + i;
    return Promise.resolve();
  };
  const view = viewOf({ ...counted("f16", [4, 6]), readPart });
  const part = new Uint8Array(5);
  await reshaped(view, [6, 4]).readPart!(7, part);
  expect([...part]).toEqual((await bytesOf(view)).slice(7, 12));
  expect(transposed(view).readPart).toBeUndefined();
  expect(rowParts(view, 2)[1]!.readPart).toBeUndefined();
});

test("unit dimensions are dropped anywhere, and before a matrix", () => {
  expect(withoutUnits([1, 1, 16])).toEqual([16]);
  expect(matrixShape([1, 4, 3])).toEqual([4, 3]);
  expect(matrixShape([2, 4, 3])).toBeNull();
  expect(matrixShape([4])).toBeNull();
});
