// Errors on their way to another thread. Cloned, an error keeps neither its class nor its code; here it keeps both, and what it
// says is its cause.

import {
  DeviceError,
  FormatError,
  RwkvError,
  ShapeError,
  UnsupportedError,
  UsageError,
  type ErrorCode,
} from "./errors.ts";

/** An error, or whatever else was thrown, as a value that can be cloned. */
export type ErrorMessage =
  | ({ readonly kind: "rwkv"; readonly code: ErrorCode } & ErrorParts)
  | ({ readonly kind: "error"; readonly name: string; readonly code?: string } & ErrorParts)
  | { readonly kind: "dom"; readonly name: string; readonly message: string }
  | { readonly kind: "other"; readonly text: string };

interface ErrorParts {
  readonly message: string;
  readonly stack: string | undefined;
  readonly cause?: ErrorMessage;
}

const CLASSES = {
  FORMAT: FormatError,
  UNSUPPORTED: UnsupportedError,
  SHAPE: ShapeError,
  USAGE: UsageError,
  DEVICE: DeviceError,
} as const satisfies Record<ErrorCode, unknown>;

/** Causes of causes that are told. */
const MAX_DEPTH = 4;

export function toErrorMessage(error: unknown, depth = MAX_DEPTH): ErrorMessage {
  if (error instanceof DOMException) return { kind: "dom", name: error.name, message: error.message };
  if (!(error instanceof Error)) return { kind: "other", text: String(error) };
  const { message, stack, name, cause } = error;
  const parts = {
    message,
    stack,
    ...(cause !== undefined && depth > 0 && { cause: toErrorMessage(cause, depth - 1) }),
  };
  if (error instanceof RwkvError) return { kind: "rwkv", code: error.code, ...parts };
  const code = "code" in error && typeof error.code === "string" ? { code: error.code } : {};
  return { kind: "error", name, ...code, ...parts };
}

/** What can be thrown in its place. */
export function fromErrorMessage(told: ErrorMessage): unknown {
  if (told.kind === "other") return told.text;
  if (told.kind === "dom") return new DOMException(told.message, told.name);
  const options = told.cause === undefined ? {} : { cause: fromErrorMessage(told.cause) };
  const error =
    told.kind === "rwkv" ? new CLASSES[told.code](told.message, options) : otherError(told, options);
  if (told.stack !== undefined) error.stack = told.stack;
  return error;
}

function otherError(
  { name, message, code }: Extract<ErrorMessage, { kind: "error" }>,
  options: ErrorOptions,
): Error {
  const error = new Error(message, options);
  return Object.assign(error, { name }, code !== undefined && { code });
}
