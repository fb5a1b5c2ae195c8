// Threads of browsers: workers over a SharedArrayBuffer, which a page has only if it is cross-origin isolated.

import type { ThreadHost } from "../core/platform.ts";

/** Null in a page that may not share memory. */
export const browserThreads: ThreadHost | null =
  (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated === true
    ? {
        nCores: navigator.hardwareConcurrency,

        spawnThread(task, listener) {
          // Bundlers recognise this form and give the file a name of its own.
          const worker = new Worker(new URL("./thread.js", import.meta.url), { type: "module" });
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
