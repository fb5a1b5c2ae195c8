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

/** The command lists of one program, ready to run. */
export interface Replay {
  /**
   * Runs all commands of a part once; its run table is written already. One at a time.
   * @param part - its number
   * @throws the signal's reason if aborted; the slots are then somewhere between before and after
   * @throws UsageError if disposed meanwhile
   */
  run(part: number, rows: StepRows, signal: AbortSignal | undefined): Promise<void>;
  dispose(): void;
}

/** A part of a program in WebAssembly. */
export interface WasmPart {
  readonly memory: WebAssembly.Memory;
  readonly encoded: Encoded;
  /** Those that were encoded. */
  readonly commands: readonly ScheduledCommand[];
}

/** The way in which all programs of a backend run. */
export interface Replayer {
  readonly nThreads: number;
  /** The kernels. */
  readonly module: WebAssembly.Module;
  /**
   * A memory for one program, one page long.
   * @throws RangeError if the system refuses it
   */
  createMemory(): WebAssembly.Memory;
  start(parts: readonly WasmPart[]): Promise<Replay>;
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
    start: (parts) => startSliced(module, parts, pacer),
  };
}

/** Makes the instances of the kernels, of either module, for the calling thread. */
export async function startSliced(
  module: WebAssembly.Module,
  parts: readonly WasmPart[],
  pacer: Pacer,
): Promise<SlicedReplay> {
  const sliced = parts.map(async ({ memory, encoded, commands }) => ({
    run: await instantiateKernels(module, memory),
    context: encoded.context,
    costs: commands.map((command) => ({
      workPerRow: workPerRow(command),
      isLogit: rowsOf(command) === "logit",
    })),
  }));
  return new SlicedReplay(await Promise.all(sliced), pacer);
}

/** The cost of a command per row, and of which rows. */
interface Cost {
  readonly workPerRow: number;
  readonly isLogit: boolean;
}

interface SlicedPart {
  readonly run: RunKernels;
  readonly context: number;
  /** Of each command. */
  readonly costs: readonly Cost[];
}

/** Replays on the calling thread. */
export class SlicedReplay implements Replay {
  /** Null once disposed: it holds the memories. */
  #parts: readonly SlicedPart[] | null;
  readonly #pacer: Pacer;

  constructor(parts: readonly SlicedPart[], pacer: Pacer) {
    this.#parts = parts;
    this.#pacer = pacer;
  }

  /** A command too long for a slice is cut into pieces, as threads would share it. */
  async run(part: number, rows: StepRows, signal: AbortSignal | undefined): Promise<void> {
    const { costs } = this.#aliveParts()[part]!;
    const nCommands = costs.length;
    let first = 0;
    while (first < nCommands) {
      const budget = this.#pacer.workPerSlice;
      let work = workOf(costs[first]!, rows);
      let last = first + 1;
      while (last < nCommands && work + workOf(costs[last]!, rows) <= budget) {
        work += workOf(costs[last]!, rows);
        last += 1;
      }
      const nPieces = last - first > 1 ? 1 : this.#pacer.partsOf(work);
      for (let piece = 0; piece < nPieces; piece++) {
        // A pause may have let somebody dispose the program.
        const { run, context } = this.#aliveParts()[part]!;
        const start = performance.now();
        run(context, first, last, piece, nPieces, 0);
        const now = performance.now();
        this.#pacer.record(work / nPieces, now - start);
        if (this.#pacer.isPauseDue(now)) {
          await this.#pacer.pause();
          signal?.throwIfAborted();
        }
      }
      first = last;
    }
  }

  /** Multiply-adds of a part in one step. */
  workOfPart(part: number, rows: StepRows): number {
    let work = 0;
    for (const cost of this.#aliveParts()[part]!.costs) work += workOf(cost, rows);
    return work;
  }

  dispose(): void {
    this.#parts = null;
  }

  #aliveParts(): readonly SlicedPart[] {
    if (this.#parts === null) throw disposedMeanwhile();
    return this.#parts;
  }
}

function workOf({ workPerRow: work, isLogit }: Cost, { nTokens, nLogits }: StepRows): number {
  return work * (isLogit ? nLogits : nTokens);
}
