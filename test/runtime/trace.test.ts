// Traces of whole models on every backend: looking changes nothing, and what is looked at does not depend on how.

import { describe, expect, test } from "vitest";
import { UnsupportedError } from "../../packages/rwkv/src/core/errors.ts";
import type { Trace } from "../../packages/rwkv/src/node.ts";
import type { Engine } from "../../packages/rwkv/src/runtime/engine.ts";
import { traceNames } from "../../packages/rwkv/src/runtime/trace.ts";
import {
  CPU,
  loadVersion,
  REFERENCE,
  THREADED,
  TOKENS,
  valuesOf,
  VERSIONS,
} from "../support/traced-models.ts";

describe.each([REFERENCE, ...CPU, THREADED])("on $name", (place) => {
  test.each(VERSIONS)(
    "v%s: logits and states are the bits of a session, before and behind the trace",
    async (version) => {
      await using model = await loadVersion(place, version);
      const session = await model.createSession();
      const want = await session.forward(TOKENS, { logits: "all" });
      const trace = await model.trace(TOKENS);
      expect(valuesOf(trace, "head")).toEqual(want);
      const state = await session.readState();
      for (const { name, shape, offset } of model.stateLayout) {
        const [, layer, last] = /^blocks\.(\d+)\.(.*)$/.exec(name)!;
        const mix = last === "ffnShift" ? "ffn" : "att";
        const traced = trace.tensors.get(
          `blocks.${layer!}.${mix}.state.${last!.replace(/^...Shift$/, "shift")}`,
        )!;
        expect(traced.shape).toEqual(shape);
        expect(traced.values).toEqual(state.slice(offset, offset + traced.values.length));
      }
      const after = await model.createSession();
      expect(await after.forward(TOKENS, { logits: "all" })).toEqual(want);
    },
  );

  test.each(VERSIONS)("v%s: the same bits whatever is traced, and in steps of any size", async (version) => {
    await using model = await loadVersion(place, version);
    const whole = await model.trace(TOKENS);
    for (const chunk of [1, 4]) {
      await using chunked = await loadVersion(place, version, { chunk });
      expect((await chunked.trace(TOKENS)).tensors).toEqual(whole.tensors);
    }
    const chosen = await model.trace(TOKENS, { names: ["*.r*", "*.k", "head"] });
    expect(chosen.tensors.size).toBeGreaterThan(6);
    for (const [name, tensor] of chosen.tensors) expect(tensor).toEqual(whole.tensors.get(name));
  });

  test("a trace goes on from a state that a session has left", async () => {
    await using model = await loadVersion(place, "7");
    const whole = await model.trace(TOKENS);
    const session = await model.createSession();
    await session.append(TOKENS.slice(0, 6));
    const rest = await model.trace(TOKENS.slice(6), { initialState: await session.readState() });
    expect([...rest.tensors.keys()]).toEqual([...whole.tensors.keys()]);
    for (const [name, { shape, values }] of rest.tensors) {
      const isState = name.includes(".state.");
      expect(values).toEqual(valuesOf(whole, name).slice(isState ? 0 : 6 * shape[1]!));
    }
  });

  test("sessions go on at the same time, with the bits they have alone", async () => {
    await using model = await loadVersion(place, "6");
    const options = { maxTokens: 40, seed: 3, stopTokens: [] };
    const [alone, other] = [await model.createSession(), await model.createSession()];
    const want = (await alone.generate(TOKENS, options)).tokens;
    const wantTrace = await model.trace(TOKENS);
    const [generation, first, second] = await Promise.all([
      other.generate(TOKENS, options),
      model.trace(TOKENS),
      model.trace(TOKENS),
    ]);
    expect(generation.tokens).toEqual(want);
    expect(first.tensors).toEqual(wantTrace.tensors);
    expect(second.tensors).toEqual(wantTrace.tensors);
  });

  test("an abort ends the trace with its reason, a disposal with a UsageError; after an abort the model goes on", async () => {
    const model = await loadVersion(place, "7", { chunk: 8 });
    const want = await model.trace(TOKENS);
    const long = Array.from({ length: 1000 }, (_, i) => TOKENS[i % TOKENS.length]!);
    const reason = new Error("enough");
    await expect(model.trace(long, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const aborted = model.trace(long, { signal: controller.signal });
    setTimeout(() => controller.abort(reason), 1);
    await expect(aborted).rejects.toBe(reason);
    expect(await model.trace(TOKENS)).toEqual(want);
    const disposed = model.trace(long);
    setTimeout(() => model.dispose(), 1);
    await expect(disposed).rejects.toThrow("The model has been disposed");
    await expect(model.trace(TOKENS)).rejects.toThrow("has been disposed");
    expect(() => model.traceNames()).toThrow("has been disposed");
  });
});

describe("what is chosen", () => {
  const names = ({ tensors }: Trace): string[] => [...tensors.keys()];

  test("layers leave out everything else, names are patterns, and both together narrow", async () => {
    await using model = await loadVersion(REFERENCE, "7");
    const all = model.traceNames();
    expect(names(await model.trace([1], { layers: [2, 0] }))).toEqual(
      all.filter((name) => /^blocks\.[02]\./.test(name)),
    );
    expect(names(await model.trace([1], { names: "*.wkv" }))).toEqual(
      all.filter((name) => name.endsWith(".wkv")),
    );
    expect(names(await model.trace([1], { names: ["head", "blocks.1.att.k"] }))).toEqual([
      "blocks.1.att.k",
      "head",
    ]);
    expect(names(await model.trace([1], { names: "*.ffn.k*", layers: [1] }))).toEqual([
      "blocks.1.ffn.k",
      "blocks.1.ffn.k.relu_squared",
    ]);
  });

  test("unknown names are refused with a list of what there is, unknown layers with their range", async () => {
    await using model = await loadVersion(REFERENCE, "7");
    await expect(model.trace([1], { names: ["head", "att.k"] })).rejects.toThrow(
      /^Nothing in m\.safetensors is called "att\.k"\. There are emb, blocks\.\*\.ln0, ln_out, head, blocks\.\*\.att\.\{ln, xr, .*v_gate.*\}, blocks\.\*\.ffn\.\{ln, xk, .*\}; \* stands for any characters\.$/,
    );
    await expect(model.trace([1], { names: "head", layers: [0] })).rejects.toThrow(
      'Nothing in layers 0 of m.safetensors is called "head". There are blocks.*.ln0, blocks.*.att.{ln,',
    );
    for (const layer of [3, -1, 0.5]) {
      await expect(model.trace([1], { layers: [layer] })).rejects.toThrow(
        `Layer ${layer} is unknown to m.safetensors: its layers are 0 to 2.`,
      );
    }
  });

  test("an empty prompt, an unknown id and a state of another length are refused", async () => {
    await using model = await loadVersion(REFERENCE, "7");
    await expect(model.trace([])).rejects.toThrow("at least one token");
    await expect(model.trace([20])).rejects.toThrow("Token 20 is unknown");
    await expect(model.trace("text")).rejects.toThrow("no tokenizer");
    await expect(model.trace([1], { initialState: new Float32Array(3) })).rejects.toThrow(
      "initialState has 3 numbers",
    );
  });

  test("embedding rows are traced as the tokens they belong to, but are no tokens", async () => {
    await using model = await loadVersion(REFERENCE, "5.2");
    const want = await model.trace(TOKENS);
    const { tokens, tensors } = await model.trace(valuesOf(want, "emb"));
    expect(tokens).toBeNull();
    expect(tensors).toEqual(want.tensors);
  });

  test("a backend that cannot look inside a step says so", () => {
    const engine = { name: "m", checkAlive: () => undefined, program: {} } as unknown as Engine;
    expect(() => traceNames(engine)).toThrow(UnsupportedError);
    expect(() => traceNames(engine)).toThrow('Load the model with backend "cpu" or "reference"');
  });
});
