// A program that the worker serves: its slots by the page's numbers.

import type { Program, Run, StepOptions } from "../../ops/backend.ts";
import { UsageError } from "../../core/errors.ts";

/** A slot of the program, or why there is none. */
type Slot = { readonly number: number } | { readonly error: unknown };

export class ServedProgram {
  readonly program: Program;
  readonly #slots = new Map<number, Slot>();

  constructor(program: Program) {
    this.program = program;
  }

  /** @throws what the making of the slot has thrown */
  slotOf(slot: number): number {
    const found = this.#slots.get(slot)!;
    if ("error" in found) throw found.error;
    return found.number;
  }

  createSlot(slot: number, copyOf: number | undefined): void {
    try {
      const number = this.program.createSlot(copyOf === undefined ? undefined : this.slotOf(copyOf));
      this.#slots.set(slot, { number });
    } catch (error) {
      this.#slots.set(slot, { error });
      throw error;
    }
  }

  releaseSlot(slot: number): void {
    const found = this.#slots.get(slot)!;
    this.#slots.delete(slot);
    if ("number" in found) this.program.releaseSlot(found.number);
  }

  /** A copy of what the step returns. */
  async step(
    runs: readonly Run[],
    inputs: readonly Float32Array[],
    options: StepOptions,
  ): Promise<Float32Array<ArrayBuffer>> {
    const own = runs.map((run) => ({ ...run, slot: this.slotOf(run.slot) }));
    return (await this.program.step(own, inputs, options)).slice();
  }

  readLogits(slot: number): Promise<Float32Array> {
    const { program } = this;
    if (program.readLogits !== undefined) return program.readLogits(this.slotOf(slot));
    throw new UsageError("the program makes no shortlists of logits, and keeps none; read them from a step.");
  }
}
