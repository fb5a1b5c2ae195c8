// Where the next token of a sequence comes from: all logits, or a shortlist of them where they are on a device that is far.

import type { Sampler } from "../sampler/chain.ts";
import type { Sequence } from "./sequence.ts";

/** Tokens that are drawn from all logits after one that a shortlist was too short for: the next ones may well be like it. */
const N_PATIENCE = 8;

/** Draws the tokens of one answer. */
export class Drawing {
  readonly #sequence: Sequence;
  readonly #sampler: Sampler;
  /** Tokens before a shortlist is tried again. */
  #nWait = 0;

  constructor(sequence: Sequence, sampler: Sampler) {
    this.#sequence = sequence;
    this.#sampler = sampler;
  }

  /**
   * The next token, which the sequence has not accepted yet. If it will not, its logits must be settled.
   * @throws UsageError where the sampler throws it, DeviceError if the device fails
   */
  async next(): Promise<number> {
    if (this.#nWait > 0) this.#nWait -= 1;
    else {
      const token = await this.#fromShortlist();
      if (token !== null) return token;
    }
    const logits = await this.#sequence.settle();
    return this.#sampler.sample(this.#sequence.engine.usedLogits(logits!));
  }

  /** Null if a shortlist will not do. */
  async #fromShortlist(): Promise<number | null> {
    const { engine } = this.#sequence;
    if (engine.program.hasShortlists !== true) return null;
    const wanted = this.#sampler.wantedShort(engine.nUsedIds);
    const shortlist = wanted === null ? null : await this.#sequence.settleShort(wanted);
    if (shortlist === null) return null;
    try {
      const token = this.#sampler.sampleShort(shortlist, wanted!);
      if (token === null) this.#nWait = N_PATIENCE;
      return token;
    } catch (error) {
      await this.#sequence.settle();
      throw error;
    }
  }
}
