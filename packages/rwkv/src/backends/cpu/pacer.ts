// When a step pauses so that timers, signals and other work of the event loop get their turn, and how much of a command
// list fits between two pauses. One pacer serves all programs of a backend: their steps share one thread.

/** Longest stretch of computing before the event loop gets a turn. */
const PAUSE_AFTER_MS = 8;
/** Aimed length of one call into the kernels: within it nothing can be heard. */
const SLICE_MS = 3;
/** Calls shorter than this say little about the speed. */
const MEASURED_MS = 0.5;
/** Multiply-adds per ms to begin with: low, since kernels start in the engine's baseline compiler. */
const INITIAL_RATE = 500_000;

export class Pacer {
  #pausedAt = performance.now();
  #workPerMs = INITIAL_RATE;

  /** Work, in multiply-adds, that one call into the kernels should have. */
  get workPerSlice(): number {
    return this.#workPerMs * SLICE_MS;
  }

  /** Learns the speed from a call into the kernels. */
  record(work: number, elapsedMs: number): void {
    if (elapsedMs < MEASURED_MS) return;
    this.#workPerMs = 0.75 * this.#workPerMs + 0.25 * (work / elapsedMs);
  }

  isPauseDue(nowMs: number): boolean {
    return nowMs - this.#pausedAt >= PAUSE_AFTER_MS;
  }

  /** Lets the event loop turn once. */
  async pause(): Promise<void> {
    await turnOfEventLoop();
    this.#pausedAt = performance.now();
  }
}

type SetImmediate = (callback: () => void) => unknown;

function turnOfEventLoop(): Promise<void> {
  // Timers would do everywhere, but browsers delay nested ones by 4 ms.
  const { setImmediate } = globalThis as { setImmediate?: SetImmediate };
  return new Promise((resolve) => {
    if (setImmediate !== undefined) {
      setImmediate(resolve);
      return;
    }
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
