// What tells one model from another, whatever file it came from: conversions of a model to another format or matrix
// type have the same fingerprint, so that they share saved states.

import type { Adapter } from "./adapter/read.ts";
import type { CanonicalWeights } from "./weights/canonical.ts";
import { readValues } from "./values.ts";

/**
 * SHA-256 over the config (as JSON) and over weights and biases of every ln1, every ln2 and ln_out, decoded to f32.
 * Norms are stored in at least 16 bits by every format, and training makes them unlike any other model's.
 * @returns 64 lower-case hexadecimal digits
 */
export async function fingerprint(weights: CanonicalWeights, signal?: AbortSignal): Promise<string> {
  const { version, nLayer, nEmbd, nAtt, nFfn, nVocab, heads, headSize } = weights.config;
  // 5.1 and its expansion to one decay per channel are the same model: only the generation counts.
  const generation = Number.parseInt(version, 10);
  const config = JSON.stringify({ generation, nLayer, nEmbd, nAtt, nFfn, nVocab, heads, headSize });
  const parts: Uint8Array[] = [new TextEncoder().encode(config)];
  const norms = Array.from({ length: nLayer }, (_, i) => [`blocks.${i}.ln1`, `blocks.${i}.ln2`]).flat();
  for (const name of [...norms, "ln_out"]) {
    for (const part of ["weight", "bias"]) {
      const values = await readValues(weights.tensors.get(`${name}.${part}`)!, signal);
      parts.push(new Uint8Array(values.buffer));
    }
  }
  const message = new Uint8Array(parts.reduce((total, { byteLength }) => total + byteLength, 0));
  let offset = 0;
  for (const part of parts) {
    message.set(part, offset);
    offset += part.byteLength;
  }
  return sha256(message);
}

/**
 * The fingerprint of a model with an adapter merged into it: another than that of its base, so that they share no states,
 * and the same for every file format and numeric type that holds the same values.
 * @param merged - `fingerprint` of the merged weights, which knows of the norms alone
 * @returns SHA-256 over that, alpha, and the values of the adapter in f32
 */
export async function adaptedFingerprint(
  merged: string,
  adapter: Adapter,
  alpha: number,
  signal?: AbortSignal,
): Promise<string> {
  const parts: string[][] = [];
  for (const [name, pair] of adapter.pairs) {
    const [a, b] = [await pair.readA(signal), await pair.readB(signal)];
    parts.push([name, await sha256(new Uint8Array(a.buffer)), await sha256(new Uint8Array(b.buffer))]);
  }
  for (const [name, weight] of adapter.replaced) {
    const values = await readValues(weight, signal);
    parts.push([name, await sha256(new Uint8Array(values.buffer))]);
  }
  parts.sort(([a], [b]) => (a! < b! ? -1 : 1));
  return sha256(new TextEncoder().encode(JSON.stringify([merged, alpha, parts])));
}

async function sha256(bytes: Uint8Array): Promise<string> {
  // A typed array over a SharedArrayBuffer is refused by WebCrypto; these never are.
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
