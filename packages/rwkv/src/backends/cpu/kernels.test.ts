import { expect, test, vi } from "vitest";
import { DeviceError } from "../../core/errors.ts";
import { createCpuBackend } from "./cpu.ts";
import { KERNELS_BASE64 } from "./generated/kernels.ts";

test("the kernels are far below 1 MB, import one memory and export one function, and hold no static data", async () => {
  const bytes = Uint8Array.from(atob(KERNELS_BASE64), (character) => character.charCodeAt(0));
  expect(bytes.length).toBeLessThan(200_000);
  const module = await WebAssembly.compile(bytes);
  expect(WebAssembly.Module.imports(module)).toEqual([{ module: "env", name: "memory", kind: "memory" }]);
  const functions = WebAssembly.Module.exports(module).filter(({ kind }) => kind === "function");
  expect(functions.map(({ name }) => name)).toEqual(["run"]);
  expect(sectionIds(bytes)).not.toContain(GLOBALS);
  expect(sectionIds(bytes)).not.toContain(DATA);
});

test("an engine without SIMD is told what is needed", async () => {
  const compile = vi.spyOn(WebAssembly, "compile").mockRejectedValue(new WebAssembly.CompileError("no SIMD"));
  try {
    await expect(createCpuBackend()).rejects.toThrow(DeviceError);
    await expect(createCpuBackend()).rejects.toThrow(/128-bit SIMD.*Node 20\.19/);
  } finally {
    compile.mockRestore();
  }
});

/** Section numbers of the WebAssembly binary format. */
const GLOBALS = 6;
const DATA = 11;

function sectionIds(bytes: Uint8Array): number[] {
  const ids: number[] = [];
  let at = 8; // magic and version
  while (at < bytes.length) {
    ids.push(bytes[at++]!);
    let byteLength = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      byteLength |= (byte & 127) << shift;
      if (byte < 128) break;
    }
    at += byteLength;
  }
  return ids;
}
