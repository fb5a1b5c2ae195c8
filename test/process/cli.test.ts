// The command as people run it: real processes, real files, exit codes, what goes to stdout and what to stderr.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import { loadModel, writeAdapter, writeTunedState } from "../../packages/rwkv/src/node.ts";
import { HAS_ADDON, HAS_DEMO_MODEL, rwkv, temporaryFolder } from "../support/cli.ts";
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

  if (!HAS_DEMO_MODEL) console.log("skipped: the demo model has no weights yet (npm run train:demo)");
  test.skipIf(!HAS_DEMO_MODEL)("without a model the demo model is used, and one line says so", async () => {
    const generated = await rwkv(["generate", "Once upon a time", "--max-tokens", "5", "--seed", "1"]);
    expect(generated.stderr).toMatch(
      /^rwkv: No model was named, so the small demo model is used\. Real RWKV-7 models are at https:\S+ .*\n$/,
    );
    expect(generated.code).toBe(0);
    expect(generated.stdout.length).toBeGreaterThan(1);
    const bench = ["bench", "--prompt-tokens", "2", "--decode-tokens", "1", "--repeat", "2"];
    const { stderr } = await rwkv(bench);
    expect(stderr).toBe(generated.stderr);
  });

  test("RWKV_MODEL stands in for --model", async () => {
    const { code } = await rwkv(["generate", "Hi", "--max-tokens", "1"], { env: { RWKV_MODEL: MODEL } });
    expect(code).toBe(0);
  });

  describe("sampling", () => {
    const generate = async (...args: string[]): Promise<Record<string, unknown>> => {
      const common = ["--model", MODEL, "--max-tokens", "12", "--seed", "3", "--json"];
      const { code, stdout, stderr } = await rwkv(["generate", "Hi", ...common, ...args]);
      expect(stderr).toBe("");
      expect(code).toBe(0);
      return JSON.parse(stdout) as Record<string, unknown>;
    };

    test("flags and a chain as text say the same", async () => {
      const flags = ["--presence-penalty", "0.5", "--min-p", "0.01", "--temperature", "0.8"];
      const wishes = ["--logit-bias", "65=2,66=-Infinity", "--ban", "67,68", "--force", "72,105"];
      const chain =
        "bias(65=2, 66=-Infinity) | ban([67, 68]) | force([72, 105]) | penalties(0.5) | min-p(0.01) | temperature(0.8)";
      const want = await generate("--sampler", chain);
      expect(want["tokens"]).toEqual((await generate(...flags, ...wishes))["tokens"]);
      expect((want["tokens"] as number[]).slice(0, 2)).toEqual([72, 105]);
    });

    test("log-probabilities, guidance and beams", async () => {
      const { logprobs, tokens } = await generate("--logprobs", "2", "--guidance", "1.5", "--negative", "Ho");
      const told = logprobs as { token: number; top: unknown[] }[];
      expect(told.map(({ token }) => token)).toEqual(tokens);
      for (const { top } of told) expect(top).toHaveLength(2);
      const args = ["--model", MODEL, "--max-tokens", "4", "--beams", "3"];
      const { stdout } = await rwkv(["generate", "Hi", ...args, "--json"]);
      const { beams } = JSON.parse(stdout) as { beams: { text: string; tokens: number[] }[] };
      expect(beams.map((beam) => beam.tokens.length)).toEqual([4, 4, 4]);
      const text = await rwkv(["generate", "Hi", ...args, "--echo"]);
      expect(text.stdout).toBe(`Hi${beams[0]!.text}\n`);
    });

    test.each([
      [["--sampler", "top-q(1)"], 'There is no step "top-q"'],
      [["--sampler", "greedy", "--top-p", "0.5"], "sampler is a whole chain, so that topP has no place"],
      [["--guidance", "2"], "--guidance SCALE and --negative TEXT belong together"],
      [["--logprobs", "2"], "give --json too"],
      [["--beams", "2", "--min-p", "0.1"], "leave out --min-p"],
      [["--beams", "0"], "Expected a whole number of at least 1"],
      [["--logit-bias", "5"], "Expected id=bias"],
    ])("%j is refused", async (args, message) => {
      const { code, stderr } = await rwkv(["generate", "Hi", "--model", MODEL, "--max-tokens", "4", ...args]);
      expect(stderr).toContain(message);
      expect(code).toBe(2);
    });
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

  test("--state-dtype f16 halves the saved state, --any-state takes that of another model of the same sizes", async () => {
    const [exact, half, other] = [at("exact.state"), at("half-bytes.state"), at("other.safetensors")];
    await logits("--tokens", "1,2,3", "--save-state", exact);
    await logits("--tokens", "1,2,3", "--save-state", half, "--state-dtype", "f16");
    const ratio = readFileSync(half).length / readFileSync(exact).length;
    expect(ratio).toBeGreaterThan(0.5);
    expect(ratio).toBeLessThan(0.52);
    await logits("--tokens", "4", "--state", half);
    const args = ["logits", "--model", other, "--tokens", "4", "--json", "--state", exact];
    const refused = await rwkv(args);
    expect([refused.code, refused.stdout]).toEqual([2, ""]);
    expect(refused.stderr).toMatch(/A state continues only on its own model/);
    expect((await rwkv([...args, "--any-state"])).code).toBe(0);
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

describe("adapters and tuned states", () => {
  const adapter = at("adapter.safetensors");
  const bare = at("adapter.pth");
  const state = at("tuned.pth");

  beforeAll(async () => {
    const wave = (length: number): Float32Array => Float32Array.from({ length }, (_, i) => Math.sin(i));
    const pairs = [{ name: "blocks.0.att.key", rank: 2, a: wave(2 * 64), b: wave(64 * 2) }];
    const write = async (path: string, work: (sink: MemorySink) => Promise<void>): Promise<void> => {
      const sink = new MemorySink();
      await work(sink);
      writeFileSync(path, sink.bytes());
    };
    await write(adapter, (sink) => writeAdapter(sink, { alpha: 4, pairs }, { format: "safetensors" }));
    await write(bare, (sink) => writeAdapter(sink, { alpha: 4, pairs }, { format: "pth" }));
    await using model = await loadModel(MODEL);
    const block = new Float32Array(model.info.stateByteLength / 4);
    const { offset } = model.stateLayout.find(({ name }) => name === "blocks.1.wkv")!;
    block.set(wave(500), offset);
    await write(state, (sink) => writeTunedState(sink, model.config, block, { format: "pth" }));
  });

  test("--lora changes the numbers, the same by either file, and by --lora-alpha", async () => {
    const plain = await logits("--tokens", "1,2,3");
    const merged = await logits("--tokens", "1,2,3", "--lora", adapter);
    expect(merged.logits).not.toEqual(plain.logits);
    expect(await logits("--tokens", "1,2,3", "--lora", bare, "--lora-alpha", "4")).toEqual(merged);
    expect(await logits("--tokens", "1,2,3", "--lora", bare, "--lora-alpha", "0")).toEqual(plain);
  });

  test("--state starts from a tuned state, in generate too", async () => {
    const plain = await logits("--tokens", "1,2,3");
    const tuned = await logits("--tokens", "1,2,3", "--state", state);
    expect(tuned.logits).not.toEqual(plain.logits);
    const args = ["generate", "Hi", "--model", MODEL, "--max-tokens", "12", "--temperature", "0"];
    const texts = await Promise.all([rwkv(args), rwkv([...args, "--state", state, "--lora", adapter])]);
    expect(texts.map(({ code }) => code)).toEqual([0, 0]);
    expect(texts[0].stdout).not.toBe(texts[1].stdout);
  });

  test("what is missing or does not fit is named", async () => {
    const tokens = ["logits", "--model", MODEL, "--json", "--tokens", "1"];
    for (const [args, exitCode, message] of [
      [["--lora", bare], 2, /adapter\.pth does not say its alpha.*--lora-alpha/],
      [["--lora-alpha", "4"], 2, /--lora FILE/],
      [["--lora", at("no.pth"), "--lora-alpha", "4"], 1, /no\.pth/],
      [
        ["--lora", state, "--lora-alpha", "4"],
        1,
        /tuned\.pth: none of the 2 tensors is half of a low-rank pair/,
      ],
      [["--state", bare], 1, /adapter\.pth: tensor "blocks\.0\.att\.time_state" is missing/],
    ] as [string[], number, RegExp][]) {
      const { code, stdout, stderr } = await rwkv([...tokens, ...args]);
      expect(stderr).toMatch(message);
      expect([code, stdout]).toEqual([exitCode, ""]);
    }
  });
});

describe("eval", () => {
  const text = at("eval.txt");
  const choices = at("choices.jsonl");
  const words = at("words.jsonl");
  const exact = at("exact.jsonl");

  beforeAll(() => {
    writeFileSync(text, "A text of a few words. ".repeat(4));
    const lines = (...items: object[]): string => items.map((item) => `${JSON.stringify(item)}\n`).join("\n");
    writeFileSync(
      choices,
      lines(
        { context: "The sky is", choices: ["blue", "green"], answer: 0 },
        { question: "2+2=", choices: ["3", "4", "5"] },
      ),
    );
    writeFileSync(words, lines({ text: "three small words" }, { text: "and three more" }));
    writeFileSync(
      exact,
      lines(
        { prompt: "1+1=", answer: "2" },
        { prompt: "1+2=", answer: "3" },
        { prompt: "1+3=", answer: "4" },
      ),
    );
  });

  const all = [
    "--text",
    text,
    "--choices",
    choices,
    "--last-word",
    words,
    "--exact",
    exact,
    "--max-tokens",
    "8",
  ];

  test("prints a row for each number, and JSON with each case", async () => {
    const { code, stdout, stderr } = await rwkv(["eval", "--model", MODEL, ...all]);
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^text: tokens predicted +91\n/);
    expect(stdout).toMatch(/\ntext: perplexity +[\d.]+\n/);
    expect(stdout).toMatch(/\nchoices: cases +2, 1 with an answer\nchoices: accuracy +(0|100)\.00 %\n/);
    expect(stdout).toMatch(
      /\nlast words: perplexity +[\d.]+\nexact answers: cases +3\nexact answers: accuracy +0\.00 %\n$/,
    );
    const json = JSON.parse((await rwkv(["eval", "--model", MODEL, ...all, "--json"])).stdout) as object;
    expect(json).toMatchObject({
      text: { nTokens: 91, nBytes: 91 },
      choices: {
        nCases: 2,
        nAnswered: 1,
        cases: [{ ranking: [expect.any(Number), expect.any(Number)] }, {}],
      },
      lastWord: { nCases: 2, cases: [{ isGreedy: false }, {}] },
      exact: { nCases: 3, accuracy: 0, cases: [{ isCorrect: false }, {}, {}] },
    });
  });

  test("--limit takes the first cases and tokens, --state begins elsewhere, neither depends on --batch", async () => {
    const run = async (...args: string[]): Promise<Record<string, Record<string, unknown>>> => {
      const { stdout } = await rwkv(["eval", "--model", MODEL, ...all, "--json", ...args]);
      return JSON.parse(stdout) as Record<string, Record<string, unknown>>;
    };
    const limited = await run("--limit", "2");
    expect([limited["text"]!["nTokens"], limited["exact"]!["nCases"]]).toEqual([1, 2]);
    const plain = await run();
    expect(await run("--batch", "1")).toEqual(plain);
    const state = at("eval.state");
    await logits("--tokens", "1,2,3", "--save-state", state);
    const moved = await run("--state", state);
    expect(moved["text"]!["nTokens"]).toBe(91); // no logits were kept by which the first could be predicted
    expect(moved["text"]!["perplexity"]).not.toBe(plain["text"]!["perplexity"]);
  });

  test("what is wrong is named, with the line of a case", async () => {
    const bad = (name: string, content: string): string => {
      writeFileSync(at(name), content);
      return at(name);
    };
    const good = '{"prompt":"a","answer":"b"}\n';
    for (const [args, exitCode, message] of [
      [[], 2, /--text, --choices, --last-word or --exact/],
      [["--text", at("none.txt")], 1, /none\.txt cannot be read/],
      [["--exact", bad("a.jsonl", `${good}\n{"prompt":`)], 1, /a\.jsonl: line 3: is no JSON/],
      [["--exact", bad("b.jsonl", `${good}[1]`)], 1, /b\.jsonl: line 2: expected a JSON object, found \[1\]/],
      [
        ["--exact", bad("c.jsonl", `${good}{"prompt":"a"}`)],
        1,
        /line 2: expected "answer", a text, found nothing/,
      ],
      [["--exact", bad("d.jsonl", '{"prompt":"","answer":""}')], 1, /line 1: expected "prompt"/],
      [["--exact", bad("e.jsonl", "\n\n")], 1, /has no cases/],
      [
        ["--last-word", bad("f.jsonl", '{"text":"word"}')],
        1,
        /line 1: expected "text" of at least two words/,
      ],
      [
        ["--choices", bad("g.jsonl", '{"choices":["a","b"]}')],
        1,
        /line 1: expected one of "context" and "question"/,
      ],
      [["--choices", bad("h.jsonl", '{"context":"a","choices":["b"]}')], 1, /line 1: expected "choices"/],
      [
        ["--choices", bad("i.jsonl", '{"context":"a","choices":["b","c"],"answer":2}')],
        1,
        /line 1: expected "answer", an index from 0 to 1, or none, found 2/,
      ],
    ] as [string[], number, RegExp][]) {
      const { code, stdout, stderr } = await rwkv(["eval", "--model", MODEL, ...args]);
      expect(stderr).toMatch(message);
      expect([code, stdout]).toEqual([exitCode, ""]);
    }
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
  test.each(["st.safetensors", "p.pth", "g.gguf"])(
    "to %s and back through it gives the same logits",
    async (name) => {
      const target = at(name);
      expect(await rwkv(["convert", MODEL, target])).toMatchObject({ code: 0, stdout: "", stderr: "" });
      const want = await logits("--tokens", "7,77,177", "--all");
      const { stdout } = await rwkv(["logits", "--model", target, "--tokens", "7,77,177", "--all", "--json"]);
      expect((JSON.parse(stdout) as LogitsJson).logits).toEqual(want.logits);
    },
  );

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
      ...["generate", "tokenize", "inspect", "convert", "eval", "logits", "bench"].map((c) => [c, "--help"]),
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
    expect(stdout).toMatch(
      /\| time to first token, ms \|.*\n(inputs of ffn\.value .*\n)?weights .* peak memory/,
    );
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
      ffnZeroShare: number | null;
      kernels: string;
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
    if (ffnZeroShare === null) expect(HAS_ADDON).toBe(false);
    else expect(ffnZeroShare).toBeGreaterThan(0.2); // squared ReLUs of a random model: about half
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

describe("quantize and compare", () => {
  const packed = at("packed.safetensors");

  test("a packed file is written, loads, and inspect shows its order", async () => {
    const { code, stdout, stderr } = await rwkv(["quantize", MODEL, packed, "--dtype", "q4"]);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "", stderr: "" });
    const { stdout: shown } = await rwkv(["inspect", packed]);
    expect(shown).toMatch(/format +packed 1/);
    expect(shown).toMatch(/blocks\.0\.ffn\.value\.weight +f16 +\[64, 96\] in columns/);
    const fromFile = await rwkv(["logits", "--model", packed, "--tokens", "1,2,3", "--json"]);
    const atLoad = await rwkv(["logits", "--model", MODEL, "--dtype", "q4", "--tokens", "1,2,3", "--json"]);
    expect(fromFile.stdout).toBe(atLoad.stdout);
  });

  test("a preview shows types, sizes and errors, and writes nothing", async () => {
    const flags = ["--dtype", "q4", "--policy", "head=f16,blocks.0.att.*=q8", "--preview"];
    const { code, stdout } = await rwkv(["quantize", MODEL, at("none.safetensors"), ...flags]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^matrix +type +order +size +error +shape\n/);
    expect(stdout).toMatch(/head\.weight +f32 to f16 +panels +0\.03 MB +0\.0\d\d % +\[256, 64\]/);
    expect(stdout).toMatch(/blocks\.0\.att\.key\.weight +f32 to q8/);
    expect(stdout).toMatch(/\n\d+ x q4: [\d.]+ MB\n/);
    expect(existsSync(at("none.safetensors"))).toBe(false);
    const json = await rwkv(["quantize", MODEL, ...flags, "--json"]);
    const preview = JSON.parse(json.stdout) as { matrices: { name: string; dtype: string }[] };
    expect(preview.matrices.find(({ name }) => name === "head.weight")).toMatchObject({ dtype: "f16" });
  });

  test("wrong usage is named", async () => {
    for (const [args, message] of [
      [[MODEL], /Say which file to write/],
      [[MODEL, MODEL], /is the model itself/],
      [[MODEL, packed, "--json"], /add --preview/],
      [[MODEL, packed, "--policy", "heads=q8"], /fits no matrix/],
      [[MODEL, packed, "--policy", "head"], /expected pattern=dtype/],
      [[MODEL, packed, "--dtype", "q5"], /Allowed choices are/],
    ] as [string[], RegExp][]) {
      const { code, stderr } = await rwkv(["quantize", ...args]);
      expect(code).toBe(2);
      expect(stderr).toMatch(message);
    }
  });

  test("compare prints what a text tells of two models", async () => {
    writeFileSync(at("text.txt"), "A text that both models read. ".repeat(5));
    const { code, stdout, stderr } = await rwkv(["compare", MODEL, packed, "--text", at("text.txt")]);
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(stdout).toMatch(/tokens predicted +149\n/);
    expect(stdout).toMatch(/mean KL +[\d.e-]+ nats/);
    expect(stdout).toMatch(/head\.weight +\d\.\d+ %/);
    const json = await rwkv(["compare", MODEL, packed, "--tokens", "1,2,3,4", "--json"]);
    expect(JSON.parse(json.stdout)).toMatchObject({ nPredicted: 3 });
    const grown = at("grown.safetensors");
    writeFileSync(grown, tinyModel({ layers: 3 }));
    expect((await rwkv(["compare", MODEL, grown, "--tokens", "1,2,3"])).stdout).toMatch(/different sizes/);
  });

  test("compare says what it needs", async () => {
    for (const [args, exitCode, message] of [
      [[], 2, /--text FILE/],
      [["--text", at("text.txt"), "--tokens", "1,2"], 2, /--text FILE/],
      [["--text", at("no such text")], 1, /cannot be read/],
      [["--tokens", "1"], 2, /at least two/],
    ] as [string[], number, RegExp][]) {
      const { code, stderr } = await rwkv(["compare", MODEL, packed, ...args]);
      expect(stderr).toMatch(message);
      expect(code).toBe(exitCode);
    }
  });
});
