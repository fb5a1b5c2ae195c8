// A line between two threads, and the workers of browsers as one end of it.

/** One end of a line between two threads. */
export interface Port {
  /**
   * Sends a value that can be cloned; it arrives after all that was sent before.
   * @param transfer - memory that moves over
   */
  post(message: unknown, transfer: readonly ArrayBuffer[]): void;
  /** Hears what comes, from the first message on; called once. */
  listen(listener: PortListener): void;
  /** Ends the worker. */
  close(): void;
}

/** What is heard at an end. */
export interface PortListener {
  onMessage(message: unknown): void;
  /** The worker could not start or has failed, or a message could not be read; nothing follows. */
  onFail(cause: unknown): void;
}

/** A worker as browsers have them, as far as an engine needs it. */
export interface EngineWorker {
  /** Sends a value that can be cloned, and moves memory over. */
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  /** What the worker sends, and how it fails. */
  addEventListener(
    type: "message" | "messageerror" | "error",
    listener: (event: { readonly data?: unknown; readonly message?: string }) => void,
  ): void;
  /** Ends the worker at once. */
  terminate(): void;
}

/** The end of whoever started the worker. */
export function portOf(worker: EngineWorker): Port {
  return {
    post: (message, transfer) => worker.postMessage(message, [...transfer]),
    listen(listener) {
      worker.addEventListener("message", ({ data }) => listener.onMessage(data));
      worker.addEventListener("messageerror", () =>
        listener.onFail(new Error("a message could not be read")),
      );
      worker.addEventListener("error", ({ message }) => listener.onFail(new Error(message ?? "")));
    },
    close: () => worker.terminate(),
  };
}
