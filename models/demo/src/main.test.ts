// The built command, as a process.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { run } from "../../../test/support/cli.ts";
import { casesOf, SUITES } from "./suites.ts";

const MAIN = resolve(import.meta.dirname, "../dist/main.js");
const demo = (...args: string[]) => run(process.execPath, [MAIN, ...args]);

test.each([
  [["nonsense"], 'Unknown command "nonsense"'],
  [[], "Unknown command"],
  [["eval", "--nonsense"], "Unknown option '--nonsense'"],
  [["eval", "--only", "juggling"], 'No suite is called "juggling". There are: two-digit addition'],
  [["cases"], "cases takes one folder"],
])("%j is wrong usage", async (args, message) => {
  const { code, stdout, stderr } = await demo(...args);
  expect(stderr).toContain(message);
  expect(stdout).toBe("");
  expect(code).toBe(2);
});

test("cases writes a file for each suite with one right answer", async () => {
  const folder = mkdtempSync(join(tmpdir(), "rwkv-demo-"));
  try {
    expect((await demo("cases", folder)).code).toBe(0);
    const suites = SUITES.filter(({ temperature }) => temperature === 0);
    expect(readdirSync(folder)).toHaveLength(suites.length);
    const lines = readFileSync(join(folder, "two-digit-addition.jsonl"), "utf8").trimEnd().split("\n");
    const [first] = casesOf(SUITES[0]!, 2);
    expect(lines).toHaveLength(SUITES[0]!.nCases);
    expect(JSON.parse(lines[0]!)).toEqual({ prompt: first!.prompt, answer: first!.expected });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a model that is not there is a failure that names the file", async () => {
  const { code, stderr } = await demo("eval", "--model", "no-such.safetensors");
  expect(stderr).toContain("no-such.safetensors");
  expect(code).not.toBe(0);
});
