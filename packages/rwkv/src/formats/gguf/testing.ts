// What the tests of this folder share: GGUF files laid out by hand, field by field, so that the reader is not tested
// by what the writer believes; and tensors and sinks in memory for the writer.

import { encodeFromF32, type EncodedDType } from "../../core/decode.ts";
import { byteLengthOf } from "../../core/dtype.ts";
import type { CheckpointTensor } from "../checkpoint.ts";
import { writeGguf, type GgufValue } from "./write.ts";

/** An entry of the tensor table as it stands in the file: dimensions fastest first, offset from the data's start. */
export interface RawEntry {
  readonly name: string;
  readonly dimensions: readonly (number | bigint)[];
  readonly type: number;
  readonly offset: number | bigint;
}

/** A file under construction; every method appends. */
export class GgufBytes {
  readonly #pieces: Uint8Array[] = [];
  #byteLength = 0;

  bytes(): Uint8Array {
    return concatenate(this.#pieces);
  }

  magic(version: number): this {
    return this.raw(0x47, 0x47, 0x55, 0x46).u32(version);
  }

  pair(key: string, type: number, value: (bytes: this) => unknown): this {
    this.string(key).u32(type);
    value(this);
    return this;
  }

  entry({ name, dimensions, type, offset }: RawEntry): this {
    this.string(name).u32(dimensions.length);
    for (const dimension of dimensions) this.u64(dimension);
    return this.u32(type).u64(offset);
  }

  string(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.u64(bytes.length).#append(bytes);
  }

  raw(...bytes: readonly number[]): this {
    return this.#append(Uint8Array.from(bytes));
  }

  zeros(byteLength: number): this {
    return this.#append(new Uint8Array(byteLength));
  }

  pad(alignment: number): this {
    return this.zeros((alignment - (this.#byteLength % alignment)) % alignment);
  }

  u32(value: number): this {
    return this.#append(new Uint8Array(Uint32Array.of(value).buffer));
  }

  u64(value: number | bigint): this {
    return this.#append(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  f32(...values: readonly number[]): this {
    return this.#append(new Uint8Array(Float32Array.from(values).buffer));
  }

  f64(value: number): this {
    return this.#append(new Uint8Array(Float64Array.of(value).buffer));
  }

  #append(bytes: Uint8Array): this {
    this.#pieces.push(bytes);
    this.#byteLength += bytes.byteLength;
    return this;
  }
}

function concatenate(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.byteLength;
  }
  return whole;
}

/** A tensor of the given values. */
export function tensorOf(
  name: string,
  dtype: EncodedDType,
  shape: readonly number[],
  values: readonly number[],
): CheckpointTensor {
  const byteLength = byteLengthOf(dtype, shape);
  return {
    name,
    dtype,
    shape,
    byteLength,
    read(target) {
      encodeFromF32(dtype, Float32Array.from(values), target);
      return Promise.resolve();
    },
  };
}

/** The file that the writer makes. */
export async function writeToBytes(
  tensors: readonly CheckpointTensor[],
  metadata: ReadonlyMap<string, GgufValue> = new Map(),
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  const write = (bytes: Uint8Array): Promise<void> => {
    pieces.push(bytes.slice());
    return Promise.resolve();
  };
  await writeGguf({ write }, tensors, metadata);
  return concatenate(pieces);
}
