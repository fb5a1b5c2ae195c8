// Workers for the engine in browsers: how one is started, and how a module finds that it runs in one.

import { DeviceError } from "../core/errors.ts";
import { portOf, type Port } from "../core/port.ts";

/** By which a worker knows what it was started for. */
const WORKER_NAME = "rwkv-engine";

/** The global object of a worker, as far as it matters here. */
interface WorkerScope {
  readonly name: string;
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  addEventListener(type: string, listener: (event: { readonly data?: unknown }) => void): void;
  close(): void;
}

/**
 * @param module - address of a module that serves an engine where `enginePort` gives it a port
 * @throws DeviceError if the browser refuses
 */
export function startEngine(module: string): Port {
  try {
    return portOf(new Worker(module, { type: "module", name: WORKER_NAME }));
  } catch (cause) {
    throw new DeviceError(
      `The browser starts no worker from ${module}. The module must come from the page's own site, and the page's content ` +
        `security policy must allow it; a worker that was started otherwise can be handed in as \`worker\`.`,
      { cause },
    );
  }
}

/** The line to the page, in a worker that `startEngine` has started; null elsewhere. */
export function enginePort(): Port | null {
  const scope = globalThis as { readonly document?: unknown; readonly name?: unknown };
  return scope.document === undefined && scope.name === WORKER_NAME ? pagePort() : null;
}

/** The line to whoever started this worker. */
export function pagePort(): Port {
  const scope = globalThis as unknown as WorkerScope;
  return {
    post: (message, transfer) => scope.postMessage(message, [...transfer]),
    listen(listener) {
      scope.addEventListener("message", ({ data }) => listener.onMessage(data));
      scope.addEventListener("messageerror", () => listener.onFail(new Error("a message could not be read")));
    },
    close: () => scope.close(),
  };
}
