// What brings the state of a sequence back after the device that held it was lost: a state in ordinary memory, and what was
// read since. Reading that again gives the same bits, however it is cut into steps.

import type { Engine, Place, PromptRows } from "./engine.ts";

/** Rows after which the state had better be copied anew: reading as many again takes a GPU about a second. */
const MAX_ROWS = 4096;

/** What was read in one go: ids, or embedding rows. */
type Read =
  { readonly tokens: number[]; readonly rows: null } | { readonly tokens: null; readonly rows: Float32Array };

export class Replay {
  /** Where it begins; null for the program's own initial state. Not changed. */
  readonly #state: Float32Array | null;
  /** Rows of the sequence up to there. */
  readonly #position: number;
  /** In order; ids that follow ids join them. */
  readonly #reads: Read[];
  #nRows: number;

  constructor(state: Float32Array | null, position: number, reads: Read[] = [], nRows = 0) {
    this.#state = state;
    this.#position = position;
    this.#reads = reads;
    this.#nRows = nRows;
  }

  get isLong(): boolean {
    return this.#nRows >= MAX_ROWS;
  }

  /** Takes in what was read; a copy, since the caller may change its own. @param nEmbd - numbers in an embedding row */
  append({ nRows, tokens, rows }: PromptRows, nEmbd: number): void {
    this.#nRows += nRows;
    if (tokens === null) {
      this.#reads.push({ tokens, rows: rows!.slice(0, nRows * nEmbd) });
      return;
    }
    let last = this.#reads.at(-1);
    if (last === undefined || last.tokens === null) {
      last = { tokens: [], rows: null };
      this.#reads.push(last);
    }
    for (let i = 0; i < nRows; i++) last.tokens.push(tokens[i]!);
  }

  /** Leaves the last row out, which was the token that was just read. */
  takeBack(): void {
    this.#nRows -= 1;
    this.#reads.at(-1)!.tokens!.pop();
  }

  fork(): Replay {
    const reads = this.#reads.map((read): Read =>
      read.tokens === null ? read : { tokens: [...read.tokens], rows: null },
    );
    return new Replay(this.#state, this.#position, reads, this.#nRows);
  }

  /** A place in the engine's program of now, with the state after all that was read. @throws DeviceError if the device fails */
  async run(engine: Engine): Promise<Place> {
    const place = engine.createPlace();
    const { program, slot } = place;
    try {
      if (this.#state !== null) await program.writeSlot(slot, this.#state);
      let position = this.#position;
      for (const { tokens, rows } of this.#reads) {
        const nRows = tokens?.length ?? rows!.length / engine.config.nEmbd;
        const input = { nRows, tokens, rows };
        const start = position;
        await engine.scheduler.submit({
          slot,
          nRows,
          logits: "none",
          target: NO_LOGITS,
          signal: undefined,
          fillRows: (inputs, targetRow, first, n) =>
            engine.fillRows(input, start, inputs, targetRow, first, n),
        });
        position += nRows;
      }
    } catch (error) {
      engine.releasePlace(place);
      throw error;
    }
    return place;
  }
}

const NO_LOGITS = new Float32Array(0);
