// In which order gradients are made and how long each value and gradient is needed: once per graph, before any memory
// is taken. Hides that a gradient may be another one's place under a second name, which saves copies.
//
// Times: node i runs forward at i, the loss at n, node i backward at 2 n - i.

import type { Graph, Node, Value } from "./graph.ts";

/** A place in memory, needed from `start` to `end`. */
export interface Storage {
  readonly per: Value["per"];
  readonly elements: number;
  start: number;
  end: number;
}

/** What is left to do with a gradient after a node's backward. */
export interface Transfer {
  readonly from: Value;
  readonly to: Value;
  readonly scale: number;
  readonly isAdded: boolean;
}

/** The backward of one node. */
export interface BackwardStep {
  readonly node: Node;
  readonly added: number;
  /** Gradients that no one has set, to be cleared before. */
  readonly cleared: readonly Value[];
  readonly transfers: readonly Transfer[];
}

export interface Schedule {
  /** By id of the value. */
  readonly data: readonly Storage[];
  /** By id of the value; undefined where there is none. */
  readonly gradients: readonly (Storage | undefined)[];
  /** Last node first. */
  readonly backward: readonly BackwardStep[];
}

export function schedule(graph: Graph): Schedule {
  const { nodes, values } = graph;
  const lossTime = nodes.length;
  const endTime = 2 * lossTime + 1;
  const data = values.map(({ per, elements }): Storage => ({ per, elements, start: -1, end: -1 }));
  const gradients: (Storage | undefined)[] = values.map(() => undefined);
  const use = (storage: Storage, time: number): void => {
    storage.end = Math.max(storage.end, time);
  };

  const producers = new Map<Value, number>();
  const consumers = new Map<Value, number[]>();
  for (const [i, { reads, writes }] of nodes.entries()) {
    for (const value of writes) {
      data[value.id]!.start = i;
      use(data[value.id]!, i);
      producers.set(value, i);
    }
    for (const value of reads) {
      use(data[value.id]!, i);
      consumers.set(value, [...(consumers.get(value) ?? []), i]);
    }
  }
  for (const { before, after } of graph.states)
    for (const value of [before, after]) use(data[value.id]!, endTime);
  // the loss leaves the gradient of the logits in their place
  gradients[graph.logits.id] = data[graph.logits.id]!;

  /** Whether y's gradient is read for the last time before x's, which shares its place, is next written. */
  const canShare = (x: Value, y: Value, node: number): boolean => {
    const producer = producers.get(y) ?? -1;
    if (producer < 0 || consumers.get(y)!.length > 1) return false;
    const { overwrites = false, passes = [] } = nodes[producer]!;
    return !overwrites && passes.length === 0 && consumers.get(x)!.every((i) => i === node || i < producer);
  };

  const backward: BackwardStep[] = [];
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i]!;
    const time = 2 * lossTime - i;
    const isReached = node.gradientsOf.some(({ id, isWanted }) => isWanted && gradients[id] !== undefined);
    if (!isReached) continue;
    const newGradient = ({ id, per, elements }: Value): Storage =>
      (gradients[id] = { per, elements, start: time, end: time });

    const cleared: Value[] = [];
    for (const value of node.gradientsOf) {
      if (gradients[value.id] === undefined) {
        newGradient(value);
        cleared.push(value);
      }
      use(gradients[value.id]!, time);
    }
    for (const value of node.scratch ?? []) newGradient(value);
    for (const value of node.keeps) use(data[value.id]!, time);
    let added = 0;
    for (const [bit, value] of node.gradients.entries()) {
      const storage = gradients[value.id];
      if (storage === undefined) {
        newGradient(value);
      } else {
        use(storage, time);
        // one that is not wanted needs a place for the kernel to write to, no more
        if (value.isWanted) added |= 1 << bit;
      }
    }
    const transfers: Transfer[] = [];
    let sharer: Value | null = null;
    for (const { from, to, scale } of node.passes ?? []) {
      if (!to.isWanted) continue;
      const source = gradients[from.id]!;
      const isFirst = gradients[to.id] === undefined;
      if (isFirst && scale === 1 && (sharer === null || canShare(to, sharer, i))) {
        gradients[to.id] = source;
        sharer = to;
        continue;
      }
      transfers.push({ from, to, scale, isAdded: !isFirst });
      if (isFirst) newGradient(to);
      else use(gradients[to.id]!, time);
    }
    backward.push({ node, added, cleared, transfers });
  }
  const inputGradient = gradients[graph.input.id];
  if (inputGradient !== undefined) use(inputGradient, endTime);
  return { data, gradients, backward };
}

/** Gives every storage a place so that none overlaps another that is needed at the same time. */
export function place(
  storages: readonly Storage[],
  lengthOf: (storage: Storage) => number,
): { readonly offsets: ReadonlyMap<Storage, number>; readonly length: number } {
  const inOrder = [...new Set(storages)].sort((a, b) => a.start - b.start || lengthOf(b) - lengthOf(a));
  const offsets = new Map<Storage, number>();
  let active: { storage: Storage; offset: number; end: number }[] = []; // by offset
  let length = 0;
  for (const storage of inOrder) {
    active = active.filter(({ storage: other }) => other.end >= storage.start);
    const needed = lengthOf(storage);
    let offset = 0;
    for (const other of active) {
      if (other.offset - offset >= needed) break;
      offset = Math.max(offset, other.end);
    }
    offsets.set(storage, offset);
    active.push({ storage, offset, end: offset + needed });
    active.sort((a, b) => a.offset - b.offset);
    length = Math.max(length, offset + needed);
  }
  return { offsets, length };
}
