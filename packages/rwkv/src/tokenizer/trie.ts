// A trie over bytes in four flat arrays. Nodes are numbered breadth first, which keeps the children of a node side by
// side and in the order of their bytes: a child is found by bisection, and mostly at the first guess, since the children
// of the busiest nodes (the root, the lead bytes of CJK) have consecutive bytes.

import { FormatError } from "../core/errors.ts";

/** Node numbers start with the root, 0. */
export interface ByteTrie {
  readonly nNodes: number;
  /** `[nNodes + 1]`: the children of `node` are the nodes `firstChild[node]` up to, but not, `firstChild[node + 1]`. */
  readonly firstChild: Int32Array;
  /** `[nNodes]`: the byte that leads to the node. */
  readonly label: Uint8Array;
  /** `[nNodes]`: the value of the key that ends here, or -1. */
  readonly value: Int32Array;
}

/** Order of byte strings, shorter first where one continues the other. */
function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/**
 * Builds a trie. Its size and the time for it are bounded by the number of bytes of all keys.
 * @param keys - `[key, value]`: byte strings of at least one byte, values from 0 to 2^31 - 1; the keys are not kept
 * @throws FormatError if two keys are equal, naming both values
 */
export function buildTrie(name: string, keys: readonly (readonly [Uint8Array, number])[]): ByteTrie {
  const sorted = [...keys].sort(([a], [b]) => compareBytes(a, b));
  const nAllNodes = countNodes(sorted);
  const firstChild = new Int32Array(nAllNodes + 1);
  const label = new Uint8Array(nAllNodes);
  const value = new Int32Array(nAllNodes).fill(-1);
  // The keys below a node are a range of `sorted`; `depth` bytes of them are the path to the node.
  const rangeStart = new Int32Array(nAllNodes);
  const rangeEnd = new Int32Array(nAllNodes);
  rangeEnd[0] = sorted.length;
  let nNodes = 1;
  let depth = 0;
  for (let node = 0, levelEnd = 1; node < nNodes; node++) {
    if (node === levelEnd) {
      depth++;
      levelEnd = nNodes;
    }
    let start = rangeStart[node]!;
    const end = rangeEnd[node]!;
    if (start < end && sorted[start]![0].length === depth) {
      value[node] = sorted[start]![1];
      start++;
      if (start < end && sorted[start]![0].length === depth) {
        throw new FormatError(
          `${name}: entries ${value[node]!} and ${sorted[start]![1]} have the same ${depth} bytes; which one is meant ` +
            `cannot be told. The file is damaged: get it again.`,
        );
      }
    }
    firstChild[node] = nNodes;
    while (start < end) {
      const byte = sorted[start]![0][depth]!;
      rangeStart[nNodes] = start;
      while (start < end && sorted[start]![0][depth] === byte) start++;
      rangeEnd[nNodes] = start;
      label[nNodes] = byte;
      nNodes++;
    }
  }
  firstChild[nNodes] = nNodes;
  return { nNodes, firstChild, label, value };
}

/** The root, and for each key the bytes by which it differs from the one before it in order. */
function countNodes(sorted: readonly (readonly [Uint8Array, number])[]): number {
  let nNodes = 1;
  let previous: Uint8Array = new Uint8Array(0);
  for (const [key] of sorted) {
    let nShared = 0;
    while (nShared < previous.length && previous[nShared] === key[nShared]) nShared++;
    nNodes += key.length - nShared;
    previous = key;
  }
  return nNodes;
}

/** The child of `node` along `byte`, or -1. */
export function childOf(trie: ByteTrie, node: number, byte: number): number {
  const { firstChild, label } = trie;
  let low = firstChild[node]!;
  let high = firstChild[node + 1]!;
  if (low === high) return -1;
  const guess = low + byte - label[low]!;
  if (guess >= low && guess < high && label[guess] === byte) return guess;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (label[middle]! < byte) low = middle + 1;
    else high = middle;
  }
  return low < firstChild[node + 1]! && label[low] === byte ? low : -1;
}
