// A small RWKV-7 model of seeded random weights over 256 byte ids, as safetensors: what tests run on in a clone that
// has no other model. Its text is noise; what counts is that it behaves like any model.

const LAYERS = 2;
const WIDTH = 64;
const HEADS = 2;
const HIDDEN = 96;
const VOCAB = 256;
const RANK = 8;

/** Name and shape of every tensor, in the official scheme. */
function tensorShapes(layers: number): [string, number[]][] {
  const vector = [1, 1, WIDTH];
  const shapes: [string, number[]][] = [
    ["emb.weight", [VOCAB, WIDTH]],
    ["blocks.0.ln0.weight", [WIDTH]],
    ["blocks.0.ln0.bias", [WIDTH]],
  ];
  for (let i = 0; i < layers; i++) {
    const block = `blocks.${i}.`;
    for (const norm of ["ln1", "ln2", "att.ln_x"]) {
      shapes.push([`${block}${norm}.weight`, [WIDTH]], [`${block}${norm}.bias`, [WIDTH]]);
    }
    for (const name of ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "k_k", "k_a"]) {
      shapes.push([`${block}att.${name}`, vector]);
    }
    for (const map of i === 0 ? ["w", "a", "g"] : ["w", "a", "g", "v"]) {
      shapes.push([`${block}att.${map}1`, [WIDTH, RANK]], [`${block}att.${map}2`, [RANK, WIDTH]]);
    }
    if (i > 0) shapes.push([`${block}att.v0`, vector]);
    shapes.push([`${block}att.r_k`, [HEADS, WIDTH / HEADS]]);
    for (const name of ["receptance", "key", "value", "output"]) {
      shapes.push([`${block}att.${name}.weight`, [WIDTH, WIDTH]]);
    }
    shapes.push([`${block}ffn.x_k`, vector]);
    shapes.push([`${block}ffn.key.weight`, [HIDDEN, WIDTH]], [`${block}ffn.value.weight`, [WIDTH, HIDDEN]]);
  }
  shapes.push(["ln_out.weight", [WIDTH]], ["ln_out.bias", [WIDTH]], ["head.weight", [VOCAB, WIDTH]]);
  return shapes;
}

/** Numbers in [-1, 1): mulberry32. */
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

/** Scales that keep activations of a random model in the range of a trained one. */
function valueOf(name: string, t: number): number {
  if (/ln.*weight$|k_k$|k_a$/.test(name)) return 1 + 0.2 * t;
  if (/\.x_[rwkvag]$/.test(name)) return 0.5 + 0.5 * t;
  if (name.endsWith(".w0")) return 2 * t - 2;
  return name.endsWith("head.weight") ? 0.6 * t : 0.3 * t;
}

export interface TinyModelOptions {
  readonly seed?: number;
  readonly layers?: number;
  /** Tensors to leave out or add, for damaged models. */
  readonly edit?: (tensors: Map<string, { shape: number[]; values: Float32Array }>) => void;
}

/** The bytes of a `.safetensors` file in f32. */
export function tinyModel({ seed = 1, layers = LAYERS, edit }: TinyModelOptions = {}): Uint8Array {
  const random = randomNumbers(seed);
  const tensors = new Map<string, { shape: number[]; values: Float32Array }>();
  for (const [name, shape] of tensorShapes(layers)) {
    const values = new Float32Array(shape.reduce((product, dimension) => product * dimension, 1));
    for (let i = 0; i < values.length; i++) values[i] = valueOf(name, random());
    tensors.set(name, { shape, values });
  }
  edit?.(tensors);
  const header: Record<string, object> = {};
  let offset = 0;
  for (const [name, { shape, values }] of tensors) {
    header[name] = { dtype: "F32", shape, data_offsets: [offset, offset + values.byteLength] };
    offset += values.byteLength;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + offset);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  let position = 8 + text.length;
  for (const { values } of tensors.values()) {
    for (const value of values) {
      view.setFloat32(position, value, true);
      position += 4;
    }
  }
  return bytes;
}
