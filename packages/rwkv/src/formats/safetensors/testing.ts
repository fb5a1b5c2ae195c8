// What tests share: safetensors files laid out by hand, so that the reader is not tested by what the writer believes.

import type { ByteSink } from "../../core/byte-sink.ts";
import { byteLengthOf, type DType } from "../../core/dtype.ts";
import type { CheckpointTensor } from "../checkpoint.ts";

/** A file with this header, as text or as a value to be turned into JSON, and `data` behind it. */
export function safetensorsBytes(header: unknown, data: Uint8Array | number): Uint8Array {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const dataBytes = typeof data === "number" ? counting(data) : data;
  const bytes = new Uint8Array(8 + json.length + dataBytes.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(dataBytes, 8 + json.length);
  return bytes;
}

/** 0, 1, 2, ... modulo 251, so that a shift by a power of two shows. */
export function counting(byteLength: number): Uint8Array {
  return Uint8Array.from({ length: byteLength }, (_, i) => i % 251);
}

/** A tensor in memory, filled with `counting`. */
export function tensorInMemory(name: string, dtype: DType, shape: readonly number[]): CheckpointTensor {
  const bytes = counting(byteLengthOf(dtype, shape));
  return {
    name,
    dtype,
    shape,
    byteLength: bytes.byteLength,
    read: (target) => {
      target.set(bytes);
      return Promise.resolve();
    },
  };
}

/** A sink that keeps everything, and how long each piece was. */
export class MemorySink implements ByteSink {
  readonly pieceLengths: number[] = [];
  readonly #pieces: Uint8Array[] = [];

  write(bytes: Uint8Array): Promise<void> {
    this.pieceLengths.push(bytes.byteLength);
    this.#pieces.push(bytes.slice());
    return Promise.resolve();
  }

  bytes(): Uint8Array {
    const whole = new Uint8Array(this.pieceLengths.reduce((sum, length) => sum + length, 0));
    let at = 0;
    for (const piece of this.#pieces) {
      whole.set(piece, at);
      at += piece.byteLength;
    }
    return whole;
  }
}

/** The bytes of a tensor. */
export async function readTensor(tensor: CheckpointTensor | undefined): Promise<Uint8Array> {
  if (tensor === undefined) throw new Error("the tensor is missing");
  const bytes = new Uint8Array(tensor.byteLength);
  await tensor.read(bytes);
  return bytes;
}
