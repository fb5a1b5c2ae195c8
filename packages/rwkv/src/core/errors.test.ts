import { expect, test } from "vitest";
import {
  DeviceError,
  FormatError,
  RwkvError,
  ShapeError,
  UnsupportedError,
  UsageError,
  type ErrorCode,
} from "./errors.ts";

test.each<[string, ErrorCode, new (message: string, options?: ErrorOptions) => RwkvError]>([
  ["FormatError", "FORMAT", FormatError],
  ["UnsupportedError", "UNSUPPORTED", UnsupportedError],
  ["ShapeError", "SHAPE", ShapeError],
  ["UsageError", "USAGE", UsageError],
  ["DeviceError", "DEVICE", DeviceError],
])("%s is told apart by the code %s, and keeps its cause", (name, code, Kind) => {
  const cause = new RangeError("underneath");
  const error = new Kind("what happened", { cause });
  expect(error).toBeInstanceOf(RwkvError);
  expect(error).toBeInstanceOf(Error);
  expect([error.name, error.message, error.code, error.cause]).toEqual([name, "what happened", code, cause]);
  expect(String(error)).toBe(`${name}: what happened`);
  expect(new Kind("alone").cause).toBeUndefined();
});
