// A model whose engine is behind a line of messages behaves as one whose engine is here: the same bits, errors and ends.

import { describe, expect, test } from "vitest";
import { bytesSource, type ByteSource } from "../../packages/rwkv/src/core/byte-source.ts";
import {
  Conversation,
  createByteTokenizer,
  DeviceError,
  fileErrorCode,
  FormatError,
  loadModel,
  templateFormat,
  UnsupportedError,
  UsageError,
  WORLD_CHAT,
  type GenerateOptions,
  type LoadOptions,
  type LoadProgress,
  type Model,
} from "../../packages/rwkv/src/node.ts";
import { engineWorker, type TestWorker } from "../support/engine-worker.ts";
import { tinyModel } from "../support/tiny-model.ts";

const BYTES = tinyModel();
const TOKENS = Array.from({ length: 50 }, (_, i) => (i * 37 + 11) % 256);
const SAMPLING: GenerateOptions = { maxTokens: 40, seed: 7, temperature: 1.2, topP: 0.9 };

async function loadBoth(
  options: LoadOptions = {},
): Promise<{ here: Model; there: Model; worker: TestWorker }> {
  const worker = engineWorker();
  const here = await loadModel(BYTES, { threads: 1, ...options });
  const there = await loadModel(BYTES, { threads: 1, ...options, worker });
  return { here, there, worker };
}

describe("a model in a worker", () => {
  test("tells what it is as one that is here, and that it is in a worker", async () => {
    const { here, there } = await loadBoth();
    expect(there.info).toEqual({ ...here.info, isInWorker: true });
    expect(there.config).toEqual(here.config);
    expect(there.stateLayout).toEqual(here.stateLayout);
    expect(there.tokenizer!.encode("as here")).toEqual(here.tokenizer!.encode("as here"));
    here.dispose();
    there.dispose();
  });

  test("gives the same logits, texts, log-probabilities, beams, choices and states", async () => {
    const { here, there } = await loadBoth({ chunk: 16 });
    const results = [];
    for (const model of [here, there]) {
      await using session = await model.createSession();
      const logits = await session.forward(TOKENS, { logits: "all" });
      const { text, tokens, logprobs } = await session.generate("so ", { ...SAMPLING, logprobs: 2 });
      const streamed: string[] = [];
      for await (const chunk of session.generate(null, SAMPLING)) streamed.push(chunk.text);
      const guided = await session.generate("on", {
        ...SAMPLING,
        guidance: { scale: 1.5, negative: "off" },
      });
      const beams = await session.beamSearch(null, { maxTokens: 5 });
      const ranked = await session.choose(["yes", "no"], { calibration: "Answer:" });
      const state = await session.readState();
      const zeros = model.zeroInputs();
      results.push({
        logits,
        text,
        tokens,
        logprobs,
        streamed,
        guided: guided.text,
        beams,
        ranked,
        state,
        zeros,
      });
    }
    expect(results[1]).toEqual(results[0]);
    expect(results[0]!.tokens.length).toBe(40);
    here.dispose();
    there.dispose();
  });

  test("functions of the page take part in sampling", async () => {
    const { here, there } = await loadBoth();
    const ends = [];
    for (const model of [here, there]) {
      await using session = await model.createSession();
      const result = await session.generate("x", {
        seed: 1,
        maxTokens: 8,
        sampler: [(candidates) => void candidates.logits.fill(0, 0, candidates.count)],
      });
      ends.push(result.tokens);
    }
    expect(ends[1]).toEqual(ends[0]);
    here.dispose();
    there.dispose();
  });

  test("forks, snapshots and saved sessions go on alike on both sides", async () => {
    const { here, there } = await loadBoth();
    await using first = await there.createSession();
    await first.append(TOKENS);
    await using fork = await first.fork();
    const want = (await first.generate("go", SAMPLING)).text;
    expect((await fork.generate("go", SAMPLING)).text).toBe(want);

    await using start = await here.createSession();
    await start.append(TOKENS);
    const snapshot = await start.snapshot();
    await using moved = await there.createSession({ snapshot });
    expect((await moved.generate("go", SAMPLING)).text).toBe(want);
    await moved.rewind(snapshot);
    await using back = await here.restore(await moved.save());
    expect((await back.generate("go", SAMPLING)).text).toBe(want);
    await moved.reset();
    expect(moved.nTokens).toBe(0);
    here.dispose();
    there.dispose();
  });

  test("a batch gives what each stream gives alone, and a conversation answers alike", async () => {
    const { here, there } = await loadBoth();
    const prompts = ["one", "two and", "three", "four!"];
    const alone = await Promise.all(
      prompts.map(async (prompt) => (await (await here.createSession()).generate(prompt, SAMPLING)).text),
    );
    const sessions = await Promise.all(prompts.map(() => there.createSession()));
    const batch = await Promise.all(sessions.map((session, i) => session.generate(prompts[i]!, SAMPLING)));
    expect(batch.map(({ text }) => text)).toEqual(alone);
    const answers = [];
    for (const model of [here, there]) {
      await using chat = await Conversation.create(model, { format: templateFormat(WORLD_CHAT), seed: 3 });
      answers.push((await chat.say("Hello", { maxTokens: 12 })).generation.text);
    }
    expect(answers[1]).toBe(answers[0]);
    here.dispose();
    there.dispose();
  });

  test("an abort inside a long prompt leaves the session as it was, with the signal's own reason", async () => {
    const { here, there } = await loadBoth({ chunk: 4 });
    await using session = await there.createSession();
    await session.append("before");
    const state = await session.readState();
    const controller = new AbortController();
    const reason = new Error("enough");
    const reading = session.append(TOKENS, {
      signal: controller.signal,
      onProgress: ({ tokensDone }) => tokensDone >= 8 && controller.abort(reason),
    });
    await expect(reading).rejects.toBe(reason);
    expect(await session.readState()).toEqual(state);
    const mistake = new TypeError("in the page's own code");
    const failing = session.append(TOKENS, {
      onProgress: () => {
        throw mistake;
      },
    });
    await expect(failing).rejects.toBe(mistake);
    expect(session.nTokens).toBe(6);
    here.dispose();
    there.dispose();
  });

  test("refusals have the class and the words that they have here", async () => {
    const { here, there } = await loadBoth();
    const messages = [];
    for (const model of [here, there]) {
      await using session = await model.createSession();
      const refusals = [
        session.append([256]),
        session.forward([]),
        session.generate(null, { maxTokens: 1 }),
        model.createSession({ initialState: new Float32Array(3) }),
        model.restore(new Uint8Array(40)),
      ];
      messages.push(
        (await Promise.allSettled(refusals)).map((refusal) => {
          const error = (refusal as PromiseRejectedResult).reason as Error;
          return [error.name, error instanceof UsageError || error instanceof FormatError, error.message];
        }),
      );
    }
    expect(messages[1]).toEqual(messages[0]);
    expect(() => there.traceNames()).toThrow(UnsupportedError);
    await expect(there.trace("x")).rejects.toThrow("not in a worker");
    here.dispose();
    there.dispose();
  });

  test("dispose ends the worker, and what comes later is refused", async () => {
    const { here, there, worker } = await loadBoth();
    const session = await there.createSession();
    const running = session.generate("x", { maxTokens: 1000 });
    const ended = expect(running).rejects.toThrow("has been disposed");
    await new Promise((resolve) => setTimeout(resolve, 20));
    there.dispose();
    await ended;
    expect(worker.isTerminated).toBe(true);
    await expect(there.createSession()).rejects.toThrow(UsageError);
    await expect(session.append("y")).rejects.toThrow("has been disposed");
    here.dispose();
  });

  test("the end of the worker reaches whoever waits, and later calls", async () => {
    const { here, there, worker } = await loadBoth();
    const session = await there.createSession();
    const running = session.append(TOKENS);
    worker.fail("out of memory");
    await expect(running).rejects.toThrow(DeviceError);
    await expect(session.forward("y")).rejects.toThrow("has ended: out of memory");
    await expect(there.createSession()).rejects.toThrow(DeviceError);
    there.dispose();
    here.dispose();
  });
});

describe("loading into a worker", () => {
  async function refusal(file: Parameters<typeof loadModel>[0], options: LoadOptions = {}): Promise<unknown> {
    const worker = engineWorker();
    const error: unknown = await loadModel(file, { ...options, worker }).catch((reason: unknown) => reason);
    expect(worker.isTerminated).toBe(true);
    return error;
  }

  test("a source that only the page can read is read there, piece by piece, and closed", async () => {
    const { here } = await loadBoth();
    let isClosed = false;
    let mostBytes = 0;
    const inner = bytesSource(BYTES, "mine.safetensors");
    const source: ByteSource = {
      ...inner,
      read(offset, target, signal) {
        mostBytes = Math.max(mostBytes, target.byteLength);
        return inner.read(offset, target, signal);
      },
      close() {
        isClosed = true;
        return Promise.resolve();
      },
    };
    const there = await loadModel(source, { worker: engineWorker() });
    expect(there.info.name).toBe("mine.safetensors");
    expect(there.info.fingerprint).toBe(here.info.fingerprint);
    expect(isClosed).toBe(true);
    expect(mostBytes).toBeGreaterThan(0);
    here.dispose();
    there.dispose();
  });

  test("a Blob and a handle of a file are read by the worker", async () => {
    for (const file of [
      new Blob([BYTES as Uint8Array<ArrayBuffer>]),
      new File([BYTES as Uint8Array<ArrayBuffer>], "m.st"),
    ]) {
      const there = await loadModel(file, { worker: engineWorker() });
      expect(there.config.nLayer).toBe(2);
      there.dispose();
    }
    const handle = {
      name: "m.st",
      getFile: () => Promise.resolve(new File([BYTES as Uint8Array<ArrayBuffer>], "m.st")),
    };
    const here = await loadModel(handle);
    expect(here.info.name).toBe("m.st");
    here.dispose();
    const gone = { name: "m.st", getFile: () => Promise.reject(new DOMException("gone", "NotFoundError")) };
    await expect(loadModel(gone)).rejects.toThrow("m.st: the file behind this handle cannot be read");
  });

  test("progress and messages reach the page in order, and the page's tokenizer stays there", async () => {
    const progress: LoadProgress[] = [];
    const messages: string[] = [];
    const log = (message: string): void => void messages.push(message);
    const tokenizer = createByteTokenizer();
    const there = await loadModel(BYTES, {
      worker: engineWorker(),
      tokenizer,
      onProgress: (event) => progress.push(event),
      logger: { debug: log, info: log, warn: log },
    });
    expect(there.tokenizer).toBe(tokenizer);
    expect(progress.at(-1)!.bytesDone).toBe(progress.at(-1)!.bytesTotal);
    expect(messages.at(-1)).toContain("bytes of weights loaded");
    there.dispose();
  });

  test("a failed load ends the worker and has the class, words and cause that it has here", async () => {
    const cut = BYTES.subarray(0, 5000);
    const damaged = await refusal(cut);
    expect(damaged).toBeInstanceOf(FormatError);
    const here: unknown = await loadModel(cut).catch((error: unknown) => error);
    expect((damaged as Error).message).toBe((here as Error).message);
    const missing = await refusal("/nowhere/m.gguf");
    expect(missing).toBeInstanceOf(UsageError);
    expect(fileErrorCode(missing)).toBe("ENOENT");
    expect(await refusal(BYTES, { tokenizer: "/nowhere/t.json" })).toBeInstanceOf(UsageError);
  });

  test("an abort and an error in the page's progress end the load with themselves", async () => {
    const reason = new Error("changed my mind");
    const controller = new AbortController();
    const aborted = await refusal(BYTES, {
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    });
    expect(aborted).toBe(reason);
    const mistake = new TypeError("in the page's own code");
    const failed = await refusal(BYTES, {
      onProgress: () => {
        throw mistake;
      },
    });
    expect(failed).toBe(mistake);
  });

  test("Node starts no workers for engines", async () => {
    await expect(loadModel(BYTES, { worker: true })).rejects.toThrow("`worker` is for browsers");
  });
});
