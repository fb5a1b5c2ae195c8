// The five kinds of error this library throws. They are told apart by `code`, so that a caller can act on the kind
// without matching sentences. A message says what was expected, what was found, where, and what to do.

/** The kind of an error; each belongs to one class. */
export type ErrorCode = "FORMAT" | "UNSUPPORTED" | "SHAPE" | "USAGE" | "DEVICE";

/** Base of the five kinds; `code` tells them apart, `cause` keeps the error underneath. */
export abstract class RwkvError extends Error {
  abstract readonly code: ErrorCode;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The bytes are wrong: a file is cut short, damaged, or not of the format it claims. */
export class FormatError extends RwkvError {
  readonly code = "FORMAT";
}

/** The bytes are fine, but this library does not do that: an experimental architecture, a rare block type. */
export class UnsupportedError extends RwkvError {
  readonly code = "UNSUPPORTED";
}

/** Two shapes do not fit together: the caller of an operation is wrong. */
export class ShapeError extends RwkvError {
  readonly code = "SHAPE";
}

/** An option or argument is wrong; nothing was changed. */
export class UsageError extends RwkvError {
  readonly code = "USAGE";
}

/** The device failed: out of memory, lost, or missing. */
export class DeviceError extends RwkvError {
  readonly code = "DEVICE";
}

/** What a file system would have thrown; the cause of a UsageError about a file that was found wanting otherwise. */
export function systemError(code: "ENOENT" | "EISDIR", message: string): Error {
  return Object.assign(new Error(message), { code });
}

/**
 * Tells a file that cannot be opened or written from any other wrong argument.
 * @returns the system's code (`ENOENT`, `EISDIR`, `EACCES`) that caused a UsageError; null for all other errors
 */
export function fileErrorCode(error: unknown): string | null {
  if (!(error instanceof UsageError)) return null;
  const { cause } = error;
  if (typeof cause !== "object" || cause === null || !("code" in cause)) return null;
  // Node's own codes, such as ERR_INVALID_URL, say that an argument is wrong.
  return typeof cause.code === "string" && /^E[A-Z]+$/.test(cause.code) ? cause.code : null;
}
