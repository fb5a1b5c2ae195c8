// Threads of Node: worker_threads.

import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { ThreadHost } from "../../core/platform.ts";

export const nodeThreads: ThreadHost = {
  nCores: availableParallelism(),

  spawnThread(task, listener) {
    // Flags of this process, such as a test runner's loader, are not for this file.
    const worker = new Worker(new URL("./thread.js", import.meta.url), { workerData: task, execArgv: [] });
    let isTerminated = false;
    worker.on("message", (word: "ready" | "finish") => {
      if (isTerminated) return;
      if (word === "ready") listener.onReady();
      else listener.onFinish();
    });
    let failure: unknown = null;
    worker.on("error", (error) => (failure = error));
    worker.on("exit", (code) => {
      if (!isTerminated) listener.onFail(failure ?? new Error(`The worker ended with code ${code}.`));
    });
    return {
      keepAlive(isWanted) {
        if (isWanted) worker.ref();
        else worker.unref();
      },
      terminate() {
        isTerminated = true;
        void worker.terminate();
      },
    };
  },
};
