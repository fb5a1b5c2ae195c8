// An engine behind the two ends of a message channel, in this thread: what a worker in a browser does, for tests in Node.

import { MessageChannel } from "node:worker_threads";
import type { Platform } from "../../packages/rwkv/src/core/platform.ts";
import { portOf, type EngineWorker } from "../../packages/rwkv/src/core/port.ts";
import { nodePlatform } from "../../packages/rwkv/src/platform/node/platform.ts";
import { serveEngine } from "../../packages/rwkv/src/runtime/worker/serve.ts";

type Listener = Parameters<EngineWorker["addEventListener"]>[1];

export interface TestWorker extends EngineWorker {
  readonly isTerminated: boolean;
  /** Ends as a worker does that has run out of memory. */
  fail(message: string): void;
}

/** A worker that serves an engine; as the module of a page does, it knows the origin's files and no others. */
export function engineWorker(platform: Platform = nodePlatform): TestWorker {
  const { port1, port2 } = new MessageChannel();
  const ends = [port1, port2].map((port) => ({
    postMessage: (message: unknown, transfer: ArrayBuffer[]) => port.postMessage(message, transfer),
    addEventListener(type: "message" | "messageerror" | "error", listener: Listener) {
      if (type === "message") port.on("message", (data: unknown) => listener({ data }));
    },
    terminate: () => port.close(),
  }));
  const [page, worker] = ends as [EngineWorker, EngineWorker];
  serveEngine(platform, portOf(worker));
  let isTerminated = false;
  let onError: Listener | null = null;
  return {
    postMessage: (message, transfer) => page.postMessage(message, transfer),
    addEventListener(type, listener) {
      if (type === "error") onError = listener;
      else page.addEventListener(type, listener);
    },
    terminate() {
      isTerminated = true;
      page.terminate();
    },
    get isTerminated() {
      return isTerminated;
    },
    fail: (message) => onError?.({ message }),
  };
}
