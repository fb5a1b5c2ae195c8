// Stop strings in a stream of bytes: an Aho-Corasick automaton over all of them at once, so that the cost per byte does
// not depend on their number. It holds back exactly what may still become a stop string, and hands out the rest.
// Aho and Corasick, "Efficient string matching", CACM 18 (1975).

import { UsageError } from "../core/errors.ts";
import { buildTrie, childOf, type ByteTrie } from "./trie.ts";

export interface StopResult {
  /** Bytes that surely belong to no stop string, in order. May share memory with the argument: use them at once. */
  readonly emit: Uint8Array;
  /** Index of the pattern that was found; null while none was. */
  readonly matched: number | null;
}

/** Finds the first of several byte strings in a stream. */
export interface StopMatcher {
  /**
   * Takes the next bytes. The match that ends first wins, among those that end together the longest. Once a pattern
   * was found the rest of the stream is ignored, and every further call reports the same pattern.
   */
  push(bytes: Uint8Array): StopResult;
  /** The bytes held back, when the stream ends; empty after a match. Afterwards another stream may begin. */
  flush(): Uint8Array;
}

const NO_BYTES = new Uint8Array(0);

/**
 * @param patterns - stop strings as UTF-8 or any other bytes; of equal ones the first is reported
 * @throws UsageError if a pattern is empty: it would match everywhere
 */
export function createStopMatcher(patterns: readonly Uint8Array[]): StopMatcher {
  return new AhoCorasick(patterns);
}

class AhoCorasick implements StopMatcher {
  readonly #patterns: readonly Uint8Array[];
  readonly #trie: ByteTrie;
  /** `[nNodes]`: the node of the longest proper suffix of the node's path that is a path itself. */
  readonly #suffix: Int32Array;
  /** `[nNodes]`: the longest pattern that ends with the node's path, or -1. */
  readonly #ending: Int32Array;
  /** `[nNodes]`: bytes of the node's path. */
  readonly #depth: Int32Array;
  /** `[nNodes]`: a pattern that begins with the node's path; the bytes held back are read from it. */
  readonly #owner: Int32Array;
  /** The longest suffix of the stream that begins a pattern: what is held back. */
  #node = 0;
  #matched: number | null = null;

  constructor(patterns: readonly Uint8Array[]) {
    this.#patterns = patterns.map((pattern) => pattern.slice());
    this.#trie = buildTrie("stop strings", distinctKeys(this.#patterns));
    const { nNodes, firstChild, label, value } = this.#trie;
    this.#suffix = new Int32Array(nNodes);
    this.#ending = value.slice();
    this.#depth = new Int32Array(nNodes);
    this.#owner = value.slice();
    // Nodes are numbered breadth first, so a suffix, being shorter, is complete before the node itself.
    for (let node = 0; node < nNodes; node++) {
      if (this.#ending[node]! < 0) this.#ending[node] = this.#ending[this.#suffix[node]!]!;
      for (let child = firstChild[node]!; child < firstChild[node + 1]!; child++) {
        this.#depth[child] = this.#depth[node]! + 1;
        if (node > 0) this.#suffix[child] = this.#step(this.#suffix[node]!, label[child]!);
      }
    }
    for (let node = nNodes - 1; node >= 0; node--) {
      if (this.#owner[node]! < 0 && firstChild[node]! < firstChild[node + 1]!) {
        this.#owner[node] = this.#owner[firstChild[node]!]!;
      }
    }
  }

  push(bytes: Uint8Array): StopResult {
    if (this.#matched !== null) return { emit: NO_BYTES, matched: this.#matched };
    const held = this.#held();
    let node = this.#node;
    for (let i = 0; i < bytes.length; i++) {
      node = this.#step(node, bytes[i]!);
      const pattern = this.#ending[node]!;
      if (pattern < 0) continue;
      this.#matched = pattern;
      this.#node = 0;
      const nSafe = held.length + i + 1 - this.#patterns[pattern]!.length;
      return { emit: firstBytes(held, bytes, nSafe), matched: pattern };
    }
    this.#node = node;
    return { emit: firstBytes(held, bytes, held.length + bytes.length - this.#depth[node]!), matched: null };
  }

  flush(): Uint8Array {
    const held = this.#held().slice();
    this.#node = 0;
    this.#matched = null;
    return held;
  }

  #held(): Uint8Array {
    const depth = this.#depth[this.#node]!;
    return depth === 0 ? NO_BYTES : this.#patterns[this.#owner[this.#node]!]!.subarray(0, depth);
  }

  #step(from: number, byte: number): number {
    for (let node = from; ; node = this.#suffix[node]!) {
      const child = childOf(this.#trie, node, byte);
      if (child >= 0) return child;
      if (node === 0) return 0;
    }
  }
}

/** The patterns with their indices, the first of equal ones only. */
function distinctKeys(patterns: readonly Uint8Array[]): [Uint8Array, number][] {
  const seen = new Set<string>();
  const keys: [Uint8Array, number][] = [];
  patterns.forEach((pattern, index) => {
    if (pattern.length === 0) {
      throw new UsageError(`Stop string ${index} is empty and would end every text at once. Leave it out.`);
    }
    const text = pattern.join();
    if (!seen.has(text)) keys.push([pattern, index]);
    seen.add(text);
  });
  return keys;
}

/** The first `n` bytes of `held` followed by `bytes`; no copy where `bytes` alone gives them. */
function firstBytes(held: Uint8Array, bytes: Uint8Array, n: number): Uint8Array {
  if (held.length === 0) return bytes.subarray(0, n);
  if (n <= held.length) return held.slice(0, n);
  const joined = new Uint8Array(n);
  joined.set(held);
  joined.set(bytes.subarray(0, n - held.length), held.length);
  return joined;
}
