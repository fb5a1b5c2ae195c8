// How a generation ends and what it emits: exact limits, stop tokens, stop strings that never leak, whole characters.

import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { loadModel, type GenerationChunk, type Model } from "../../packages/rwkv/src/node.ts";
import { tinyModel } from "../support/tiny-model.ts";

const PROMPT = "Tell me of the sea";

let model: Model;
beforeAll(async () => {
  model = await loadModel(bytesSource(tinyModel(), "tiny.safetensors"));
});
afterAll(() => model.dispose());

/** The bytes of a text that a model over bytes has produced. */
const decode = (tokens: readonly number[]): string => new TextDecoder().decode(Uint8Array.from(tokens));

test("maxTokens is exact, and the reason is length", async () => {
  for (const maxTokens of [0, 1, 2, 17]) {
    await using session = await model.createSession();
    const result = await session.generate(PROMPT, { maxTokens, seed: 3 });
    expect(result.tokens).toHaveLength(maxTokens);
    expect(result.finishReason).toBe("length");
    expect(result.usage).toEqual({ promptTokens: PROMPT.length, completionTokens: maxTokens });
  }
});

test("the stream and the awaited result are the same text and tokens", async () => {
  await using streaming = await model.createSession();
  const generation = streaming.generate(PROMPT, { maxTokens: 60, seed: 5 });
  const chunks: GenerationChunk[] = [];
  for await (const chunk of generation) chunks.push(chunk);
  await using awaiting = await model.createSession();
  const result = await awaiting.generate(PROMPT, { maxTokens: 60, seed: 5 });
  expect(chunks.map(({ text }) => text).join("")).toBe(result.text);
  expect(chunks.flatMap(({ tokens }) => tokens)).toEqual(result.tokens);
  expect(generation.result).toMatchObject({ text: result.text, finishReason: "length", seed: 5 });
  expect(result.text).toBe(decode(result.tokens));
});

test("the same seed gives the same text; without a seed the result tells the one that was drawn", async () => {
  await using session = await model.createSession();
  const first = await session.generate(PROMPT, { maxTokens: 30 });
  await using again = await model.createSession();
  const second = await again.generate(PROMPT, { maxTokens: 30, seed: first.seed });
  expect(second.tokens).toEqual(first.tokens);
});

test("a stop token ends the text and is no part of it", async () => {
  await using session = await model.createSession();
  const { tokens } = await session.generate(PROMPT, { maxTokens: 40, seed: 9 });
  const stopToken = tokens[20]!;
  await using stopping = await model.createSession();
  const result = await stopping.generate(PROMPT, { maxTokens: 40, seed: 9, stopTokens: [stopToken] });
  expect(result.finishReason).toBe("stop");
  expect(result.tokens).toEqual(tokens.slice(0, tokens.indexOf(stopToken)));
  expect(stopping.nTokens).toBe(PROMPT.length + result.tokens.length);
});

test("a stop string never shows, not even in part, wherever it is cut", async () => {
  await using session = await model.createSession();
  const { tokens } = await session.generate(PROMPT, { maxTokens: 120, seed: 11, stopTokens: [] });
  const ascii = (token: number): boolean => token < 128;
  await fc.assert(
    fc.asyncProperty(fc.nat(100), fc.integer({ min: 1, max: 5 }), async (start, length) => {
      const wanted = tokens.slice(start, start + length);
      fc.pre(wanted.every(ascii) && wanted.length > 0);
      const stop = decode(wanted);
      await using stopping = await model.createSession();
      const texts: string[] = [];
      const generation = stopping.generate(PROMPT, {
        maxTokens: 120,
        seed: 11,
        stopTokens: [],
        stop: [stop],
      });
      for await (const { text } of generation) texts.push(text);
      const whole = decode(tokens);
      expect(texts.join("")).toBe(whole.slice(0, whole.indexOf(stop)));
      expect(generation.result!.finishReason).toBe("stop");
    }),
    { seed: 7, numRuns: 30 },
  );
});

test("characters come out whole: no replacement character where the bytes are valid", async () => {
  // A model over bytes produces a multi-byte character over several tokens.
  await using session = await model.createSession();
  const texts: string[] = [];
  for await (const { text } of session.generate(PROMPT, {
    maxTokens: 400,
    seed: 13,
    topP: 1,
    stopTokens: [],
  })) {
    texts.push(text);
  }
  const { tokens } = await (
    await model.createSession()
  ).generate(PROMPT, { maxTokens: 400, seed: 13, topP: 1, stopTokens: [] });
  expect(texts.join("")).toBe(decode(tokens));
});

test("stop strings that overlap, and characters of several bytes, each byte a token: what comes before the first stop is shown", async () => {
  const word = fc.array(fc.constantFrom("a", "b", "é", "日", "😀"), { minLength: 1, maxLength: 4 });
  const texts = fc.array(fc.constantFrom("a", "b", "é", "日", "😀"), { maxLength: 12 });
  const encoder = new TextEncoder();
  await fc.assert(
    fc.asyncProperty(texts, fc.array(word, { minLength: 1, maxLength: 4 }), async (characters, words) => {
      const bytes = encoder.encode(characters.join(""));
      const stop = words.map((letters) => letters.join(""));
      const lengths = new Map(stop.map((text) => [text, encoder.encode(text).length]));
      // The match that ends first, of those that end together the longest.
      let shown: number | null = null;
      for (let end = 1; end <= bytes.length && shown === null; end++) {
        const ending = stop.filter((text) => {
          const start = end - lengths.get(text)!;
          return start >= 0 && Buffer.from(bytes.subarray(start, end)).equals(Buffer.from(text));
        });
        if (ending.length > 0) shown = end - Math.max(...ending.map((text) => lengths.get(text)!));
      }
      await using session = await model.createSession();
      const pieces: string[] = [];
      const generation = session.generate("x", {
        forceTokens: [...bytes],
        maxTokens: bytes.length,
        stopTokens: [],
        stop,
      });
      for await (const { text } of generation) pieces.push(text);
      expect(pieces.join("")).toBe(decode([...bytes.subarray(0, shown ?? bytes.length)]));
      for (const piece of pieces) expect(piece).not.toContain("\ufffd");
      expect(generation.result!.finishReason).toBe(shown === null ? "length" : "stop");
    }),
    { seed: 7, numRuns: 60 },
  );
});

test("leaving the loop ends the generation, and the session can go on from there", async () => {
  await using session = await model.createSession();
  const generation = session.generate(PROMPT, { maxTokens: 50, seed: 17 });
  let nChunks = 0;
  for await (const { tokens } of generation) {
    nChunks += tokens.length;
    if (nChunks === 5) break;
  }
  expect(generation.result).toMatchObject({ finishReason: "aborted" });
  expect(session.nTokens).toBe(PROMPT.length + 5);
  const rest = await session.generate(null, { maxTokens: 10 });
  await using whole = await model.createSession();
  const { tokens } = await whole.generate(PROMPT, { maxTokens: 15, seed: 17 });
  expect([...generation.result!.tokens, ...rest.tokens]).toEqual(tokens);
});

test("an abort between tokens ends the text with what there is", async () => {
  await using session = await model.createSession();
  const controller = new AbortController();
  const result = await session.generate(PROMPT, {
    maxTokens: 1000,
    seed: 19,
    signal: controller.signal,
    onProgress: ({ phase, tokensDone }) => {
      if (phase === "decode" && tokensDone === 6) controller.abort();
    },
  });
  expect(result.finishReason).toBe("aborted");
  expect(result.tokens).toHaveLength(6);
});

test("an abort inside the prompt ends with no text and the session as before", async () => {
  await using session = await model.createSession();
  const controller = new AbortController();
  const result = await session.generate("x".repeat(5000), {
    signal: controller.signal,
    onProgress: ({ tokensDone }) => {
      if (tokensDone > 1000) controller.abort();
    },
  });
  expect(result).toMatchObject({ finishReason: "aborted", text: "", tokens: [] });
  expect(session.nTokens).toBe(0);
});

test("echo puts the prompt before the text", async () => {
  await using session = await model.createSession();
  const plain = await session.generate(PROMPT, { maxTokens: 10, seed: 23 });
  await using echoing = await model.createSession();
  const echoed = await echoing.generate(PROMPT, { maxTokens: 10, seed: 23, echo: true });
  expect(echoed.text).toBe(PROMPT + plain.text);
});

test("a generation can be read once", async () => {
  await using session = await model.createSession();
  const generation = session.generate(PROMPT, { maxTokens: 2 });
  await generation;
  await generation;
  await expect(generation[Symbol.asyncIterator]().next()).rejects.toThrow(/read once/);
});

test("an error in a progress callback reaches the caller and leaves the session usable", async () => {
  await using session = await model.createSession();
  const boom = new Error("boom");
  const failing = session.append(PROMPT, {
    onProgress: () => {
      throw boom;
    },
  });
  await expect(failing).rejects.toBe(boom);
  expect(session.nTokens).toBe(0);
  await using untouched = await model.createSession();
  expect(await session.forward([1])).toEqual(await untouched.forward([1]));
});
