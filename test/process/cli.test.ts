// The command as people run it: real processes, real files, exit codes, what goes to stdout and what to stderr.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HAS_ADDON, rwkv, temporaryFolder } from "../support/cli.ts";
import { tinyModel } from "../support/tiny-model.ts";

const folder = temporaryFolder();
const at = (name: string): string => join(folder.path, name);
const MODEL = at("tiny.safetensors");

beforeAll(() => {
  writeFileSync(MODEL, tinyModel());
  writeFileSync(at("other.safetensors"), tinyModel({ seed: 2 }));
});
afterAll(() => folder.remove());

interface LogitsJson {
  tokens: number[];
  shape: [number, number];
  logits: number[];
}

async function logits(...args: string[]): Promise<LogitsJson> {
  const { code, stdout, stderr } = await rwkv(["logits", "--model", MODEL, "--json", ...args]);
  expect(stderr).toBe("");
  expect(code).toBe(0);
  return JSON.parse(stdout) as LogitsJson;
}

describe("generate", () => {
  test("streams text to stdout and nothing to a stderr that is no terminal", async () => {
    const { code, stdout, stderr } = await rwkv([
      "generate",
      "Hi",
      "--model",
      MODEL,
      "--max-tokens",
      "20",
      "--seed",
      "1",
    ]);
    expect(code).toBe(0);
    expect(stdout.length).toBeGreaterThan(5);
    expect(stdout.endsWith("\n")).toBe(true);
    expect(stderr).toBe("");
  });

  test("--json has text and tokens without the prompt, the reason, usage and timings", async () => {
    const { stdout } = await rwkv([
      "generate",
      "Hi",
      "--model",
      MODEL,
      "--max-tokens",
      "12",
      "--seed",
      "1",
      "--json",
    ]);
    const result = JSON.parse(stdout) as Record<string, unknown>;
    expect(result).toMatchObject({
      finishReason: "length",
      usage: { promptTokens: 2, completionTokens: 12 },
      seed: 1,
    });
    expect(result["tokens"]).toHaveLength(12);
    expect(result["text"]).not.toContain("Hi");
    const timings = result["timings"] as Record<string, number>;
    expect(timings["prefillMs"]).toBeGreaterThan(0);
    expect(timings["decodeTokensPerSecond"]).toBeGreaterThan(0);
  });

  test("the same seed gives the same text in another process, and continues over a saved session", async () => {
    const args = ["--model", MODEL, "--temperature", "0.9", "--json"];
    const whole = await rwkv(["generate", "Hi", ...args, "--max-tokens", "20", "--seed", "5"]);
    const state = at("half.state");
    const first = await rwkv([
      "generate",
      "Hi",
      ...args,
      "--max-tokens",
      "8",
      "--seed",
      "5",
      "--save-state",
      state,
    ]);
    const second = await rwkv(["generate", "", ...args, "--max-tokens", "12", "--state", state]);
    const tokens = [first, second].flatMap(
      ({ stdout }) => (JSON.parse(stdout) as { tokens: number[] }).tokens,
    );
    expect(tokens).toEqual((JSON.parse(whole.stdout) as { tokens: number[] }).tokens);
  });

  test("RWKV_MODEL stands in for --model", async () => {
    const { code } = await rwkv(["generate", "Hi", "--max-tokens", "1"], { env: { RWKV_MODEL: MODEL } });
    expect(code).toBe(0);
  });

  test("a prompt from stdin is read to its end", async () => {
    const args = ["--model", MODEL, "--max-tokens", "4", "--seed", "1", "--json"];
    const piped = await rwkv(["generate", "-", ...args], { stdin: "some text" });
    const given = await rwkv(["generate", "some text", ...args]);
    expect((JSON.parse(piped.stdout) as { tokens: number[] }).tokens).toEqual(
      (JSON.parse(given.stdout) as { tokens: number[] }).tokens,
    );
  });
});

describe("logits", () => {
  test("one row by default, one per token with --all, the last being the same", async () => {
    const last = await logits("--tokens", "34,105,110");
    const all = await logits("--tokens", "34,105,110", "--all");
    expect(last).toMatchObject({ tokens: [34, 105, 110], shape: [1, 256] });
    expect(all.shape).toEqual([3, 256]);
    expect(all.logits.slice(512)).toEqual(last.logits);
  });

  test("--chunk does not change a bit, --backend reference only the rounding", async () => {
    const tokens = Array.from({ length: 30 }, (_, i) => (i * 31) % 256).join(",");
    const want = await logits("--tokens", tokens, "--all");
    for (const chunk of ["1", "3", "7", "64"]) {
      expect((await logits("--tokens", tokens, "--all", "--chunk", chunk)).logits).toEqual(want.logits);
    }
    const reference = await logits("--tokens", tokens, "--all", "--backend", "reference");
    const difference = Math.max(...reference.logits.map((value, i) => Math.abs(value - want.logits[i]!)));
    // Rows of 64 to 96 terms of order 1, two layers deep: 1e-4 leaves a factor of ten.
    expect(difference).toBeLessThan(1e-4);
  });

  test("a state saved in one process continues bit for bit in another", async () => {
    const state = at("three.state");
    await logits("--tokens", "1,2,3", "--save-state", state);
    const continued = await logits("--tokens", "4,5", "--state", state, "--all");
    const whole = await logits("--tokens", "1,2,3,4,5", "--all");
    expect(continued.logits).toEqual(whole.logits.slice(3 * 256));
  });

  test("--out writes little-endian f32 and nothing to stdout", async () => {
    const out = at("rows.f32");
    const { code, stdout } = await rwkv([
      "logits",
      "--model",
      MODEL,
      "--tokens",
      "9,8",
      "--all",
      "--out",
      out,
    ]);
    expect([code, stdout]).toEqual([0, ""]);
    const want = await logits("--tokens", "9,8", "--all");
    const bytes = readFileSync(out);
    expect(bytes.length).toBe(4 * 512);
    expect(want.logits.map((_, i) => bytes.readFloatLE(4 * i))).toEqual(want.logits.map(Math.fround));
  });
});

describe("tokenize", () => {
  test("bytes in from stdin, nothing trimmed, and the text back", async () => {
    const { stdout } = await rwkv(["tokenize", "--model", MODEL, "--json", "-"], {
      stdin: Uint8Array.from([32, 255, 10, 10]),
    });
    expect(JSON.parse(stdout)).toEqual([32, 255, 10, 10]);
    const decoded = await rwkv(["tokenize", "--model", MODEL, "--decode", "--json", "72,195,164,10"]);
    expect(decoded.stdout).toBe('"Hä\\n"\n');
    const raw = await rwkv(["tokenize", "--model", MODEL, "--decode", "255,0,10"]);
    expect([...raw.stdoutBytes]).toEqual([255, 0, 10]);
  });

  test("without a tokenizer it says which to give", async () => {
    const { code, stderr } = await rwkv(["tokenize", "hello"]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/--tokenizer FILE, or --model FILE/);
  });
});

test("inspect --json tells format, version, sizes and every tensor", async () => {
  const { stdout } = await rwkv(["inspect", MODEL, "--json"]);
  const summary = JSON.parse(stdout) as { tensors: { name: string }[] };
  expect(summary).toMatchObject({
    format: "safetensors",
    version: "7",
    layers: 2,
    embedding: 64,
    ffn: 96,
    heads: 2,
    headSize: 32,
    vocab: 256,
  });
  expect(summary.tensors).toContainEqual({ name: "blocks.0.att.x_r", dtype: "f32", shape: [1, 1, 64] });
});

describe("convert", () => {
  test.each(["st.safetensors", "g.gguf"])("to %s and back through it gives the same logits", async (name) => {
    const target = at(name);
    expect(await rwkv(["convert", MODEL, target])).toMatchObject({ code: 0, stdout: "", stderr: "" });
    const want = await logits("--tokens", "7,77,177", "--all");
    const { stdout } = await rwkv(["logits", "--model", target, "--tokens", "7,77,177", "--all", "--json"]);
    expect((JSON.parse(stdout) as LogitsJson).logits).toEqual(want.logits);
  });

  test("bf16 matrices stay close, and the file is about half as large", async () => {
    const target = at("half.safetensors");
    expect((await rwkv(["convert", MODEL, target, "--dtype", "bf16"])).code).toBe(0);
    expect(readFileSync(target).length).toBeLessThan(0.6 * readFileSync(MODEL).length);
    const { stdout } = await rwkv(["inspect", target, "--json"]);
    expect((JSON.parse(stdout) as { dtypes: object }).dtypes).toHaveProperty("bf16");
  });
});

describe("help", () => {
  test("the overview and every command have examples, on stdout, with exit code 0", async () => {
    for (const args of [
      ["--help"],
      ...["generate", "tokenize", "inspect", "convert", "logits", "bench"].map((c) => [c, "--help"]),
    ]) {
      const { code, stdout, stderr } = await rwkv(args);
      expect(code).toBe(0);
      expect(stdout).toMatch(/Examples?:\n +\$ rwkv/);
      expect(stderr).toBe("");
    }
  });

  test("--version prints the version alone", async () => {
    expect((await rwkv(["--version"])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe("bench", () => {
  const args = ["bench", "--model", MODEL, "--prompt-tokens", "20", "--decode-tokens", "5", "--repeat", "3"];

  interface Spread {
    readonly median: number;
    readonly min: number;
    readonly max: number;
  }

  test("prints a row for each thing measured", async () => {
    const { code, stdout } = await rwkv(args);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /\| load, ms \|.*\n\| prefill of 20, tokens\/s \|.*\n\| decode of 5, tokens\/s \|/,
    );
    expect(stdout).toMatch(/\| time to first token, ms \|.*\nweights .* peak memory/);
    const bandwidth = /\nmemory is read at [\d.]+ GB\/s, which bounds one session to [\d.]+ tokens\/s\n$/;
    expect(stdout).toMatch(HAS_ADDON ? bandwidth : /\nthe read bandwidth of memory is not known/);
  });

  test("prints the fixed JSON, with null for what is not measured", async () => {
    const { stdout } = await rwkv([...args, "--batch", "2", "--json"]);
    const report = JSON.parse(stdout) as Record<string, unknown> & {
      load: { ms: Spread };
      prefill: { tokensPerSecond: Spread };
      decode: { tokensPerSecond: Spread };
      timeToFirstTokenMs: Spread;
      peakRssBytes: number;
      memoryBandwidthBytesPerSecond: number | null;
      decodeBoundTokensPerSecond: number | null;
      weightBytes: number;
      bytesReadPerToken: number;
    };
    expect(Object.keys(report)).toEqual([
      "load",
      "prefill",
      "decode",
      "timeToFirstTokenMs",
      "peakRssBytes",
      "memoryBandwidthBytesPerSecond",
      "decodeBoundTokensPerSecond",
      "weightBytes",
      "bytesReadPerToken",
      "ffnZeroShare",
      "kernels",
    ]);
    const spreads = [
      report.load.ms,
      report.prefill.tokensPerSecond,
      report.decode.tokensPerSecond,
      report.timeToFirstTokenMs,
    ];
    for (const { median, min, max } of spreads) {
      expect(min).toBeGreaterThan(0);
      expect(median).toBeGreaterThanOrEqual(min);
      expect(max).toBeGreaterThanOrEqual(median);
    }
    const { memoryBandwidthBytesPerSecond, decodeBoundTokensPerSecond, ffnZeroShare, kernels } = report;
    expect(ffnZeroShare).toBeNull();
    if (HAS_ADDON) {
      expect(memoryBandwidthBytesPerSecond).toBeGreaterThan(2e8);
      expect(decodeBoundTokensPerSecond).toBe(memoryBandwidthBytesPerSecond! / report.bytesReadPerToken);
    } else {
      expect([memoryBandwidthBytesPerSecond, decodeBoundTokensPerSecond]).toEqual([null, null]);
    }
    expect(kernels).toMatch(/^(wasm-(simd|relaxed)|native-(avx512|avx2|neon))$/);
    // f32 throughout: the file's data, of which a step needs one of the 256 rows of the embedding, 64 wide
    const data = tinyModelByteLength();
    expect(report.weightBytes).toBe(data);
    expect(report.bytesReadPerToken).toBe(data - 255 * 64 * 4);
    expect(report.peakRssBytes).toBeGreaterThan(report.weightBytes);
  });

  /** Bytes of tensor data in the model's file. */
  function tinyModelByteLength(): number {
    const file = readFileSync(MODEL);
    return file.length - 8 - Number(file.readBigUInt64LE(0));
  }
});
