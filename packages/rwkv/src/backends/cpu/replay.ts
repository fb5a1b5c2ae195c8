// How the command list of a program is run for a step. Here on the calling thread: in slices, between which the event
// loop gets its turn. With several threads: pool.ts.

import { UsageError } from "../../core/errors.ts";
import { rowsOf, workPerRow } from "./commands.ts";
import type { Encoded } from "./encode.ts";
import { instantiateKernels, type RunKernels } from "./kernels.ts";
import type { Pacer } from "./pacer.ts";
import type { ScheduledCommand } from "./schedule.ts";

/** Rows of a step: all of them, and those whose logits are wanted. */
export interface StepRows {
  readonly nTokens: number;
  readonly nLogits: number;
}

/** The command list of one program, ready to run. */
export interface Replay {
  /**
   * Runs all commands once; the run table is written already. One at a time.
   * @throws the signal's reason if aborted; the slots are then somewhere between before and after
   * @throws UsageError if disposed meanwhile
   */
  run(rows: StepRows, signal: AbortSignal | undefined): Promise<void>;
  dispose(): void;
}

/** The way in which all programs of a backend run. */
export interface Replayer {
  readonly nThreads: number;
  /** The kernels. */
  readonly module: WebAssembly.Module;
  /** A memory for one program, one page long. */
  createMemory(): WebAssembly.Memory;
  /** @param commands - those that were encoded */
  start(memory: WebAssembly.Memory, encoded: Encoded, commands: readonly ScheduledCommand[]): Promise<Replay>;
}

export function disposedMeanwhile(): UsageError {
  return new UsageError("the program was disposed during a step; build another.");
}

/** Replays on the calling thread only. */
export function singleThread(module: WebAssembly.Module, pacer: Pacer): Replayer {
  return {
    nThreads: 1,
    module,
    createMemory: () => new WebAssembly.Memory({ initial: 1 }),
    async start(memory, encoded, commands) {
      return new SlicedReplay(await instantiateKernels(module, memory), encoded, commands, pacer);
    },
  };
}

/** The cost of a command per row, and of which rows. */
interface Cost {
  readonly workPerRow: number;
  readonly isLogit: boolean;
}

/** Replays on the calling thread. */
export class SlicedReplay implements Replay {
  readonly #encoded: Encoded;
  readonly #costs: readonly Cost[];
  readonly #pacer: Pacer;
  /** Null once disposed: it holds the memory. */
  #run: RunKernels | null;

  constructor(run: RunKernels, encoded: Encoded, commands: readonly ScheduledCommand[], pacer: Pacer) {
    this.#run = run;
    this.#encoded = encoded;
    this.#pacer = pacer;
    this.#costs = commands.map((command) => ({
      workPerRow: workPerRow(command),
      isLogit: rowsOf(command) === "logit",
    }));
  }

  /** A command too long for a slice is cut into parts, as threads would share it. */
  async run(rows: StepRows, signal: AbortSignal | undefined): Promise<void> {
    const nCommands = this.#costs.length;
    let first = 0;
    while (first < nCommands) {
      const budget = this.#pacer.workPerSlice;
      let work = this.#workOf(first, rows);
      let last = first + 1;
      while (last < nCommands && work + this.#workOf(last, rows) <= budget) {
        work += this.#workOf(last, rows);
        last += 1;
      }
      const nParts = last - first > 1 ? 1 : this.#pacer.partsOf(work);
      for (let part = 0; part < nParts; part++) {
        // A pause may have let somebody dispose the program.
        if (this.#run === null) throw disposedMeanwhile();
        const start = performance.now();
        this.#run(this.#encoded.context, first, last, part, nParts, 0);
        const now = performance.now();
        this.#pacer.record(work / nParts, now - start);
        if (this.#pacer.isPauseDue(now)) {
          await this.#pacer.pause();
          signal?.throwIfAborted();
        }
      }
      first = last;
    }
  }

  /** Multiply-adds of a whole step. */
  totalWork(rows: StepRows): number {
    let work = 0;
    for (let i = 0; i < this.#costs.length; i++) work += this.#workOf(i, rows);
    return work;
  }

  dispose(): void {
    this.#run = null;
  }

  #workOf(command: number, { nTokens, nLogits }: StepRows): number {
    const { workPerRow: work, isLogit } = this.#costs[command]!;
    return work * (isLogit ? nLogits : nTokens);
  }
}
