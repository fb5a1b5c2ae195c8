import { describe, expect, test } from "vitest";
import { UsageError } from "rwkv";
import type { Documents } from "./documents.ts";
import { createBatches, type BatchOptions } from "./batches.ts";

/** Document d has the tokens 10 d + 1, 10 d + 2, ... */
function documentsOf(...lengths: readonly number[]): Documents {
  const tokens: number[] = [];
  const starts = [0];
  for (const [d, length] of lengths.entries()) {
    for (let i = 1; i <= length; i++) tokens.push(10 * d + i);
    starts.push(tokens.length);
  }
  return { tokens: Int32Array.from(tokens), starts: Int32Array.from(starts), learnt: null };
}

const ROWS: BatchOptions = {
  packing: "rows",
  batch: 2,
  context: 4,
  endOfText: 0,
  carryState: false,
  seed: 1,
};
const PIECES: BatchOptions = { ...ROWS, packing: "documents", carryState: true };

describe("rows", () => {
  test("an epoch holds every token once, documents apart by the end of text, targets one ahead", () => {
    const documents = documentsOf(5, 3, 6);
    const batches = createBatches(documents, ROWS);
    const stream: number[] = [];
    for (let step = 0; step < 2; step++) {
      for (const { tokens, targets, isStart, isEnd } of batches.next().sequences) {
        expect([isStart, isEnd]).toEqual([true, true]);
        if (stream.length > 0) expect(tokens[0]).toBe(stream.pop());
        stream.push(...tokens, targets.at(-1)!);
        expect([...targets.slice(0, -1)]).toEqual([...tokens.slice(1)]);
      }
    }
    expect(stream.length).toBe(2 * 2 * 4 + 1);
    const parts = stream.join(" ").split(/(?:^| )0(?: |$)/);
    expect(parts.filter((part) => part !== "").sort()).toEqual(
      ["1 2 3 4 5", "11 12 13", "21 22 23 24 25 26"].sort(),
    );
  });

  test("with carried states the rows of a slot follow one another through the epoch", () => {
    const batches = createBatches(documentsOf(9, 9, 9), { ...ROWS, context: 3, carryState: true });
    const perSlot: number[][] = [[], []];
    const flags: boolean[] = [];
    for (let step = 0; step < 5; step++) {
      for (const { slot, tokens, isStart, isEnd } of batches.next().sequences) {
        perSlot[slot]!.push(...tokens);
        if (slot === 1) flags.push(isStart, isEnd);
      }
    }
    // 31 tokens make 10 rows of 3 with targets, 5 for each slot
    const whole = createBatches(documentsOf(9, 9, 9), { ...ROWS, context: 15, batch: 1 });
    expect(perSlot[0]).toEqual([...whole.next().sequences[0]!.tokens]);
    expect(perSlot[1]).toEqual([...whole.next().sequences[0]!.tokens]);
    expect(flags).toEqual([true, false, false, false, false, false, false, false, false, true]);
  });

  test("the next epoch has another order, and the same seed the same one", () => {
    const epochs = (seed: number): string[] => {
      const batches = createBatches(documentsOf(3, 3, 3, 3, 3), { ...ROWS, batch: 1, context: 20, seed });
      return [0, 1].map(() => batches.next().sequences[0]!.tokens.join(" "));
    };
    const [first, second] = epochs(1);
    expect(first).not.toBe(second);
    expect(epochs(1)).toEqual([first, second]);
    expect(epochs(2)[0]).not.toBe(first);
  });

  test("tokens that are not learnt have no target", () => {
    const documents = { ...documentsOf(4), learnt: Uint8Array.from([0, 0, 1, 1]) };
    const { sequences, nTokens, nTargets } = createBatches(documents, {
      ...ROWS,
      batch: 1,
      context: 5,
    }).next();
    expect([...sequences[0]!.tokens]).toEqual([0, 1, 2, 3, 4]);
    expect([...sequences[0]!.targets]).toEqual([-1, -1, 3, 4, 0]);
    expect([nTokens, nTargets]).toEqual([5, 3]);
  });

  test("less data than one batch is refused with the arithmetic", () => {
    expect(() => createBatches(documentsOf(5), ROWS)).toThrow(UsageError);
    expect(() => createBatches(documentsOf(5), ROWS)).toThrow(
      "The data has 7 tokens, but one batch takes 2 rows of 4 tokens and one more.",
    );
  });
});

describe("documents", () => {
  test("a long document is read in pieces that go on, a short one makes room for the next", () => {
    const batches = createBatches(documentsOf(9, 2), { ...PIECES, batch: 1 });
    const pieces: string[] = [];
    for (let step = 0; step < 4; step++) {
      const [{ tokens, targets, isStart, isEnd }] = batches.next().sequences as [never];
      pieces.push(
        `${String(isStart)} ${[...(tokens as Int32Array)].join()} -> ${[...(targets as Int32Array)].join()} ${String(isEnd)}`,
      );
    }
    const long = ["true 0,1,2,3 -> 1,2,3,4 false", "false 4,5,6,7 -> 5,6,7,8 false", "false 8,9 -> 9,0 true"];
    const short = "true 0,11,12 -> 11,12,0 true";
    expect([
      [...long, short],
      [short, ...long],
    ]).toContainEqual(pieces);
  });

  test("without an end of text the last token has no successor to learn", () => {
    const batches = createBatches(documentsOf(3), { ...PIECES, batch: 1, endOfText: null });
    const { sequences } = batches.next();
    expect([...sequences[0]!.tokens]).toEqual([1, 2]);
    expect([...sequences[0]!.targets]).toEqual([2, 3]);
  });

  test("slots hold documents of different lengths side by side", () => {
    const { sequences, nTokens } = createBatches(documentsOf(1, 3), PIECES).next();
    expect(sequences.map(({ tokens }) => tokens.length).sort()).toEqual([2, 4]);
    expect(nTokens).toBe(6);
  });
});

test.each([
  ["rows", ROWS],
  ["rows with carried states", { ...ROWS, context: 2, carryState: true }],
  ["documents", PIECES],
] as const)("%s go on from a position as if never stopped", (_, options) => {
  const documents = documentsOf(7, 2, 11, 4, 9, 1);
  const whole = createBatches(documents, options);
  const wanted = Array.from({ length: 14 }, () => whole.next());
  for (let stop = 0; stop <= 9; stop++) {
    const before = createBatches(documents, options);
    for (let step = 0; step < stop; step++) before.next();
    const position = JSON.parse(JSON.stringify(before.position())) as ReturnType<typeof before.position>;
    const after = createBatches(documents, options, position);
    expect(Array.from({ length: 14 - stop }, () => after.next())).toEqual(wanted.slice(stop));
  }
});
