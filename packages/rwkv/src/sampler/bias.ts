// What the user wants of single tokens: more or less of some, none of others, or just these.

import { UsageError } from "../core/errors.ts";
import type { Candidates } from "./candidates.ts";
import { checkTokens, ofListed, type SamplerContext, type SamplerStep } from "./step.ts";

/** A number for each token id. */
export type LogitBias = Readonly<Record<number, number>> | ReadonlyMap<number, number>;

/**
 * Adds to the logits of some tokens. Ids that the model does not have are passed over.
 * @param bias - below Infinity; -Infinity bans the token
 * @throws UsageError for another number, or what is no id
 */
export function bias(bias: LogitBias): SamplerStep {
  const entries: (readonly [number, number])[] =
    bias instanceof Map
      ? [...(bias as ReadonlyMap<number, number>)]
      : Object.entries(bias as Record<number, number>).map(([id, value]) => [Number(id), value]);
  for (const [id, value] of entries) {
    checkTokens("bias", [id]);
    if (!(value < Infinity)) {
      throw new UsageError(`The bias of token ${id} is ${value}; expected a number below Infinity.`);
    }
  }
  const step: SamplerStep = {
    name: "bias",
    apply(candidates) {
      for (const [id, value] of entries) {
        const index = candidates.indexOf(id);
        if (index >= 0) candidates.set(index, candidates.logits[index]! + value);
      }
    },
  };
  return ofListed(step, (ids) => entries.forEach(([id]) => ids.add(id)));
}

/**
 * Lets none of these tokens be drawn.
 * @throws UsageError for what is no id
 */
export function ban(tokens: readonly number[]): SamplerStep {
  checkTokens("ban", tokens);
  const banned = [...tokens];
  const step: SamplerStep = {
    name: "ban",
    apply(candidates) {
      for (const id of banned) {
        const index = candidates.indexOf(id);
        if (index >= 0) candidates.set(index, -Infinity);
      }
    },
  };
  return ofListed(step, (ids) => banned.forEach((id) => ids.add(id)));
}

/**
 * Lets the answer begin with these tokens, one after the other, whatever their probability.
 * @throws UsageError for what is no id; in the draw, for one that the model does not have, or that was banned
 */
export function force(tokens: readonly number[]): SamplerStep {
  checkTokens("force", tokens);
  const forced = [...tokens];
  const apply = (candidates: Candidates, { history }: SamplerContext): void => {
    if (history.nGenerated >= forced.length) return;
    const id = forced[history.nGenerated]!;
    const index = candidates.indexOf(id);
    if (index < 0 || candidates.logits[index] === -Infinity) {
      throw new UsageError(
        `Token ${id} is forced, but it cannot be drawn: it is banned, removed or unknown.`,
      );
    }
    candidates.keepOnly(index);
  };
  return {
    name: "force",
    apply,
    short: {
      addListed(ids, { nGenerated }) {
        if (nGenerated < forced.length) ids.add(forced[nGenerated]!);
      },
      apply(candidates, context) {
        apply(candidates, context);
        return context.history.nGenerated < forced.length ? "all" : "missing";
      },
    },
  };
}
