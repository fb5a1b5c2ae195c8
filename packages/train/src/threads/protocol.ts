// What the caller's thread and a worker say to one another, and how a share of the work answers. One request at a time
// per worker, each with one reply.

import type { KernelName } from "../kernels/load.ts";
import type { Numbers, TrainMemory } from "../kernels/kernels.ts";
import type { TrainSetup } from "./setup.ts";
import type { Sequence, Share, UpdateOptions } from "./share.ts";

/** What a worker is started with. */
export interface WorkerStart {
  readonly setup: TrainSetup;
  readonly kernels: KernelName;
  readonly memory: TrainMemory;
  readonly thread: number;
}

export type Request =
  | { readonly kind: "accumulate"; readonly sequences: readonly Sequence[]; readonly weight: number }
  | { readonly kind: "evaluate"; readonly sequences: readonly Sequence[] }
  | { readonly kind: "reduce" }
  | { readonly kind: "update"; readonly options: UpdateOptions }
  | { readonly kind: "readStates" }
  | { readonly kind: "writeStates"; readonly states: ReadonlyMap<number, Numbers> };

/** A number, states, or nothing. */
export type Answer = number | ReadonlyMap<number, Numbers> | null;

export type Reply =
  { readonly kind: "done"; readonly value: Answer } | { readonly kind: "failed"; readonly error: unknown };

export function answer(share: Share, request: Request): Answer {
  switch (request.kind) {
    case "accumulate":
      return share.accumulate(request.sequences, request.weight);
    case "evaluate":
      return share.evaluate(request.sequences);
    case "reduce":
      return share.reduce();
    case "update":
      share.update(request.options);
      return null;
    case "readStates":
      return share.readStates();
    case "writeStates":
      share.writeStates(request.states);
      return null;
  }
}
