// Ctrl-C: the first press stops the work in an orderly way, the second one ends the process at once.

import { Interrupted, EXIT } from "./errors.ts";

export interface InterruptScope {
  readonly signal: AbortSignal;
  /** @throws Interrupted if Ctrl-C was pressed */
  readonly check: () => void;
}

type Listener = (name: NodeJS.Signals) => void;

/** Those who want to hear of Ctrl-C; it is told to the last of them only. */
const listeners: Listener[] = [];

function tellLast(name: NodeJS.Signals): void {
  listeners.at(-1)?.(name);
}

/**
 * Calls `listener` on Ctrl-C, except while work that began later hears of it.
 * @returns ends it
 */
export function listenForInterrupt(listener: Listener): () => void {
  if (listeners.push(listener) === 1) process.on("SIGINT", tellLast);
  return () => {
    listeners.splice(listeners.lastIndexOf(listener), 1);
    if (listeners.length === 0) process.off("SIGINT", tellLast);
  };
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
  const endListening = listenForInterrupt(onSignal);
  process.on("SIGTERM", onSignal);
  try {
    return await work({ signal: controller.signal, check });
  } finally {
    endListening();
    process.off("SIGTERM", onSignal);
  }
}
