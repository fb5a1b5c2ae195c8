// Shortlists of logits: what a step is told of those that it is to return, the dispatches that make them, and where their words
// lie. Their memory is taken with the first one.

import { UsageError } from "../../core/errors.ts";
import type { Run } from "../../ops/backend.ts";
import { MAX_LISTED, N_LIKELIEST, type ShortlistWanted } from "../../core/shortlist.ts";
import type { StepRows } from "./dispatches.ts";
import type { Gpu } from "./gpu.ts";
import { KeptLogits } from "./kept-logits.ts";
import type { KernelCall, KernelOperand, KernelPart } from "./kernels/kernel.ts";
import {
  ASKED,
  ASKED_WORDS,
  FOUND_WORDS,
  PART_TOKENS,
  partText,
  shortlistText,
} from "./kernels/shortlist.ts";
import { KERNEL_USAGE, Memory, type Place } from "./memory.ts";
import { u32 } from "./operands.ts";

/** The least listed ids that a result has room for. */
const FEWEST_LISTED = 64;

/**
 * Words that each shortlist of a step takes where it is read back. They grow by doubling, so that the commands of a step are seldom
 * others because a few more ids are listed.
 */
export function shortlistWords(runs: readonly Run[]): number {
  const counts = runs.flatMap(({ shortlist }) => (shortlist === undefined ? [] : [shortlist.listed.length]));
  if (counts.length === 0) return 0;
  return 2 * N_LIKELIEST + 1 + 2 ** Math.ceil(Math.log2(Math.max(FEWEST_LISTED, ...counts)));
}

export class Shortlists {
  readonly kept: KeptLogits;
  /** Both dispatches: over the parts of rows, then over rows. */
  readonly calls: readonly KernelCall[];
  /** What is copied to be read: the shortlists of a step, `shortlistWords` each. */
  readonly result = new Memory("shortlists");
  readonly #gpu: Gpu;
  readonly #width: number;
  readonly #asked = new Memory("shortlists asked for");
  readonly #found = new Memory("likeliest tokens of parts");
  readonly #foundWords: number;
  #nRows = 0;
  /** For each id whether it was met in the list that is being checked. */
  readonly #isMet: Uint8Array;

  /**
   * @param logits - where a step leaves them
   * @param width - logits of a row, at least N_LIKELIEST
   */
  constructor(gpu: Gpu, logits: Place, width: number) {
    this.#gpu = gpu;
    this.#width = width;
    this.#isMet = new Uint8Array(width);
    this.kept = new KeptLogits(gpu, width);
    const nParts = Math.ceil(width / PART_TOKENS);
    this.#foundWords = FOUND_WORDS * nParts;
    const operand = (name: string, place: Place, isWritten: boolean): KernelOperand => ({
      name,
      place,
      isWritten,
      type: "u32",
    });
    const read = [
      operand("logits", logits, false),
      operand("asked", { memory: this.#asked, at: 0, stride: ASKED_WORDS }, false),
    ];
    const kept: Place = { memory: this.kept.memory, at: 0, stride: width };
    const found: Place = { memory: this.#found, at: 0, stride: this.#foundWords };
    const result: Place = { memory: this.result, at: 0, stride: 0 };
    const scalars = [u32("width", width), u32("n_parts", nParts)];
    this.calls = [
      callOf(
        `likeliest tokens of parts of ${PART_TOKENS}`,
        {
          operands: [...read, operand("kept", kept, true), operand("found", found, true)],
          scalars,
          nGroups: [nParts],
        },
        partText,
        2 * width + this.#foundWords,
      ),
      callOf(
        "shortlist of the likeliest of parts",
        {
          operands: [...read, operand("found", found, false), operand("result", result, true)],
          scalars,
          nGroups: [1],
        },
        shortlistText,
        this.#foundWords + 3 * N_LIKELIEST + 1,
      ),
    ];
  }

  /** @throws UsageError saying what of the runs' shortlists cannot be */
  check(runs: readonly Run[]): void {
    for (const { slot, logits, shortlist } of runs) {
      if (shortlist === undefined) continue;
      const refuse = (why: string): never => {
        throw new UsageError(`the shortlist of slot ${slot} ${why}.`);
      };
      if (logits !== "last") {
        refuse(`is of the last row's logits, but the run wants "${logits}"; ask for "last"`);
      }
      const { listed, nIds } = shortlist;
      if (!Number.isSafeInteger(nIds) || nIds < 1 || nIds > this.#width) {
        refuse(`is of ${nIds} ids; give a whole number of at most ${this.#width}, which the program has`);
      }
      if (listed.length > MAX_LISTED) refuse(`lists ${listed.length} ids; give at most ${MAX_LISTED}`);
      if (nIds < N_LIKELIEST + listed.length) {
        refuse(`needs ${N_LIKELIEST} ids beside the ${listed.length} listed, but there are ${nIds} in all`);
      }
      this.#checkListed(shortlist, refuse);
    }
  }

  /**
   * Makes room for the shortlists of a step.
   * @param keptRows - of `kept`
   * @returns whether any buffer was replaced
   * @throws DeviceError if there is no memory
   */
  async reserve(nShortlists: number, keptRows: readonly number[]): Promise<boolean> {
    if (nShortlists === 0) return false;
    const isKeptReplaced = await this.kept.reserve(keptRows);
    if (nShortlists <= this.#nRows) return isKeptReplaced;
    const nRows = Math.ceil(1.5 * nShortlists);
    const resultWords = 2 * N_LIKELIEST + 1 + MAX_LISTED;
    const memories: readonly (readonly [Memory, number])[] = [
      [this.#asked, ASKED_WORDS + MAX_LISTED],
      [this.#found, this.#foundWords],
      [this.result, resultWords],
    ];
    const buffers = await this.#gpu.allocating(`${nRows} shortlists`, () =>
      memories.map(([{ label }, words]) => this.#gpu.createBuffer(label, 4 * words * nRows, KERNEL_USAGE)),
    );
    memories.forEach(([memory], i) => memory.replace(this.#gpu, buffers[i]!));
    this.#nRows = nRows;
    return true;
  }

  /**
   * Tells the kernels of the next step what is asked of them. The logits of runs with shortlists are its last rows of logits, in
   * the order of the runs.
   */
  write(runs: readonly Run[], rows: StepRows, keptRows: readonly number[]): void {
    if (rows.shortlist === 0) return;
    const wanted = runs.flatMap(({ shortlist }) => shortlist ?? []);
    const nListed = wanted.reduce((sum, { listed }) => sum + listed.length, 0);
    const words = new Uint32Array(ASKED_WORDS * wanted.length + nListed);
    let listedAt = ASKED_WORDS * wanted.length;
    wanted.forEach(({ listed, nIds }, i) => {
      const at = ASKED_WORDS * i;
      words[at + ASKED.logitRow] = rows.logit - wanted.length + i;
      words[at + ASKED.keptRow] = keptRows[i]!;
      words[at + ASKED.nIds] = nIds;
      words[at + ASKED.nListed] = listed.length;
      words[at + ASKED.listedAt] = listedAt;
      words[at + ASKED.resultAt] = rows.shortlistWords * i;
      words.set(listed, listedAt);
      listedAt += listed.length;
    });
    this.#gpu.device.queue.writeBuffer(this.#asked.buffer!, 0, words);
  }

  dispose(): void {
    this.kept.dispose();
    for (const memory of [this.#asked, this.#found, this.result]) memory.dispose(this.#gpu);
  }

  #checkListed({ listed, nIds }: ShortlistWanted, refuse: (why: string) => never): void {
    const isMet = this.#isMet;
    let wrong: string | null = null;
    for (const id of listed) {
      if (id >= nIds) wrong = `lists id ${id}; give ids below ${nIds}`;
      else if (isMet[id] === 1) wrong = `lists id ${id} twice; give each id once`;
      else isMet[id] = 1;
      if (wrong !== null) break;
    }
    for (const id of listed) if (id < nIds) isMet[id] = 0;
    if (wrong !== null) refuse(wrong);
  }
}

function callOf(label: string, part: KernelPart, text: string, words: number): KernelCall {
  return {
    label,
    parts: [part],
    isGrouped: false,
    steps: "all",
    rows: "shortlist",
    variants: [{ maxRows: Infinity, rowsPerGroup: 1, text }],
    work: 0,
    traffic: { matrices: 0, sparse: 0, others: 4 * words },
  };
}
