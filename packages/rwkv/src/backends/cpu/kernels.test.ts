import { gzipSync } from "node:zlib";
import { expect, test, vi } from "vitest";
import { DeviceError } from "../../core/errors.ts";
import { createCpuBackend } from "./cpu.ts";
import { KERNELS_BASE64 } from "./generated/kernels.ts";
import { KERNELS_BASE64 as RELAXED_SHARED_BASE64 } from "./generated/kernels-relaxed-shared.ts";
import { KERNELS_BASE64 as RELAXED_BASE64 } from "./generated/kernels-relaxed.ts";
import { KERNELS_BASE64 as SHARED_BASE64 } from "./generated/kernels-shared.ts";
import { findSimd } from "./kernels.ts";

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

test("all modules of kernels together are far below 1 MB, and below 120 kB compressed", () => {
  const texts = [KERNELS_BASE64, SHARED_BASE64, RELAXED_BASE64, RELAXED_SHARED_BASE64];
  expect(texts.join("").length).toBeLessThan(400_000);
  const compressed = texts.reduce((sum, text) => sum + gzipSync(text).byteLength, 0);
  expect(compressed).toBeLessThan(120_000);
});

test("the kernels import one memory and export five functions, and hold no static data", async () => {
  const bytes = bytesOf(KERNELS_BASE64);
  const module = await WebAssembly.compile(bytes);
  expect(WebAssembly.Module.imports(module)).toEqual([{ module: "env", name: "memory", kind: "memory" }]);
  const functions = WebAssembly.Module.exports(module).filter(({ kind }) => kind === "function");
  expect(functions.map(({ name }) => name)).toEqual([
    "run",
    "isFiniteColumns",
    "isFinitePanels",
    "pack",
    "packColumns",
  ]);
  expect(sectionIds(bytes)).not.toContain(GLOBALS);
  expect(sectionIds(bytes)).not.toContain(DATA);
});

test("kernels with relaxed SIMD are chosen where the engine takes them", () => {
  expect(findSimd()).toBe(WebAssembly.validate(bytesOf(RELAXED_BASE64)) ? "relaxed" : "simd");
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
