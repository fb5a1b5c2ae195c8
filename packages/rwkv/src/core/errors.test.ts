import { expect, test } from "vitest";
import {
  DeviceError,
  fileErrorCode,
  FormatError,
  RwkvError,
  ShapeError,
  systemError,
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

test("fileErrorCode tells a file that cannot be opened from any other wrong argument", () => {
  expect(fileErrorCode(new UsageError("a folder", { cause: systemError("EISDIR", "a folder") }))).toBe(
    "EISDIR",
  );
  expect(fileErrorCode(new UsageError("a bad option"))).toBeNull();
  const badAddress = Object.assign(new TypeError("Invalid URL"), { code: "ERR_INVALID_URL" });
  expect(fileErrorCode(new UsageError("no address", { cause: badAddress }))).toBeNull();
  expect(fileErrorCode(new DeviceError("disk", { cause: systemError("ENOENT", "gone") }))).toBeNull();
});
