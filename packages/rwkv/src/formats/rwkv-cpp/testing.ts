// What tests share: rwkv.cpp files laid out by hand, field by field.

export interface Record {
  readonly name: string | Uint8Array;
  /** The number in the file. */
  readonly type: number;
  /** As in the file: fastest first. */
  readonly dims: readonly number[];
  readonly data: Uint8Array | number;
  /** Where the fields of the record are to lie about what follows. */
  readonly nDims?: number;
  readonly keyByteLength?: number;
}

/** Version, n_vocab, n_embed, n_layer, data type. */
export type Header = readonly [number, number, number, number, number];

export function rwkvCppBytes(header: Header, records: readonly Record[]): Uint8Array {
  const bytes: number[] = [0x66, 0x6d, 0x67, 0x67];
  const i32 = (...values: readonly number[]) => bytes.push(...new Uint8Array(Int32Array.from(values).buffer));
  i32(...header);
  for (const { name, type, dims, data, nDims, keyByteLength } of records) {
    const key = typeof name === "string" ? new TextEncoder().encode(name) : name;
    i32(nDims ?? dims.length, keyByteLength ?? key.length, type, ...dims);
    bytes.push(...key);
    bytes.push(...(typeof data === "number" ? Uint8Array.from({ length: data }, (_, i) => i % 251) : data));
  }
  return Uint8Array.from(bytes);
}
