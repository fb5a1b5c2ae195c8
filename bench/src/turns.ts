// Engines measured in turn, so that whatever else the machine does meets all of them alike, and their speeds compared.

import { progress } from "./script.ts";
import { spreadOf, type Spread } from "./statistics.ts";

/** What every measurement of an engine has. */
export interface Rates {
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

export const MEASURES = ["prefill", "decode"] as const;
export type Measure = (typeof MEASURES)[number];

export const RATES: Readonly<Record<Measure, (rates: Rates) => number>> = {
  prefill: ({ prefillTokensPerSecond }) => prefillTokensPerSecond,
  decode: ({ decodeTokensPerSecond }) => decodeTokensPerSecond,
};

/** An engine's measurements, by round. */
export interface Measured {
  readonly samples: readonly Rates[];
}

/**
 * Measures each entrant once in each round.
 * @param what - that is measured, for reports of progress
 * @returns samples by entrant, then by round
 */
export async function measureInTurn<Entrant, Sample extends Rates>(
  entrants: readonly Entrant[],
  nRounds: number,
  what: string,
  measure: (entrant: Entrant) => Promise<Sample>,
  labelOf: (entrant: Entrant, sample: Sample) => string,
): Promise<Sample[][]> {
  const samples = entrants.map((): Sample[] => []);
  for (let round = 0; round < nRounds; round++) {
    const turn = entrants.map((_, i) => i);
    // Every other round backwards, so that no engine always follows the same one.
    for (const i of round % 2 === 0 ? turn : turn.toReversed()) {
      const sample = await measure(entrants[i]!);
      samples[i]!.push(sample);
      const rates = MEASURES.map((one) => `${one} ${RATES[one](sample).toFixed(1)}`).join(", ");
      progress(
        `${what}, round ${round + 1} of ${nRounds}, ${labelOf(entrants[i]!, sample)}: ${rates} tokens/s`,
      );
    }
  }
  return samples;
}

/** The one with the best median. @param series - at least one */
export function bestOf<Series extends Measured>(series: readonly Series[], measure: Measure): Series {
  const medianOf = ({ samples }: Series): number => spreadOf(samples.map(RATES[measure])).median;
  return series.toSorted((a, b) => medianOf(b) - medianOf(a))[0]!;
}

/** How many times as fast as the peer, round by round. */
export function ratiosTo(peer: Measured, own: Measured, measure: Measure): Spread {
  const rateOf = RATES[measure];
  return spreadOf(own.samples.map((sample, round) => rateOf(sample) / rateOf(peer.samples[round]!)));
}
