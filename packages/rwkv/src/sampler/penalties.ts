// Penalties for single tokens that came before. All are functions of the last 1,024 tokens, as many as a session keeps, so
// that they need no state of their own.

import { UsageError } from "../core/errors.ts";
import type { Candidates } from "./candidates.ts";
import type { History, TokenValues } from "./history.ts";
import { checkCount, checkNumber, ofListed, type SamplerStep } from "./step.ts";

/** How presence and frequency weigh. */
export interface PenaltyOptions {
  /** Taken from the logit of each token that the answer has; negative ones favour it. Default 0. */
  readonly presence?: number | undefined;
  /** Taken for each time that the answer has the token. Default 0. */
  readonly frequency?: number | undefined;
  /** By which each time loses weight with every token after it, above 0 and up to 1. Default 0.996. */
  readonly decay?: number | undefined;
}

/**
 * Presence and frequency penalties as in the official chat (BlinkDL/ChatRWKV): from the logit of each token that was drawn
 * since the last prompt, presence + frequency * (sum of decay^age over the places where it stands) is taken, where the last
 * token has age 0. Of a long answer the last 1,024 tokens count.
 * @throws UsageError for options out of range
 */
export function penalties({ presence = 0, frequency = 0, decay = 0.996 }: PenaltyOptions): SamplerStep {
  checkNumber("presence", presence, -Infinity, false);
  checkNumber("frequency", frequency, -Infinity, false);
  if (!(decay > 0 && decay <= 1)) {
    throw new UsageError(`decay is ${decay}; expected a number above 0 and up to 1 (1 switches it off).`);
  }
  const step: SamplerStep = {
    name: "penalties",
    apply(candidates, { history, values }) {
      const n = nOfAnswer(history);
      let weight = 1;
      for (let age = 0; age < n; age++) {
        const token = history.recent(age);
        values.set(token, values.get(token) + weight);
        weight *= decay;
      }
      for (let i = 0; i < values.count; i++) {
        const token = values.tokens[i]!;
        lower(candidates, token, presence + frequency * values.get(token));
      }
      values.clear();
    },
  };
  return ofListed(step, (ids, history) => history.addRecent(ids, nOfAnswer(history)));
}

/** Tokens of the answer that are remembered. */
const nOfAnswer = ({ nGenerated, count }: History): number => Math.min(nGenerated, count);

/**
 * The repetition penalty of CTRL (arXiv:1909.05858): logits of the tokens among the last `window` ones, read or drawn, are
 * divided by `penalty` where they are positive, else multiplied by it.
 * @param penalty - above 0; above 1 disfavours what came before
 * @param window - from 1; more than 1,024 are not remembered
 * @throws UsageError for any other
 */
export function repetition(penalty: number, window = 64): SamplerStep {
  checkNumber("The repetition penalty", penalty, 0, false);
  checkCount("The window of the repetition penalty", window, 1);
  const step: SamplerStep = {
    name: "repetition",
    apply(candidates, { history, values }) {
      const { logits } = candidates;
      const n = Math.min(window, history.count);
      for (let age = 0; age < n; age++) values.set(history.recent(age), 1);
      for (let i = 0; i < values.count; i++) {
        const index = candidates.indexOf(values.tokens[i]!);
        if (index < 0) continue;
        const logit = logits[index]!;
        candidates.set(index, logit > 0 ? logit / penalty : logit * penalty);
      }
      values.clear();
    },
  };
  return ofListed(step, (ids, history) => history.addRecent(ids, window));
}

/** Takes the penalty from the token's logit, if it is still a candidate. */
export function lower(candidates: Candidates, token: number, penalty: number): void {
  const index = candidates.indexOf(token);
  if (index >= 0) candidates.set(index, candidates.logits[index]! - penalty);
}

/** Takes from each token's logit what stands beside it, and forgets the values. */
export function lowerAll(candidates: Candidates, values: TokenValues): void {
  for (let i = 0; i < values.count; i++) {
    const token = values.tokens[i]!;
    lower(candidates, token, values.get(token));
  }
  values.clear();
}
