// Threads of browsers: workers over a SharedArrayBuffer, which a page has only if it is cross-origin isolated.

import type { ThreadHost } from "../core/platform.ts";
import { startThread } from "./start-thread.ts";

/** Null in a page that may not share memory. */
export const browserThreads: ThreadHost | null =
  (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated === true
    ? {
        nCores: navigator.hardwareConcurrency,

        spawnThread(task, listener) {
          const worker = startThread();
          worker.onmessage = ({ data }: MessageEvent<"ready" | "finish">) => {
            if (data === "ready") listener.onReady();
            else listener.onFinish();
          };
          worker.onerror = ({ message }) => listener.onFail(new Error(message));
          worker.postMessage(task);
          return {
            keepAlive: () => undefined, // a page lives without reasons
            terminate() {
              worker.onmessage = null;
              worker.onerror = null;
              worker.terminate();
            },
          };
        },
      }
    : null;
