// Progress events: what is being done, how far it is, and how fast.

/** Kernels of a GPU. */
export interface KernelCount {
  readonly done: number;
  readonly total: number;
}

/** Weights are being read, or kernels compiled; bytes count what has reached the device. */
export interface LoadProgress {
  readonly phase: "load" | "compile";
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** The tensor just finished; while kernels are compiled the last one. */
  readonly tensor: string;
  /** While kernels are compiled: how many of those that this process had not compiled before. */
  readonly kernels?: KernelCount;
}

/** Tokens are being read (prefill) or produced (decode). */
export interface TokenProgress {
  readonly phase: "prefill" | "decode";
  readonly tokensDone: number;
  /** The prompt's length, or the most tokens that will be produced. */
  readonly tokensTotal: number;
  /** Over this phase so far. */
  readonly tokensPerSecond: number;
}

/** Counts tokens of one phase against the clock. */
export class PhaseTimer {
  readonly #start = performance.now();

  elapsedMs(): number {
    return performance.now() - this.#start;
  }

  progress(phase: TokenProgress["phase"], tokensDone: number, tokensTotal: number): TokenProgress {
    return { phase, tokensDone, tokensTotal, tokensPerSecond: perSecond(tokensDone, this.elapsedMs()) };
  }

  /** Publishes the phase to performance observers; nothing stays in the timeline's buffer. */
  measure(name: string): void {
    performance.measure(name, { start: this.#start, end: performance.now() });
    performance.clearMeasures(name);
  }
}

/** 0 where no time has passed: a rate that cannot be stated. */
export function perSecond(count: number, elapsedMs: number): number {
  return elapsedMs > 0 ? (count * 1000) / elapsedMs : 0;
}
