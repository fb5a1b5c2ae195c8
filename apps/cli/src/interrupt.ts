// Ctrl-C: the first press stops the work in an orderly way, the second one ends the process at once.

import { Interrupted, EXIT } from "./errors.ts";

export interface InterruptScope {
  readonly signal: AbortSignal;
  /** @throws Interrupted if Ctrl-C was pressed */
  readonly check: () => void;
}

/** Runs `work` with a signal that SIGINT and SIGTERM abort. */
export async function withInterrupt<Result>(
  work: (scope: InterruptScope) => Promise<Result>,
): Promise<Result> {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort(new Interrupted(name));
  };
  const check = (): void => {
    controller.signal.throwIfAborted();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  try {
    return await work({ signal: controller.signal, check });
  } finally {
    process.off("SIGINT", onSignal);
    process.off("SIGTERM", onSignal);
  }
}
