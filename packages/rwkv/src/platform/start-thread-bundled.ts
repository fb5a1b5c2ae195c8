// In the place of start-thread.ts in the library as one module, which is the file of its threads as well.

import { THREAD_NAME } from "./thread-worker.ts";

/** A worker that runs the task of its first message. */
export function startThread(): Worker {
  return new Worker(import.meta.url, { type: "module", name: THREAD_NAME });
}
