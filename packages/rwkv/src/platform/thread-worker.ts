// How the library as one module finds that it runs as a thread of itself.

import { runThread } from "./thread-loop.js";

/** Name of such a worker. */
export const THREAD_NAME = "rwkv-thread";

/** Whether this is a worker of that name, which should become a thread. */
export function isThread(): boolean {
  const scope = globalThis as { readonly document?: unknown; readonly name?: unknown };
  return scope.document === undefined && scope.name === THREAD_NAME;
}

/** Runs the task of the first message, and does not return from it. */
export function becomeThread(): void {
  addEventListener("message", ({ data }) => runThread(data, (word: string) => postMessage(word)), {
    once: true,
  });
}
