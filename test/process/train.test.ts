// rwkv train as people run it: a process that may be killed at any moment, and started again.

import { type ChildProcess } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { byteVocabulary } from "../../packages/train/src/testing.ts";
import { rwkv, temporaryFolder } from "../support/cli.ts";

const folder = temporaryFolder();
const at = (name: string): string => join(folder.path, name);
afterAll(() => folder.remove());

const CONFIG = {
  mode: "full",
  out: "whole",
  tokenizer: "vocab.txt",
  model: { layers: 2, embedding: 16, headSize: 8, ranks: { decay: 4, rate: 4, value: 4, gate: 4 } },
  data: { files: ["data.jsonl"], batch: 4, context: 16 },
  tokens: 60 * 64,
  rate: { from: 0.005, to: 0.001 },
  checkpointSteps: 7,
  threads: 2,
};

function config(name: string, changes: object): string {
  writeFileSync(at(`${name}.json`), JSON.stringify({ ...CONFIG, out: name, ...changes }));
  return at(`${name}.json`);
}

beforeAll(() => {
  writeFileSync(at("vocab.txt"), byteVocabulary());
  const texts = Array.from({ length: 60 }, (_, i) => "abcdefghijklm".slice(i % 7).repeat(1 + (i % 3)));
  writeFileSync(at("data.jsonl"), texts.map((text) => `${JSON.stringify({ text })}\n`).join(""));
});

/** Sends a signal once the file of losses has so many lines. */
function whenSteps(name: string, nSteps: number, signal: NodeJS.Signals): (child: ChildProcess) => void {
  return (child) => {
    const path = at(`${name}/losses.jsonl`);
    const timer = setInterval(() => {
      if (!existsSync(path) || readFileSync(path, "utf8").split("\n").length <= nSteps) return;
      clearInterval(timer);
      child.kill(signal);
    }, 2);
    child.on("exit", () => clearInterval(timer));
  };
}

describe("rwkv train", () => {
  test("prints progress to stderr and the path of the model to stdout", async () => {
    const { code, stdout, stderr } = await rwkv(["train", config("whole", {})]);
    expect(code).toBe(0);
    expect(stdout).toBe(`${at("whole/model.safetensors")}\n`);
    expect(stderr).toMatch(/step 60 {2}3840 tokens {2}loss \d\.\d{4} {2}.* tokens\/s {2}0:00:00 left\n$/);
    expect(readFileSync(at("whole/losses.jsonl"), "utf8").trim().split("\n")).toHaveLength(60);
  });

  test("killed twice and started again, it has the losses and the model of the run that was not", async () => {
    const path = config("killed", {});
    for (const nSteps of [11, 25]) {
      const { signal } = await rwkv(["train", path], { onStart: whenSteps("killed", nSteps, "SIGKILL") });
      expect(signal).toBe("SIGKILL");
    }
    const { code, stderr } = await rwkv(["train", path]);
    expect(code).toBe(0);
    expect(stderr).toMatch(/going on after step (21|28|35|42|49|56)\n/);
    for (const file of ["losses.jsonl", "model.safetensors", "loss.svg"]) {
      expect(readFileSync(at(`killed/${file}`))).toEqual(readFileSync(at(`whole/${file}`)));
    }
  });

  test("Ctrl-C saves a checkpoint and exits with 130; the next run goes on from that step", async () => {
    const path = config("interrupted", { checkpointSteps: 1000 });
    const { code } = await rwkv(["train", path], { onStart: whenSteps("interrupted", 5, "SIGINT") });
    expect(code).toBe(130);
    const done = readFileSync(at("interrupted/losses.jsonl"), "utf8").trim().split("\n").length;
    const next = await rwkv(["train", path]);
    expect(next.stderr).toContain(`going on after step ${done}\n`);
    expect(readFileSync(at("interrupted/losses.jsonl"))).toEqual(readFileSync(at("whole/losses.jsonl")));
  });

  test.each([
    [{ tokenz: 3 }, 2, "rwkv: tokenz is no key of the configuration; expected mode, "],
    [{ tokens: "all" }, 2, 'rwkv: tokens should be a whole number from 1 to 9007199254740991; found "all".'],
  ])("%j is refused by name", async (changes, exitCode, message) => {
    const { code, stderr } = await rwkv(["train", config("wrong", changes)]);
    expect(code).toBe(exitCode);
    expect(stderr).toContain(message);
  });

  test("a configuration that is not there, or is not JSON, is named", async () => {
    writeFileSync(at("broken.json"), "{");
    const broken = await rwkv(["train", at("broken.json")]);
    expect(broken).toMatchObject({ code: 2 });
    expect(broken.stderr).toContain("broken.json is not JSON");
    const missing = await rwkv(["train", at("missing.json")]);
    expect(missing.code).toBe(1);
    expect(missing.stderr).toContain("missing.json cannot be read");
  });
});
