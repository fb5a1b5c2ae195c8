// What arrives in another thread is what was thrown: its class, its words, its code and its causes.

import { expect, test } from "vitest";
import { fromErrorMessage, toErrorMessage } from "./error-message.ts";
import type { RwkvError } from "./errors.ts";
import {
  DeviceError,
  fileErrorCode,
  FormatError,
  ShapeError,
  systemError,
  UnsupportedError,
  UsageError,
} from "./errors.ts";

const arrive = (error: unknown): unknown => fromErrorMessage(structuredClone(toErrorMessage(error)));

test.each([DeviceError, FormatError, ShapeError, UnsupportedError, UsageError])(
  "%s keeps class, code and words",
  (Class) => {
    const sent: RwkvError = new Class("expected 3, found 4");
    const got = arrive(sent) as RwkvError;
    expect(got).toBeInstanceOf(Class);
    expect([got.name, got.code, got.message, got.stack]).toEqual([
      sent.name,
      sent.code,
      sent.message,
      sent.stack,
    ]);
  },
);

test("causes come along, with the codes of the system", () => {
  const got = arrive(new UsageError("no file", { cause: systemError("ENOENT", "404") }));
  expect(fileErrorCode(got)).toBe("ENOENT");
  expect((got as Error).cause).toBeInstanceOf(Error);
});

test("a chain of causes that runs in a circle ends", () => {
  const first = new Error("first");
  first.cause = new Error("second", { cause: first });
  expect(((arrive(first) as Error).cause as Error).message).toBe("second");
});

test("other errors keep their names, and what is no error its text", () => {
  const dom = arrive(new DOMException("too late", "AbortError")) as DOMException;
  expect([dom instanceof DOMException, dom.name, dom.message]).toEqual([true, "AbortError", "too late"]);
  expect((arrive(new TypeError("not callable")) as Error).name).toBe("TypeError");
  expect(arrive(42)).toBe("42");
});
