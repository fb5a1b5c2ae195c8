// How the library as one module finds that it runs as a thread of itself.

import type { ThreadTask } from "../core/platform.ts";
import { pagePort } from "./engine-worker.ts";
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
  const port = pagePort();
  port.listen({
    onMessage: (task) => runThread(task as ThreadTask, (word: string) => port.post(word, [])),
    onFail(cause) {
      throw cause; // which its owner hears of as an error of the worker
    },
  });
}
