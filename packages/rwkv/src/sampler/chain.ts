// From logits to a token: a chain of steps, the draw that ends every chain, and what must be kept to go on with it elsewhere.

import { UsageError } from "../core/errors.ts";
import { MAX_LISTED, N_LIKELIEST, type Shortlist, type ShortlistWanted } from "../core/shortlist.ts";
import { Candidates } from "./candidates.ts";
import { History, TokenValues } from "./history.ts";
import { drawSeed, Random } from "./random.ts";
import { Selector } from "./select.ts";
import { Sorter } from "./sorter.ts";
import { stepOf, type SamplerStep, type SamplerSteps } from "./step.ts";
import { decodeState, encodeState, type SamplerState } from "./state.ts";

/** Draws tokens. One sampler serves one sequence, since its generator and its steps advance with each draw. */
export interface Sampler {
  /** The seed it was created with, given or drawn. */
  readonly seed: number;
  /**
   * Tells what stands before the next token, for steps that look back. Without it that is what was drawn here.
   * @param tokens - ids, oldest first; the last 1,024 are remembered
   * @param position - tokens in the whole sequence. An answer goes on if this and the last token are those at which `restore`
   * or the draws have left off; else a new one begins
   */
  begin(tokens: readonly number[], position?: number): void;
  /**
   * Draws the next token.
   * @param logits - `[V]`; not kept and not changed
   * @throws UsageError if one is NaN or +Infinity, or all are -Infinity; the generator has not advanced then
   * @throws UsageError if a step leaves no token to be drawn, or throws it
   */
  sample(logits: Float32Array): number;
  /**
   * What `sampleShort` needs for the next token.
   * @param nIds - tokens of the vocabulary
   * @returns null where the steps take all logits
   */
  wantedShort(nIds: number): ShortlistWanted | null;
  /**
   * Draws the next token as `sample` does from all logits, down to the bits, if the shortlist tells enough.
   * @param wanted - with which the shortlist was made, and nothing drawn since
   * @returns null if it does not; nothing has advanced then
   * @throws UsageError as `sample` does
   */
  sampleShort(shortlist: Shortlist, wanted: ShortlistWanted): number | null;
  /** Where generator and steps are; `restore`, and `begin` with the same tokens, continue from there. */
  state(): SamplerState;
  /**
   * Takes the generator and what steps of the same names have kept; other steps begin anew.
   * @throws UsageError if these are not the numbers that `state` gives
   */
  restore(state: SamplerState): void;
}

/**
 * A sampler of any steps in any order; what they leave is drawn from by its softmax.
 * @param seed - a whole number from 0 to 2^53 - 1; without it a random one
 * @throws UsageError for any other seed, or steps that contradict each other
 */
export function createChain(steps: SamplerSteps, seed: number = drawSeed()): Sampler {
  return new Chain(steps.map(stepOf), seed);
}

class Chain implements Sampler {
  readonly seed: number;
  readonly #steps: readonly SamplerStep[];
  /** What each step remembers. */
  readonly #states: readonly Float64Array[];
  readonly #candidates = new Candidates();
  readonly #context: {
    readonly history: History;
    random: Random;
    readonly selector: Selector;
    readonly sorter: Sorter;
    readonly values: TokenValues;
  };
  /** Tokens in the whole sequence, and the last of them. */
  #position = 0;
  #lastToken: number | null = null;

  constructor(steps: readonly SamplerStep[], seed: number) {
    checkSteps(steps);
    this.seed = seed;
    this.#steps = steps;
    this.#states = steps.map(({ initialState = [] }) => Float64Array.from(initialState));
    this.#context = {
      history: new History(),
      random: Random.fromSeed(seed),
      selector: new Selector(),
      sorter: new Sorter(),
      values: new TokenValues(),
    };
  }

  begin(tokens: readonly number[], position = tokens.length): void {
    const { history } = this.#context;
    const goesOn = position === this.#position && tokens.at(-1) === this.#lastToken;
    history.begin(tokens, goesOn ? history.nGenerated : 0);
    this.#position = position;
    this.#lastToken = tokens.at(-1) ?? null;
  }

  sample(logits: Float32Array): number {
    this.#candidates.load(logits);
    return this.#sampleFrom(0);
  }

  wantedShort(nIds: number): ShortlistWanted | null {
    const ids = new Set<number>();
    for (const { short } of this.#steps) {
      if (short === undefined) return null;
      if (short.addListed !== undefined) {
        short.addListed(ids, this.#context.history);
        continue;
      }
      // This one takes the unlikely tokens out, and those after it see what is left.
      const listed = Uint32Array.from(ids).filter((id) => id < nIds);
      return listed.length <= Math.min(MAX_LISTED, nIds - N_LIKELIEST) ? { listed, nIds } : null;
    }
    return null;
  }

  sampleShort(shortlist: Shortlist, { listed }: ShortlistWanted): number | null {
    const tail = this.#candidates.loadShort(shortlist, listed);
    if (tail === null) return null;
    for (let i = 0; i < this.#steps.length; i++) {
      const outcome = this.#steps[i]!.short?.apply(this.#candidates, this.#context, tail) ?? "unknown";
      if (outcome === "all") return this.#sampleFrom(i + 1);
      if (outcome === "unknown") return null;
    }
    return null;
  }

  /** Draws from what the steps before `first` have left. */
  #sampleFrom(first: number): number {
    const candidates = this.#candidates;
    const context = this.#context;
    for (let i = first; i < this.#steps.length; i++) {
      this.#steps[i]!.apply(candidates, context, this.#states[i]!);
    }
    const index = draw(candidates, context.random);
    for (let i = 0; i < this.#steps.length; i++) this.#steps[i]!.drawn?.(candidates, index, this.#states[i]!);
    const token = candidates.ids[index]!;
    context.history.push(token);
    this.#position++;
    this.#lastToken = token;
    return token;
  }

  state(): SamplerState {
    const { random, history } = this.#context;
    return encodeState({
      random: random.state(),
      position: this.#position,
      lastToken: this.#lastToken,
      nGenerated: history.nGenerated,
      steps: this.#steps.map(({ name }, i) => ({ name, values: this.#states[i]! })),
    });
  }

  restore(state: SamplerState): void {
    const { random, position, lastToken, nGenerated, valuesOf } = decodeState(state);
    this.#context.random = Random.fromState(random);
    this.#position = position;
    this.#lastToken = lastToken;
    this.#context.history.nGenerated = nGenerated;
    this.#steps.forEach(({ name, initialState = [] }, i) => {
      this.#states[i]!.set(valuesOf(name, initialState.length) ?? initialState);
    });
  }
}

/** One draw from the softmax of the candidates: the place of the token. */
function draw(candidates: Candidates, random: Random): number {
  const total = candidates.weigh();
  const { weights, count } = candidates;
  if (count === 1) return 0;
  const point = random.nextUnit() * total;
  let drawn = 0;
  for (let i = 0, sum = 0; i < count && sum <= point; i++) {
    const weight = weights[i]!;
    sum += weight;
    // A weight of 0 is never drawn, not even where rounding keeps the sum from reaching the point.
    if (weight > 0) drawn = i;
  }
  return drawn;
}

/** @throws UsageError for steps that contradict each other, saying why */
function checkSteps(steps: readonly SamplerStep[]): void {
  const last = steps.length - 1;
  steps.forEach(({ name, kind }, i) => {
    if (kind === "greedy" && i !== last) {
      throw new UsageError(
        `${steps[i + 1]!.name} comes after ${name}, which leaves one token: make ${name} the last step, or leave it out.`,
      );
    }
    if (kind !== "mirostat") return;
    const truncation = steps.find((step) => step.kind === "truncation");
    if (truncation !== undefined) {
      throw new UsageError(
        `${name} and ${truncation.name} do not go together: ${name} itself decides how many tokens are left, by what was ` +
          `drawn before. Leave one of them out.`,
      );
    }
    if (i !== last) {
      throw new UsageError(
        `${steps[i + 1]!.name} comes after ${name}, which must measure the distribution that is drawn from: make ${name} ` +
          `the last step.`,
      );
    }
  });
}
