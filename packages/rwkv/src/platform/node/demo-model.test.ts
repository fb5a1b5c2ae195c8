import { expect, test } from "vitest";
import { findDemoModel } from "./demo-model.ts";

function failing(code: string): () => never {
  return () => {
    throw Object.assign(new Error(code), { code });
  };
}

test("the model's path where the package is installed", () => {
  expect(findDemoModel((specifier) => `/node_modules/${specifier}`)).toBe(
    "/node_modules/rwkv-demo-model/model.safetensors",
  );
});

test("null where the package, or the model in it, is missing", () => {
  expect(findDemoModel(failing("MODULE_NOT_FOUND"))).toBeNull();
  expect(findDemoModel(failing("ERR_PACKAGE_PATH_NOT_EXPORTED"))).toBeNull();
});

test("a package that cannot be read is no missing one", () => {
  expect(() => findDemoModel(failing("ERR_INVALID_PACKAGE_CONFIG"))).toThrow("ERR_INVALID_PACKAGE_CONFIG");
});
