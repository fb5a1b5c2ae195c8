// Calls between two threads over a port, both ways alike: arguments and results are cloned or moved, errors keep their class, a
// signal on one side is a signal on the other. Calls arrive in the order in which they were made.

import { fromErrorMessage, toErrorMessage, type ErrorMessage } from "../../core/error-message.ts";
import { DeviceError } from "../../core/errors.ts";
import type { Port } from "../../core/port.ts";

/** The calls that one side answers: what each takes and gives. */
export type Calls<Table> = {
  readonly [Name in keyof Table]: { readonly takes: unknown; readonly gives: unknown };
};

/** A result, and which of its memory moves over to the caller. */
export interface Answer<Value> {
  readonly value: Value;
  readonly transfer?: readonly ArrayBuffer[];
}

/** What answers each call. */
export type Handlers<Answered extends Calls<Answered>> = {
  readonly [Name in keyof Answered]: (
    argument: Answered[Name]["takes"],
    signal: AbortSignal,
  ) => Answer<Answered[Name]["gives"]> | Promise<Answer<Answered[Name]["gives"]>>;
};

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Memory of the argument that moves over. */
  readonly transfer?: readonly ArrayBuffer[];
}

type Message =
  | { readonly kind: "call"; readonly id: number; readonly name: string; readonly argument: unknown }
  | { readonly kind: "abort"; readonly id: number }
  | { readonly kind: "result"; readonly id: number; readonly value: unknown }
  | { readonly kind: "error"; readonly id: number; readonly error: ErrorMessage | "aborted" };

interface Pending {
  readonly signal: AbortSignal | undefined;
  resolve(value: unknown): void;
  reject(reason: unknown): void;
}

export class Channel<Made extends Calls<Made>, Answered extends Calls<Answered>> {
  readonly #port: Port;
  readonly #handlers: Handlers<Answered>;
  readonly #pending = new Map<number, Pending>();
  readonly #running = new Map<number, AbortController>();
  #nCalls = 0;
  #closedReason: Error | null = null;

  constructor(port: Port, handlers: Handlers<Answered>) {
    this.#port = port;
    this.#handlers = handlers;
    port.listen({
      onMessage: (message) => this.#receive(message as Message),
      onFail: (cause) => {
        const why = cause instanceof Error && cause.message !== "" ? `: ${cause.message}` : "";
        this.close(
          new DeviceError(
            `The worker of the engine could not start or has ended${why}. Load the model again; snapshots and saved sessions ` +
              `go on there.`,
            { cause },
          ),
        );
      },
    });
  }

  /**
   * @throws what the other side throws, the signal's reason if aborted, the reason of `close`
   */
  async call<Name extends keyof Made & string>(
    name: Name,
    argument: Made[Name]["takes"],
    { signal, transfer = [] }: CallOptions = {},
  ): Promise<Made[Name]["gives"]> {
    signal?.throwIfAborted();
    if (this.#closedReason !== null) throw this.#closedReason;
    const id = this.#nCalls++;
    const abort = (): void => this.#post({ kind: "abort", id });
    signal?.addEventListener("abort", abort);
    try {
      return await new Promise<Made[Name]["gives"]>((resolve, reject) => {
        this.#post({ kind: "call", id, name, argument }, transfer);
        this.#pending.set(id, { signal, resolve, reject });
      });
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** A call whose end nobody waits for. */
  tell<Name extends keyof Made & string>(name: Name, argument: Made[Name]["takes"]): void {
    // It fails only where the line ends, which those who wait hear of.
    this.call(name, argument).catch(() => undefined);
  }

  /** Ends the line; what waits and what comes later is refused for this reason. */
  close(reason: Error): void {
    if (this.#closedReason !== null) return;
    this.#closedReason = reason;
    this.#port.close();
    for (const waiting of this.#pending.values()) waiting.reject(reason);
    this.#pending.clear();
    for (const controller of this.#running.values()) controller.abort(reason);
  }

  #post(message: Message, transfer: readonly ArrayBuffer[] = []): void {
    if (this.#closedReason === null) this.#port.post(message, transfer);
  }

  #receive(message: Message): void {
    if (this.#closedReason !== null) return;
    switch (message.kind) {
      case "call":
        void this.#answer(message.id, message.name as keyof Answered, message.argument);
        return;
      case "abort":
        this.#running.get(message.id)?.abort();
        return;
      default: {
        const pending = this.#pending.get(message.id);
        this.#pending.delete(message.id);
        if (message.kind === "result") pending?.resolve(message.value);
        else if (message.error === "aborted") pending?.reject(pending.signal?.reason);
        else pending?.reject(fromErrorMessage(message.error));
      }
    }
  }

  async #answer(id: number, name: keyof Answered, argument: unknown): Promise<void> {
    const controller = new AbortController();
    this.#running.set(id, controller);
    try {
      const { value, transfer } = await this.#handlers[name](argument, controller.signal);
      this.#post({ kind: "result", id, value }, transfer);
    } catch (error) {
      const { signal } = controller;
      const isAbort = signal.aborted && error === signal.reason;
      this.#post({ kind: "error", id, error: isAbort ? "aborted" : toErrorMessage(error) });
    } finally {
      this.#running.delete(id);
    }
  }
}
