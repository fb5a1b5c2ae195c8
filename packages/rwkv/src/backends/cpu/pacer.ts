// When a step pauses so that timers, signals and other work of the event loop get their turn, and how much of a command
// list fits between two pauses. One pacer serves all programs of a backend: their steps share one thread.

/** Longest stretch of computing before the event loop gets a turn. */
const PAUSE_AFTER_MS = 8;
/** Aimed length of one call into the kernels: within it nothing can be heard. */
const SLICE_MS = 3;
/** Multiply-adds per ms to begin with: low, since kernels start in the engine's baseline compiler. */
const INITIAL_RATE = 500_000;
/** No device is slower; a thread that was kept from running only looks so. */
const LOWEST_RATE = 100_000;
/** Most parts of one command; more would only be empty. */
const MAX_PARTS = 1024;

export class Pacer {
  #pausedAt = performance.now();
  #workPerMs = INITIAL_RATE;
  /** Calls since the speed was last learned. */
  #work = 0;
  #elapsedMs = 0;

  /** Work, in multiply-adds, that one call into the kernels should have. */
  get workPerSlice(): number {
    return this.#workPerMs * SLICE_MS;
  }

  /** In how many calls a command of that much work should be done. */
  partsOf(work: number): number {
    return Math.min(MAX_PARTS, Math.max(1, Math.ceil(work / this.workPerSlice)));
  }

  /** Learns the speed from the calls into the kernels, as often as they add up to the length of a slice. */
  record(work: number, elapsedMs: number): void {
    this.#work += work;
    this.#elapsedMs += elapsedMs;
    if (this.#elapsedMs < SLICE_MS) return;
    this.#workPerMs = Math.max(LOWEST_RATE, this.#work / this.#elapsedMs);
    this.#work = 0;
    this.#elapsedMs = 0;
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
