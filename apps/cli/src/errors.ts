// From errors to exit codes and messages. The library throws; only here does something print or exit.

import { fileErrorCode, RwkvError, UsageError } from "rwkv";

export const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const;

/** Ctrl-C; what had been produced has been handed out. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof Interrupted) return EXIT.interrupted;
  return error instanceof UsageError && fileErrorCode(error) === null ? EXIT.usage : EXIT.failure;
}

/** One line for what was foreseen; the stack as well for what was not. */
export function reportError(error: unknown): void {
  const { stderr } = process;
  const prefix = stderr.isTTY && stderr.hasColors() ? "\u001b[31mrwkv:\u001b[39m" : "rwkv:";
  if (error instanceof RwkvError) {
    stderr.write(`${prefix} ${error.message}\n`);
  } else {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    stderr.write(`${prefix} unexpected error, please report it: ${text}\n`);
  }
}
