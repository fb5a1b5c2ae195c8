import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UsageError } from "rwkv";
import { expect, test } from "vitest";
import { llamaEngine, runRwkv } from "./engines.ts";
import { parseChoices, parseCount } from "./script.ts";
import { markdownTable } from "./table.ts";

test("counts are whole numbers of at least 1, and anything else names the flag", () => {
  expect(parseCount("rounds", "12")).toBe(12);
  for (const text of ["0", "-1", "1.5", "many", ""]) {
    expect(() => parseCount("rounds", text)).toThrow(UsageError);
    expect(() => parseCount("rounds", text)).toThrow(/--rounds is ".*"; expected a whole number/);
  }
});

test("a list keeps its order, and an unknown name is answered with the known ones", () => {
  const parse = (text: string): string[] => parseChoices("dtypes", text, ["f16", "q8_0"], (name) => name);
  expect(parse("q8_0,f16")).toEqual(["q8_0", "f16"]);
  expect(() => parse("f16,q3")).toThrow(UsageError);
  expect(() => parse("f16,q3")).toThrow(/--dtypes names "q3"; expected a list of f16, q8_0/);
});

test("llama.cpp that is not installed is answered with the command that installs it", () => {
  const folder = mkdtempSync(join(tmpdir(), "rwkv-bench-"));
  try {
    expect(() => llamaEngine(folder, 1)).toThrow(UsageError);
    expect(() => llamaEngine(folder, 1)).toThrow(/npm ci --ignore-scripts --prefix bench\/peers/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a child that fails is reported with its exit code and what it wrote to stderr", async () => {
  const options = { promptTokens: 1, decodeTokens: 1, threads: 1 };
  const kernels = { node: process.execPath, native: "0" } as const;
  await expect(runRwkv("missing.gguf", kernels, options)).rejects.toThrow(
    /ended with code 1: rwkv: .*missing\.gguf/,
  );
});

test("tables are aligned, numbers to the right", () => {
  const rows = [
    ["model", "speed"],
    ["a", "1.0"],
  ];
  expect(markdownTable(rows, 1)).toBe(
    ["| model | speed |", "| ----- | ----: |", "| a     |   1.0 |"].join("\n"),
  );
});
