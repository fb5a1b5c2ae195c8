// Loading: from every kind of source, with the tokenizer that belongs to the model, with progress, and refusing options
// that make no sense before anything is read.

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  DEMO_MODEL_NOTICE,
  FormatError,
  loadModel,
  loadTokenizer,
  modelTokenizer,
  UnsupportedError,
  UsageError,
  type LoadOptions,
  type LoadProgress,
  type Logger,
} from "../../packages/rwkv/src/node.ts";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { browserPlatform } from "../../packages/rwkv/src/platform/browser.ts";
import { nodePlatform } from "../../packages/rwkv/src/platform/node/platform.ts";
import { loadModel as loadFrom } from "../../packages/rwkv/src/runtime/load.ts";
import { ROOT, temporaryFolder } from "../support/cli.ts";
import { tinyModel } from "../support/tiny-model.ts";

const folder = temporaryFolder();
const at = (name: string): string => join(folder.path, name);
const BYTES = tinyModel();
const TOKENS = [5, 6, 7];

let server: Server;
let address: string;
let want: Float32Array;

beforeAll(async () => {
  writeFileSync(at("tiny.safetensors"), BYTES);
  server = createServer((request, response) => {
    const range = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "");
    if (request.url !== "/tiny.safetensors" || range === null) {
      response.writeHead(404).end();
      return;
    }
    const [start, last] = [Number(range[1]), Math.min(Number(range[2]), BYTES.length - 1)];
    response.writeHead(206, { "content-range": `bytes ${start}-${last}/${BYTES.length}` });
    response.end(BYTES.subarray(start, last + 1));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  want = await logitsOf(BYTES);
});
afterAll(() => {
  server.close();
  folder.remove();
});

async function logitsOf(source: Parameters<typeof loadModel>[0]): Promise<Float32Array> {
  await using model = await loadModel(source);
  await using session = await model.createSession();
  return await session.forward(TOKENS, { logits: "all" });
}

test("a path, a file address, a web address, a Blob and a File give the same model", async () => {
  const sources = [
    at("tiny.safetensors"),
    pathToFileURL(at("tiny.safetensors")),
    `${address}/tiny.safetensors`,
    new URL(`${address}/tiny.safetensors`),
    new Blob([BYTES as Uint8Array<ArrayBuffer>]),
    new File([BYTES as Uint8Array<ArrayBuffer>], "tiny.safetensors"),
  ];
  for (const source of sources) expect(await logitsOf(source)).toEqual(want);
});

test("progress counts every byte of the weights once, and names the tensors", async () => {
  const events: LoadProgress[] = [];
  await using model = await loadModel(BYTES, { onProgress: (progress) => void events.push(progress) });
  expect(events.at(-1)!.bytesDone).toBe(events.at(-1)!.bytesTotal);
  expect(events.map(({ bytesDone }) => bytesDone)).toEqual(
    events.map(({ bytesDone }) => bytesDone).sort((a, b) => a - b),
  );
  expect(events.map(({ tensor }) => tensor)).toContain("head.weight");
  expect(model.info.weightByteLength).toBeGreaterThan(0);
});

test("a signal stops the loading", async () => {
  const controller = new AbortController();
  const loading = loadModel(BYTES, {
    signal: controller.signal,
    onProgress: () => controller.abort(new Error("enough")),
  });
  await expect(loading).rejects.toThrow("enough");
  await expect(loadModel(BYTES, { signal: AbortSignal.abort() })).rejects.toMatchObject({
    name: "AbortError",
  });
});

test("a logger hears what is loaded, and observers get the time; nothing is printed otherwise", async () => {
  const messages: string[] = [];
  const log = (message: string): void => void messages.push(message);
  const measured: string[] = [];
  const observer = new PerformanceObserver((list) =>
    measured.push(...list.getEntries().map(({ name }) => name)),
  );
  observer.observe({ entryTypes: ["measure"] });
  await using model = await loadModel(at("tiny.safetensors"), {
    logger: { debug: log, info: log, warn: log },
  });
  await (await model.createSession()).generate("x", { maxTokens: 2 });
  await new Promise((resolve) => setTimeout(resolve));
  observer.disconnect();
  expect(messages.join("\n")).toMatch(/RWKV-7, 2 layers, 64 wide, 256 ids; tokenizer: bytes/);
  expect(measured).toEqual(["rwkv:load", "rwkv:prefill", "rwkv:decode"]);
  expect(performance.getEntriesByType("measure")).toEqual([]);
});

describe("options that make no sense are refused by name", () => {
  test.each<[string, LoadOptions, RegExp]>([
    ["an unknown backend", { backend: "cuda" as "cpu" }, /"cuda".*cpu, webgpu, reference/],
    ["no chunk", { chunk: 0 }, /chunk is 0/],
    ["half a chunk", { chunk: 1.5 }, /chunk is 1.5/],
    ["no threads", { threads: 0 }, /threads is 0/],
    ["an epsilon that is none", { groupNormEps: Number.NaN }, /groupNormEps is NaN/],
  ])("%s", async (_, options, message) => {
    await expect(loadModel(BYTES, options)).rejects.toThrow(message);
    await expect(loadModel(BYTES, options)).rejects.toBeInstanceOf(UsageError);
  });
});

describe("the tokenizer", () => {
  /** A model of another number of ids, so that no tokenizer is built in. */
  function modelOf(nVocab: number): Uint8Array {
    return tinyModel({
      edit: (tensors) => {
        for (const name of ["emb.weight", "head.weight"]) {
          tensors.set(name, { shape: [nVocab, 64], values: new Float32Array(nVocab * 64).fill(0.1) });
        }
      },
    });
  }
  const VOCABULARY = [
    ...Array.from({ length: 256 }, (_, byte) => `${byte + 1} b'\\x${byte.toString(16).padStart(2, "0")}' 1`),
    "257 'hello' 5",
  ].join("\n");

  test("is found beside a World model, and not beside another", async () => {
    mkdirSync(at("world"));
    writeFileSync(at("world/model.safetensors"), modelOf(65536));
    writeFileSync(at("world/rwkv_vocab_v20230424.txt"), VOCABULARY);
    await using model = await loadModel(at("world/model.safetensors"));
    expect(model.tokenizer?.kind).toBe("world");
    expect(model.tokenizer?.encode("hello")).toEqual([257]);
    expect((await modelTokenizer(at("world/model.safetensors"))).encode("hello")).toEqual([257]);
    writeFileSync(at("world/other.safetensors"), modelOf(300));
    await using other = await loadModel(at("world/other.safetensors"));
    expect(other.tokenizer).toBeNull();
    const session = await other.createSession();
    await expect(session.append("hello")).rejects.toThrow(/300 ids and no tokenizer/);
    expect((await session.generate([1, 2], { maxTokens: 3 })).tokens).toHaveLength(3);
    expect(() => session.generate("x", { stop: ["y"] })).toThrow(UsageError);
    await expect(modelTokenizer(at("world/other.safetensors"))).rejects.toBeInstanceOf(UsageError);
  });

  test("is found beside a model of any size as vocab.txt, if its ids fit", async () => {
    mkdirSync(at("small"));
    writeFileSync(at("small/model.safetensors"), modelOf(300));
    writeFileSync(at("small/tight.safetensors"), modelOf(257));
    writeFileSync(at("small/vocab.txt"), VOCABULARY);
    expect((await modelTokenizer(at("small/model.safetensors"))).encode("hello")).toEqual([257]);
    await expect(modelTokenizer(at("small/tight.safetensors"))).rejects.toBeInstanceOf(UsageError);
  });

  test("can be given as a file or an object, and must fit the model", async () => {
    writeFileSync(at("vocabulary.txt"), VOCABULARY);
    await using byFile = await loadModel(modelOf(300), { tokenizer: at("vocabulary.txt") });
    const tokenizer = await loadTokenizer(at("vocabulary.txt"));
    await using byObject = await loadModel(modelOf(300), { tokenizer });
    expect(byFile.tokenizer?.encode("hello")).toEqual(byObject.tokenizer?.encode("hello"));
    await expect(loadModel(BYTES, { tokenizer })).rejects.toThrow(/258 ids.*knows only 256/);
  });

  test("ids that the vocabulary lacks are never drawn, though the model has rows for them", async () => {
    const tokenizer = await loadTokenizer(new TextEncoder().encode(VOCABULARY));
    await using model = await loadModel(modelOf(65536), { tokenizer });
    const { tokens } = await (
      await model.createSession()
    ).generate("hello", { maxTokens: 50, topP: 1, seed: 1 });
    // All logits are equal: without the limit nearly every draw would lie above.
    expect(Math.max(...tokens)).toBeLessThan(258);
  });
});

test("a tuned state is where a restored session starts; one of another shape is refused", async (context) => {
  const golden = join(ROOT, "../shared/fixtures/golden/v7-time-state");
  if (!existsSync(golden)) {
    console.log("skipped: ../shared/fixtures is absent");
    context.skip();
  }
  await using model = await loadModel(join(golden, "model.pth"));
  const tuned = await model.restore(join(golden, "time_state.pth"));
  const fromTuned = await tuned.forward(TOKENS);
  expect(fromTuned).not.toEqual(await (await model.createSession()).forward(TOKENS));
  await tuned.reset();
  expect(await tuned.forward(TOKENS)).toEqual(fromTuned);
  await using other = await loadModel(BYTES);
  await expect(other.restore(join(golden, "time_state.pth"))).rejects.toBeInstanceOf(FormatError);
});

test("activations that the kernels lack are refused as such", async () => {
  const loading = loadModel(BYTES, { backend: "reference", activations: "int8" });
  await expect(loading).rejects.toBeInstanceOf(UnsupportedError);
});

describe("no file", () => {
  const said: string[] = [];
  const logger: Logger = { debug: () => undefined, info: (line) => said.push(line), warn: () => undefined };

  test("means the demo model, and the logger hears where to get a real one", async () => {
    const platform = { ...nodePlatform, findDemoModel: () => at("tiny.safetensors") };
    await using model = await loadFrom(platform, undefined, { threads: 1, logger });
    expect(model.info.name).toBe("tiny.safetensors");
    expect(said).toEqual([DEMO_MODEL_NOTICE]);
    expect(DEMO_MODEL_NOTICE).toMatch(/demo model is used.*https:/);
  });

  test("is a UsageError where there is no demo model", async () => {
    for (const platform of [{ ...nodePlatform, findDemoModel: () => null }, browserPlatform]) {
      await expect(loadFrom(platform, undefined)).rejects.toThrow(UsageError);
      await expect(loadFrom(platform, undefined)).rejects.toThrow(/demo model .*is not here.*https:/);
    }
  });
});

test("a part of a matrix is the same bytes as in the whole, and there is none of what is stored in another order", async () => {
  const { tensors } = canonicalWeights(await openCheckpoint(bytesSource(BYTES)));
  for (const weight of tensors.values()) {
    const { readPart } = weight;
    expect([weight.name, readPart === undefined]).toEqual([weight.name, weight.rule.kind.startsWith("lora")]);
    if (readPart === undefined) continue;
    const whole = new Uint8Array(weight.byteLength);
    await weight.read(whole);
    const part = new Uint8Array(whole.length - 40);
    await readPart(33, part);
    expect(part).toEqual(whole.subarray(33, whole.length - 7));
  }
});
