// What sessions promise, on every backend: the same bits however a text was read, saved, forked or batched.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import {
  loadModel,
  RwkvError,
  UsageError,
  type BackendName,
  type Model,
  type TokenProgress,
} from "../../packages/rwkv/src/node.ts";
import { tinyModel } from "../support/tiny-model.ts";

const TOKENS = Array.from({ length: 50 }, (_, i) => (i * 37 + 11) % 256);

function load(backend: BackendName, seed = 1, chunk = 16): Promise<Model> {
  return loadModel(bytesSource(tinyModel({ seed }), `tiny-${seed}.safetensors`), { backend, chunk });
}

/** Equal to the bit, NaN and signed zeros included. */
function expectSameBits(got: Float32Array, want: Float32Array): void {
  expect(got.length).toBe(want.length);
  expect(
    Buffer.from(got.buffer, got.byteOffset, got.byteLength).equals(
      Buffer.from(want.buffer, want.byteOffset, want.byteLength),
    ),
  ).toBe(true);
}

describe.each(["cpu", "reference"] as const)("on %s", (backend) => {
  let model: Model;
  beforeAll(async () => {
    model = await load(backend);
  });
  afterAll(() => model.dispose());

  async function fresh(): ReturnType<Model["createSession"]> {
    return model.createSession();
  }

  test("one call, token by token, and every chunk size give the same logits and state", async () => {
    const whole = await fresh();
    const want = await whole.forward(TOKENS, { logits: "all" });
    const wantState = await whole.readState();
    for (const pieceLength of [1, 3, 7, 64]) {
      const session = await fresh();
      for (let i = 0; i < TOKENS.length; i += pieceLength) {
        const piece = TOKENS.slice(i, i + pieceLength);
        const got = await session.forward(piece, { logits: "all" });
        expectSameBits(got, want.subarray(i * 256, (i + piece.length) * 256));
      }
      expectSameBits(await session.readState(), wantState);
    }
  });

  test("a model loaded with another chunk limit gives the same bits", async () => {
    const session = await fresh();
    const want = await session.forward(TOKENS, { logits: "all" });
    for (const chunk of [1, 5, 256]) {
      await using other = await load(backend, 1, chunk);
      await using otherSession = await other.createSession();
      expectSameBits(await otherSession.forward(TOKENS, { logits: "all" }), want);
    }
  });

  test("sessions that read at the same time get the bits they get alone", async () => {
    const prompts = [TOKENS.slice(0, 40), TOKENS.slice(5, 6), TOKENS.slice(7, 30), TOKENS.slice(20, 22)];
    const alone: Float32Array[] = [];
    for (const prompt of prompts) alone.push(await (await fresh()).forward(prompt, { logits: "all" }));
    const sessions = await Promise.all(prompts.map(() => fresh()));
    const together = await Promise.all(
      sessions.map((session, i) => session.forward(prompts[i]!, { logits: "all" })),
    );
    together.forEach((logits, i) => expectSameBits(logits, alone[i]!));
  });

  test("two interleaved sessions equal two separate ones", async () => {
    const [a, b, c, d] = [await fresh(), await fresh(), await fresh(), await fresh()];
    for (const token of TOKENS.slice(0, 12)) {
      await a.forward([token]);
      await b.forward([255 - token]);
    }
    const first = TOKENS.slice(0, 12);
    await c.forward(first);
    await d.forward(first.map((token) => 255 - token));
    expectSameBits(await a.readState(), await c.readState());
    expectSameBits(await b.readState(), await d.readState());
  });

  test("a saved session, restored, goes on with the same bits and the same random numbers", async () => {
    const session = await fresh();
    await session.append(TOKENS);
    const begun = await session.generate(null, { maxTokens: 5, seed: 7 });
    const bytes = await session.save();
    const want = await session.generate(null, { maxTokens: 10 });
    const restored = await model.restore(bytes);
    expect(restored.nTokens).toBe(TOKENS.length + begun.tokens.length);
    expect(restored.recentTokens).toEqual([...TOKENS, ...begun.tokens]);
    const got = await restored.generate(null, { maxTokens: 10 });
    expect(got.tokens).toEqual(want.tokens);
    expectSameBits(await restored.readState(), await session.readState());
    const whole = await (await fresh()).generate(TOKENS, { maxTokens: 15, seed: 7 });
    expect(whole.tokens).toEqual([...begun.tokens, ...want.tokens]);
  });

  test("a session saved after forward() can go on without a prompt", async () => {
    const session = await fresh();
    await session.forward(TOKENS);
    const restored = await model.restore(await session.save());
    const got = await restored.generate(null, { maxTokens: 4, temperature: 0 });
    const want = await session.generate(null, { maxTokens: 4, temperature: 0 });
    expect(got.tokens).toEqual(want.tokens);
  });

  test("a state of another model is refused, naming both", async () => {
    await using other = await load(backend, 2);
    const saved = await (await other.createSession()).save();
    await expect(model.restore(saved)).rejects.toThrow(/tiny-2\.safetensors.*tiny-1\.safetensors/s);
    await expect(model.restore(saved)).rejects.toBeInstanceOf(UsageError);
  });

  test("a fork goes its own way and leaves the original as it was", async () => {
    const session = await fresh();
    await session.append(TOKENS.slice(0, 9));
    const fork = await session.fork();
    await fork.append([1, 2, 3]);
    const untouched = await fresh();
    await untouched.append(TOKENS.slice(0, 9));
    expectSameBits(await session.readState(), await untouched.readState());
    expect(session.nTokens).toBe(9);
    expect(fork.nTokens).toBe(12);
  });

  test("forks asked for together are independent of each other, and a busy session has none", async () => {
    const session = await fresh();
    await session.append(TOKENS.slice(0, 9));
    const forks = await Promise.all([session.fork(), session.fork(), session.fork()]);
    const logits = await Promise.all(forks.map((fork, i) => fork.forward([i])));
    for (const [i, row] of logits.entries()) {
      const alone = await fresh();
      await alone.append(TOKENS.slice(0, 9));
      expectSameBits(row, await alone.forward([i]));
    }
    const reading = session.append(TOKENS);
    await expect(session.fork()).rejects.toThrow(/busy/);
    await reading;
  });

  test("reset leaves nothing of what was read", async () => {
    const session = await fresh();
    await session.generate(TOKENS, { maxTokens: 3 });
    await session.reset();
    expect(session.nTokens).toBe(0);
    expectSameBits(await session.readState(), await (await fresh()).readState());
    await expect(session.generate(null)).rejects.toThrow(/nothing to continue/);
  });

  test("embedding rows give the bits of the tokens they stand for", async () => {
    const session = await fresh();
    const want = await session.forward(TOKENS.slice(0, 6), { logits: "all" });
    const file = tinyModel();
    const headerLength = Number(new DataView(file.buffer).getBigUint64(0, true));
    const table = new Float32Array(file.slice(8 + headerLength, 8 + headerLength + 256 * 64 * 4).buffer);
    const rows = new Float32Array(6 * 64);
    TOKENS.slice(0, 6).forEach((token, i) => rows.set(table.subarray(token * 64, (token + 1) * 64), i * 64));
    expectSameBits(await (await fresh()).forward(rows, { logits: "all" }), want);
    const mixed = await fresh();
    await mixed.append(TOKENS.slice(0, 3));
    await mixed.append(rows.subarray(3 * 64));
    expectSameBits(await mixed.readState(), await session.readState());
  });

  test("an initial state is where a session starts and where reset returns to", async () => {
    const donor = await fresh();
    await donor.forward(TOKENS);
    const initialState = await donor.readState();
    const session = await model.createSession({ initialState });
    const want = await donor.forward([3]);
    expectSameBits(await session.forward([3]), want);
    await session.reset();
    expectSameBits(await session.readState(), initialState);
    await expect(model.createSession({ initialState: new Float32Array(3) })).rejects.toThrow(/3 numbers/);
  });

  test("aborting inside a prefill leaves the session as before", async () => {
    const session = await fresh();
    await session.append(TOKENS);
    const before = await session.save();
    const controller = new AbortController();
    const reason = new Error("enough");
    const long = Array.from({ length: 4000 }, (_, i) => i % 256);
    const reading = session.append(long, {
      signal: controller.signal,
      onProgress: ({ tokensDone }) => {
        if (tokensDone > 100) controller.abort(reason);
      },
    });
    await expect(reading).rejects.toBe(reason);
    expect(Buffer.from(await session.save()).equals(Buffer.from(before))).toBe(true);
    await session.append([1]);
  });

  test("a timer can abort a prefill that runs", async () => {
    const session = await fresh();
    const long = Array.from({ length: 200_000 }, (_, i) => i % 256);
    const signal = AbortSignal.timeout(50);
    await expect(session.append(long, { signal })).rejects.toMatchObject({ name: "TimeoutError" });
    expect(session.nTokens).toBe(0);
  });

  test("greedy generation follows the largest logit", async () => {
    const session = await fresh();
    const { tokens } = await session.generate(TOKENS, { maxTokens: 8, temperature: 0 });
    const check = await fresh();
    let logits = await check.forward(TOKENS);
    for (const token of tokens) {
      expect(token).toBe(logits.indexOf(Math.max(...logits)));
      logits = await check.forward([token]);
    }
  });

  test("a call on a busy session is refused and harms nothing", async () => {
    const session = await fresh();
    const reading = session.append(TOKENS);
    await expect(session.append([1])).rejects.toThrow(/busy/);
    await reading;
    expect(session.nTokens).toBe(TOKENS.length);
  });

  test("logits go into the array that is given, with a pending token before them or not", async () => {
    const [plain, other] = [await fresh(), await fresh()];
    const target = new Float32Array(2 * 256);
    for (const isPending of [false, true]) {
      if (isPending) for (const session of [plain, other]) await session.append([9]);
      const want = await plain.forward([1, 2], { logits: "all" });
      expect(await other.forward([1, 2], { logits: "all", target })).toBe(target);
      expectSameBits(target, want);
    }
    const row = target.subarray(0, 256);
    const want = await plain.forward([3]);
    expect(await other.forward([3], { target: row })).toBe(row);
    expectSameBits(row, want);
    // What the session samples from is its own, whatever becomes of the caller's array.
    row.fill(0);
    const [a, b] = await Promise.all(
      [plain, other].map((session) => session.generate(null, { maxTokens: 4, temperature: 0 })),
    );
    expect(b!.tokens).toEqual(a!.tokens);
    await expect(other.forward([3], { target })).rejects.toThrow(
      'target has 512 elements, but logits "last" of 1 rows are 256',
    );
  });

  test("ids outside the vocabulary, odd rows and bad options are refused with what is allowed", async () => {
    const session = await fresh();
    await expect(session.append([1, 256])).rejects.toThrow(/Token 256 .*0 to 255/);
    await expect(session.append([-1])).rejects.toBeInstanceOf(UsageError);
    await expect(session.append([1.5])).rejects.toBeInstanceOf(UsageError);
    await expect(session.append(new Float32Array(63))).rejects.toThrow(/64 numbers wide/);
    await expect(session.forward([])).rejects.toThrow(/at least one token/);
    expect(() => session.generate(null, { maxTokens: -1 })).toThrow(UsageError);
    expect(() => session.generate(null, { maxTokens: 1.5 })).toThrow(UsageError);
    expect(() => session.generate(null, { stop: [""] })).toThrow(/empty/);
    expect(session.nTokens).toBe(0);
  });

  test("progress of a prefill ends at the number of its tokens", async () => {
    const session = await fresh();
    const events: TokenProgress[] = [];
    await session.generate(TOKENS, { maxTokens: 3, onProgress: (progress) => void events.push(progress) });
    const prefill = events.filter(({ phase }) => phase === "prefill");
    expect(prefill.at(-1)).toMatchObject({ tokensDone: TOKENS.length - 1, tokensTotal: TOKENS.length - 1 });
    const decode = events.filter(({ phase }) => phase === "decode");
    expect(decode.map(({ tokensDone }) => tokensDone)).toEqual([1, 2, 3]);
  });

  test("disposed sessions and models refuse with a reason", async () => {
    const own = await load(backend);
    const session = await own.createSession();
    const other = await own.createSession();
    session.dispose();
    session.dispose();
    await expect(session.append([1])).rejects.toThrow(/session has been disposed/);
    own.dispose();
    own.dispose();
    await expect(other.append([1])).rejects.toThrow(/model has been disposed/);
    await expect(own.createSession()).rejects.toBeInstanceOf(RwkvError);
    other.dispose();
  });
});
