// Quantising and comparing through the library's own functions: packed files keep their tokenizer and say what they are, a
// preview tells what is written, and a comparison tells how far two models are apart.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import {
  compare,
  convert,
  FormatError,
  inspect,
  loadModel,
  loadTokenizer,
  modelTokenizer,
  previewQuantize,
  quantize,
  UsageError,
  type FileSource,
  type LoadProgress,
  type QuantizeOptions,
} from "../../packages/rwkv/src/node.ts";
import { temporaryFolder } from "../support/cli.ts";
import { tinyModel } from "../support/tiny-model.ts";

const folder = temporaryFolder();
afterAll(() => folder.remove());

const BYTES = tinyModel();
const TOKENS = [5, 6, 7, 8, 9];
/** All single bytes, then one token of two. */
const VOCABULARY = [
  ...Array.from({ length: 256 }, (_, byte) => `${byte + 1} b'\\x${byte.toString(16).padStart(2, "0")}' 1`),
  "257 'ab' 2",
].join("\n");

/** A model of so many ids, for which no tokenizer is built in. */
function modelOf(nVocab: number): Uint8Array {
  return tinyModel({
    edit: (tensors) => {
      for (const name of ["emb.weight", "head.weight"]) {
        const { values } = tensors.get(name)!;
        const grown = Float32Array.from({ length: nVocab * 64 }, (_, i) => values[i % values.length]!);
        tensors.set(name, { shape: [nVocab, 64], values: grown });
      }
    },
  });
}

async function packed(file: FileSource, options: QuantizeOptions = {}): Promise<Uint8Array> {
  const sink = new MemorySink();
  await quantize(file, sink, options);
  return sink.bytes();
}

async function logitsOf(file: FileSource): Promise<Float32Array> {
  await using model = await loadModel(file);
  await using session = await model.createSession();
  return await session.forward(TOKENS, { logits: "all" });
}

describe("quantize", () => {
  test("writes what a preview has told, and inspect shows it", async () => {
    const options = { dtype: "q4", policy: "blocks.0.*=q8" } as const;
    const preview = await previewQuantize(BYTES, options);
    const bytes = await packed(BYTES, options);
    const { tensors, format, formatVersion, config } = await inspect(bytes);
    expect({ format, formatVersion }).toEqual({ format: "packed", formatVersion: 1 });
    expect(config).toMatchObject({ version: "7", nLayer: 2 });
    const shown = tensors.filter(({ layout }) => layout !== undefined);
    expect(shown).toEqual(
      preview.matrices
        .map(({ name, dtype, shape, layout }) => ({ name, dtype, shape, layout }))
        .sort(
          (a, b) =>
            shown.findIndex(({ name }) => name === a.name) - shown.findIndex(({ name }) => name === b.name),
        ),
    );
    // headers, and rounding up to lines of the cache
    const { matrixByteLength, otherByteLength } = preview;
    expect(bytes.byteLength).toBeGreaterThan(matrixByteLength + otherByteLength);
    expect(bytes.byteLength).toBeLessThan(matrixByteLength + otherByteLength + 32768);
  });

  test.each(["nf4", "sf4"] as const)(
    "a preview estimates the errors that comparing finds, %s",
    async (type) => {
      const { matrices } = await previewQuantize(BYTES, { dtype: type });
      const { weights } = await compare(BYTES, await packed(BYTES, { dtype: type }), { prompt: TOKENS });
      for (const { name, relativeError, dtype } of matrices) {
        const found = weights!.find((weight) => weight.name === name)!;
        expect([name, relativeError]).toEqual([name, found.relativeError]);
        expect(relativeError).toBeLessThan({ nf4: 0.1, sf4: 0.1, q8: 0.01, f16: 1e-3 }[dtype as string]!);
        expect(relativeError).toBeGreaterThan(0);
      }
      for (const { relativeError } of (await previewQuantize(BYTES)).matrices) expect(relativeError).toBe(0);
    },
  );

  test("counts progress and stops when it is told to", async () => {
    const events: LoadProgress[] = [];
    await packed(BYTES, { onProgress: (event) => void events.push(event) });
    expect(events.at(-1)!.bytesDone).toBe(events.at(-1)!.bytesTotal);
    expect(events.map(({ tensor }) => tensor)).toContain("blocks.1.ffn.value.weight");
    for (const run of [(options: QuantizeOptions) => packed(BYTES, options), previewOf]) {
      const controller = new AbortController();
      const onProgress = (): void => controller.abort(new Error("enough"));
      await expect(run({ signal: controller.signal, onProgress })).rejects.toThrow("enough");
    }
  });

  const previewOf = (options: QuantizeOptions): Promise<unknown> => previewQuantize(BYTES, options);

  test("puts the vocabulary of the model, or the one given, inside", async () => {
    const model = modelOf(300);
    writeFileSync(join(folder.path, "vocab.txt"), VOCABULARY);
    const tokenizer = join(folder.path, "vocab.txt");
    const bytes = await packed(model, { tokenizer });
    expect((await modelTokenizer(bytes)).encode("abc")).toEqual(
      (await loadTokenizer(tokenizer)).encode("abc"),
    );
    // and it stays inside when the file is packed again
    expect((await modelTokenizer(await packed(bytes, { dtype: "q8" }))).encode("ab")).toEqual([257]);
    await using loaded = await loadModel(bytes);
    expect(loaded.tokenizer?.kind).toBe("world");
    await expect(packed(BYTES, { tokenizer })).rejects.toThrow(UsageError);
  });

  test("takes the vocabulary of a GGUF along", async () => {
    const sink = new MemorySink();
    const tokenizer = await loadTokenizer(new TextEncoder().encode(VOCABULARY));
    await convert(modelOf(300), sink, { format: "gguf", tokenizer });
    const gguf = sink.bytes();
    const again = await modelTokenizer(await packed(gguf));
    for (let id = 0; id < 258; id++) expect(again.tokenBytes(id)).toEqual(tokenizer.tokenBytes(id));
    expect(again.encode("xaby")).toEqual(tokenizer.encode("xaby"));
    expect(await logitsOf(await packed(gguf))).toEqual(await logitsOf(gguf));
  });

  test("a model of bytes has none inside, and finds its own", async () => {
    const bytes = await packed(BYTES);
    expect((await modelTokenizer(bytes)).kind).toBe("bytes");
    expect((await inspect(bytes)).tensors.some(({ name }) => name === "tokenizer")).toBe(false);
  });

  test("a vocabulary inside that does not fit the model is refused", async () => {
    const bytes = await packed(modelOf(300), { tokenizer: new TextEncoder().encode(VOCABULARY) });
    const text = new TextDecoder("latin1").decode(bytes);
    const changed = bytes.slice();
    // the last token gets an id beyond the model's
    const at = text.lastIndexOf("257 'ab' 2");
    changed.set(new TextEncoder().encode("957 'ab' 2"), at);
    await expect(loadModel(changed)).rejects.toThrow(FormatError);
    await expect(loadModel(changed)).rejects.toThrow(/958 ids, but the model knows only 300/);
  });
});

describe("compare", () => {
  test("a model is no distance from itself, in whatever file", async () => {
    const result = await compare(BYTES, await packed(BYTES), { prompt: "some text" });
    expect(result).toMatchObject({ nPredicted: 8, perplexityChange: 0, meanKl: 0, topAgreement: 1 });
    for (const { relativeError, maxError } of result.weights!)
      expect([relativeError, maxError]).toEqual([0, 0]);
  });

  test("gives what the definitions give for other models", async () => {
    const other = tinyModel({ seed: 2 });
    const prompt = Array.from({ length: 150 }, (_, i) => (i * 37) % 256);
    const result = await compare(BYTES, other, { prompt, threads: 1 });
    const rows = await Promise.all(
      [BYTES, other].map(async (file) => {
        await using model = await loadModel(file, { threads: 1 });
        await using session = await model.createSession();
        return await session.forward(prompt.slice(0, -1), { logits: "all" });
      }),
    );
    let [kl, agreed] = [0, 0];
    const loss = [0, 0];
    for (let i = 0; i < 149; i++) {
      const [p, q] = rows.map((logits) => logProbabilities(logits.subarray(256 * i, 256 * (i + 1))));
      p!.forEach((logP, id) => (kl += Math.exp(logP) * (logP - q![id]!)));
      if (p!.indexOf(Math.max(...p!)) === q!.indexOf(Math.max(...q!))) agreed++;
      [p!, q!].forEach((row, which) => (loss[which]! -= row[prompt[i + 1]!]!));
    }
    expect(result.nPredicted).toBe(149);
    expect(result.meanKl).toBeCloseTo(kl / 149, 9);
    expect(result.topAgreement).toBe(agreed / 149);
    expect(result.perplexity[0]).toBeCloseTo(Math.exp(loss[0]! / 149), 6);
    expect(result.perplexity[1]).toBeCloseTo(Math.exp(loss[1]! / 149), 6);
    expect(result.perplexityChange).toBeCloseTo(result.perplexity[1] / result.perplexity[0] - 1, 12);
    const head = result.weights!.find(({ name }) => name === "head.weight")!;
    expect(head.relativeError).toBeGreaterThan(1); // of independent numbers: the square root of two
    expect(head.relativeError).toBeLessThan(2);
  });

  test("models of other sizes are compared by what they predict", async () => {
    const result = await compare(BYTES, tinyModel({ layers: 3 }), { prompt: TOKENS });
    expect(result.weights).toBeNull();
    expect(result.meanKl).toBeGreaterThan(0);
  });

  test("models with other vocabularies, and texts without a prediction, are refused", async () => {
    await expect(compare(BYTES, modelOf(300), { prompt: TOKENS })).rejects.toThrow(/256 and 300 ids/);
    const [one, two] = await Promise.all(
      ["ab", "cd"].map((token) => {
        const tokenizer = new TextEncoder().encode(VOCABULARY.replace("'ab'", `'${token}'`));
        return packed(modelOf(300), { tokenizer });
      }),
    );
    await expect(compare(one!, two!, { prompt: "ab" })).rejects.toThrow(/id 257 stands for other bytes/);
    for (const prompt of [[5], [], "a"]) {
      await expect(compare(BYTES, BYTES, { prompt })).rejects.toThrow(UsageError);
      await expect(compare(BYTES, BYTES, { prompt })).rejects.toThrow(/at least two/);
    }
    await expect(compare(modelOf(300), modelOf(300), { prompt: "ab" })).rejects.toThrow(/No tokenizer/);
  });

  test("a signal stops it", async () => {
    const controller = new AbortController();
    const comparing = compare(BYTES, BYTES, {
      prompt: TOKENS,
      signal: controller.signal,
      onProgress: ({ phase }) => {
        if (phase === "weights") controller.abort(new Error("enough"));
      },
    });
    await expect(comparing).rejects.toThrow("enough");
  });
});

function logProbabilities(logits: Float32Array): number[] {
  const norm = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
  return Array.from(logits, (logit) => logit - norm);
}
