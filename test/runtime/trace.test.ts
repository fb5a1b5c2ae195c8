// Traces of whole models: what is in them is what its name says, on every backend, and looking changes nothing.

import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { UnsupportedError } from "../../packages/rwkv/src/core/errors.ts";
import { diffTraces, type Model, type Trace } from "../../packages/rwkv/src/node.ts";
import { nodePlatform } from "../../packages/rwkv/src/platform/node/platform.ts";
import type { Engine } from "../../packages/rwkv/src/runtime/engine.ts";
import { loadModel, type LoadOptions } from "../../packages/rwkv/src/runtime/load.ts";
import { traceNames } from "../../packages/rwkv/src/runtime/trace.ts";
import { expectClose, FIXTURES, hasFixture, readBytes, readF32, readJson } from "../golden/run-model.ts";
import { SIZES, syntheticModel, type SyntheticVersion, type TensorValues } from "../golden/synthetic.ts";
import { HAS_ADDON } from "../support/cli.ts";
import { fileOf } from "../support/synthetic-file.ts";

const VERSIONS: readonly SyntheticVersion[] = ["4", "5.0", "5.1", "5.2", "6", "7"];
/** The head size is the width of nothing else. */
const MODEL_SIZES = { ...SIZES, nLayer: 3, nVocab: 20, nEmbd: 64, nFfn: 96, heads: 4, ranks7: [8, 7, 6, 9] } as const;

/** Its matrices are scaled, so that activations keep the size they have in trained models. */
function modelOf(version: SyntheticVersion): Map<string, TensorValues> {
  const model = syntheticModel(version, MODEL_SIZES);
  for (const [name, { shape, values }] of model) {
    if (!name.endsWith(".weight") || shape.length < 2 || name === "emb.weight") continue;
    for (let i = 0; i < values.length; i++) values[i] = values[i]! / 4;
  }
  return model;
}

const TOKENS = [3, 17, 0, 5, 5, 19, 8, 1, 12, 3, 9];

interface Place {
  readonly name: string;
  readonly options: LoadOptions;
  readonly hasNative: boolean;
}

const REFERENCE: Place = { name: "reference", options: { backend: "reference" }, hasNative: false };
const CPU: readonly Place[] = [
  { name: "cpu in WebAssembly", options: { threads: 1 }, hasNative: false },
  { name: "cpu in WebAssembly, 2 threads", options: { threads: 2 }, hasNative: false },
  ...(HAS_ADDON ? [{ name: "cpu in native code", options: { threads: 2 }, hasNative: true }] : []),
];
if (!HAS_ADDON) console.log("skipped: traces of native kernels: the addon was not built");
const PLACES = [REFERENCE, ...CPU];
/** Those that start no threads of their own for each trace. */
const WITHOUT_POOL = PLACES.filter(({ name }) => !name.includes("2 threads"));

function load({ options, hasNative }: Place, file: Uint8Array, more: LoadOptions = {}): Promise<Model> {
  const { loadNative, ...withoutNative } = nodePlatform;
  const platform = hasNative ? { ...withoutNative, loadNative: loadNative! } : withoutNative;
  return loadModel(platform, bytesSource(file, "m.safetensors"), { ...options, ...more });
}

async function loadVersion(
  place: Place,
  version: SyntheticVersion,
  more?: LoadOptions,
  edit?: (model: Map<string, TensorValues>) => void,
): Promise<Model> {
  const model = modelOf(version);
  edit?.(model);
  return load(place, await fileOf(model), more);
}

function valuesOf(trace: Trace, name: string): Float32Array {
  return trace.tensors.get(name)!.values;
}

describe.each(PLACES)("on $name", (place) => {
  test.each(VERSIONS)("v%s: logits and states are the bits of a session, before and behind the trace", async (version) => {
    await using model = await loadVersion(place, version);
    const session = await model.createSession();
    const want = await session.forward(TOKENS, { logits: "all" });
    const trace = await model.trace(TOKENS);
    expect(valuesOf(trace, "head")).toEqual(want);
    const state = await session.readState();
    for (const { name, shape, offset } of model.stateLayout) {
      const [, layer, last] = /^blocks\.(\d+)\.(.*)$/.exec(name)!;
      const mix = last === "ffnShift" ? "ffn" : "att";
      const traced = trace.tensors.get(`blocks.${layer!}.${mix}.state.${last!.replace(/^...Shift$/, "shift")}`)!;
      expect(traced.shape).toEqual(shape);
      expect(traced.values).toEqual(state.slice(offset, offset + traced.values.length));
    }
    const after = await model.createSession();
    expect(await after.forward(TOKENS, { logits: "all" })).toEqual(want);
  });

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
    const long = Array.from({ length: 400 }, (_, i) => TOKENS[i % TOKENS.length]!);
    const reason = new Error("enough");
    await expect(model.trace(long, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const aborted = model.trace(long, { signal: controller.signal });
    setTimeout(() => controller.abort(reason), 5);
    await expect(aborted).rejects.toBe(reason);
    expect(await model.trace(TOKENS)).toEqual(want);
    const disposed = model.trace(long);
    setTimeout(() => model.dispose(), 5);
    await expect(disposed).rejects.toThrow("The model has been disposed");
    await expect(model.trace(TOKENS)).rejects.toThrow("has been disposed");
    expect(() => model.traceNames()).toThrow("has been disposed");
  });
});

describe.each(WITHOUT_POOL.slice(1))("$name and the reference", (place) => {
  test.each(VERSIONS)("v%s: have the same names, and values close to each other", async (version) => {
    await using reference = await loadVersion(REFERENCE, version);
    await using model = await loadVersion(place, version);
    expect(model.traceNames()).toEqual(reference.traceNames());
    const [a, b] = [await reference.trace(TOKENS), await model.trace(TOKENS)];
    expect([...a.tensors.keys()]).toEqual(reference.traceNames());
    expect([...b.tensors.keys()]).toEqual(reference.traceNames());
    expect(diffTraces(a, b, { atol: 1e-4, rtol: 1e-4 })).toMatchObject({
      first: null,
      onlyInFirst: [],
      onlyInSecond: [],
    });
    expect(b.origin).toMatchObject({ model: "m.safetensors", modelVersion: version, backend: "cpu" });
    expect(b.tokens).toEqual(TOKENS);
  });
});

/** What is computed from the weights and the trace's own values, as the official programs have it. */
describe("values are what their names say, computed from the weights alone", () => {
  const C = MODEL_SIZES.nEmbd;

  test.each(VERSIONS)("v%s", async (version) => {
    const weights = modelOf(version);
    await using model = await loadVersion(REFERENCE, version);
    const trace = await model.trace(TOKENS);
    const traced = (name: string): Float32Array => valuesOf(trace, name);
    const weight = (name: string): Float32Array => weights.get(name)!.values;
    let nChecked = 0;
    /** Each element in f64; values below 1000 are stored in f32. */
    const check = (name: string, want: (t: number, c: number) => number): void => {
      const { shape, values } = trace.tensors.get(name)!;
      const width = shape[1]!;
      const expected = Array.from(values, (_, i) => want(Math.floor(i / width), i % width));
      const largest = Math.max(...expected.map(Math.abs));
      expectClose(name, values, expected, 1e-5 * Math.max(1, largest));
      nChecked += 1;
    };
    /** `[out, in]` times the rows of another value. */
    const product = (matrix: Float32Array, input: string) => {
      const { shape, values } = trace.tensors.get(input)!;
      const nIn = shape[1]!;
      return (t: number, o: number): number => {
        let sum = 0;
        for (let i = 0; i < nIn; i++) sum += matrix[o * nIn + i]! * values[t * nIn + i]!;
        return sum;
      };
    };
    const at = (name: string, width: number = C) => {
      const values = traced(name);
      return (t: number, c: number): number => values[t * width + c]!;
    };
    const previous = (name: string) => {
      const row = at(name);
      return (t: number, c: number): number => (t === 0 ? 0 : row(t - 1, c));
    };
    const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
    /** outer(bias + (inner(x @ down)) @ up), factors as official files have them. */
    const lowRank =
      (input: string, down: Float32Array, up: Float32Array, inner: (x: number) => number) =>
      (t: number, o: number): number => {
        const rank = down.length / C;
        const x = at(input);
        let sum = 0;
        for (let j = 0; j < rank; j++) {
          let hidden = 0;
          for (let i = 0; i < C; i++) hidden += x(t, i) * down[i * rank + j]!;
          sum += inner(hidden) * up[j * C + o]!;
        }
        return sum;
      };
    const norm = (input: string, prefix: string, groups = 1, eps = 1e-5) => {
      const x = at(input);
      const size = C / groups;
      return (t: number, c: number): number => {
        const start = Math.floor(c / size) * size;
        const group = Array.from({ length: size }, (_, i) => x(t, start + i));
        const mean = group.reduce((a, b) => a + b, 0) / size;
        const variance = group.reduce((a, b) => a + (b - mean) ** 2, 0) / size;
        const normal = (x(t, c) - mean) / Math.sqrt(variance + eps);
        return normal * weight(`${prefix}.weight`)[c]! + weight(`${prefix}.bias`)[c]!;
      };
    };

    check("emb", (t, c) => weight("emb.weight")[TOKENS[t]! * C + c]!);
    check("blocks.0.ln0", norm("emb", "blocks.0.ln0"));
    check("ln_out", norm("blocks.2.ffn.x", "ln_out"));
    check("head", product(weight("head.weight"), "ln_out"));
    for (let layer = 0; layer < MODEL_SIZES.nLayer; layer++) {
      const block = `blocks.${layer}`;
      const [att, ffn] = [`${block}.att`, `${block}.ffn`];
      const before = layer === 0 ? "blocks.0.ln0" : `blocks.${layer - 1}.ffn.x`;
      check(`${att}.ln`, norm(before, `${block}.ln1`));
      check(`${ffn}.ln`, norm(`${att}.x`, `${block}.ln2`));
      check(`${att}.x`, (t, c) => at(before)(t, c) + at(`${att}.out`)(t, c));
      check(`${ffn}.x`, (t, c) => at(`${att}.x`)(t, c) + at(`${ffn}.out`)(t, c));
      for (const mix of [att, ffn]) {
        expect(traced(`${mix}.state.shift`)).toEqual(traced(`${mix}.ln`).slice(-C));
      }

      const shifted = (mix: string, letters: string, shareOfPrevious: (q: string, c: number) => number): void => {
        for (const q of letters) {
          check(`${mix}.x${q}`, (t, c) => {
            const share = shareOfPrevious(q, c);
            return (1 - share) * at(`${mix}.ln`)(t, c) + share * previous(`${mix}.ln`)(t, c);
          });
        }
      };
      if (version === "4" || version.startsWith("5")) {
        const letters = version === "4" || version === "5.0" ? "rkv" : "rkvg";
        shifted(att, letters, (q, c) => 1 - weight(`${att}.time_mix_${q}`)[c]!);
        shifted(ffn, "rk", (q, c) => 1 - weight(`${ffn}.time_mix_${q}`)[c]!);
      } else if (version === "7") {
        shifted(att, "rwkvag", (q, c) => weight(`${att}.x_${q}`)[c]!);
        shifted(ffn, "k", (q, c) => weight(`${ffn}.x_${q}`)[c]!);
      } else {
        check(`${att}.xx`, (t, c) => previous(`${att}.ln`)(t, c) - at(`${att}.ln`)(t, c));
        const added = (share: (t: number, c: number) => number) => (t: number, c: number) =>
          at(`${att}.ln`)(t, c) + at(`${att}.xx`)(t, c) * share(t, c);
        check(`${att}.xxx`, added((_, c) => weight(`${att}.time_maa_x`)[c]!));
        const [rank] = MODEL_SIZES.ranks6;
        ["w", "k", "v", "r", "g"].forEach((q, piece) => {
          const down = Float32Array.from({ length: C * rank }, (_, i) => {
            const [row, column] = [Math.floor(i / rank), i % rank];
            return weight(`${att}.time_maa_w1`)[row * 5 * rank + piece * rank + column]!;
          });
          const up = weight(`${att}.time_maa_w2`).slice(piece * rank * C, (piece + 1) * rank * C);
          const map = lowRank(`${att}.xxx`, down, up, Math.tanh);
          check(`${att}.mix_${q}`, (t, c) => weight(`${att}.time_maa_${q}`)[c]! + map(t, c));
          check(`${att}.x${q}`, added(at(`${att}.mix_${q}`)));
        });
        const decay = lowRank(
          `${att}.xw`,
          weight(`${att}.time_decay_w1`),
          weight(`${att}.time_decay_w2`),
          Math.tanh,
        );
        check(`${att}.w`, (t, c) => Math.exp(-Math.exp(weight(`${att}.time_decay`)[c]! + decay(t, c))));
        shifted(ffn, "rk", (q, c) => weight(`${ffn}.time_maa_${q}`)[c]!);
      }

      for (const [q, matrix] of [
        ["r", "receptance"],
        ["k", "key"],
        ["v", "value"],
      ] as const) {
        check(`${att}.${q}`, product(weight(`${att}.${matrix}.weight`), `${att}.x${q}`));
      }
      const heads = MODEL_SIZES.heads;
      const size = C / heads;
      if (version !== "4") check(`${att}.ln_x`, norm(`${att}.wkv`, `${att}.ln_x`, heads, 64e-5));
      let gated = `${att}.gated`;
      if (version === "4") {
        check(`${att}.r.sigmoid`, (t, c) => sigmoid(at(`${att}.r`)(t, c)));
        check(gated, (t, c) => at(`${att}.wkv`)(t, c) * at(`${att}.r.sigmoid`)(t, c));
      } else if (version === "5.0") {
        gated = `${att}.ln_x`;
      } else if (version === "7") {
        const map = (q: string, inner: (x: number) => number) =>
          lowRank(`${att}.x${q}`, weight(`${att}.${q}1`), weight(`${att}.${q}2`), inner);
        const [decay, rate, gate] = [map("w", Math.tanh), map("a", (x) => x), map("g", sigmoid)];
        check(`${att}.w`, (t, c) =>
          Math.exp(-Math.exp(-0.5) * sigmoid(weight(`${att}.w0`)[c]! + decay(t, c))),
        );
        check(`${att}.a`, (t, c) => sigmoid(weight(`${att}.a0`)[c]! + rate(t, c)));
        check(`${att}.g`, gate);
        let v = at(`${att}.v`);
        if (layer > 0) {
          const share = map("v", (x) => x);
          check(`${att}.v_gate`, (t, c) => sigmoid(weight(`${att}.v0`)[c]! + share(t, c)));
          const [own, first] = [v, at("blocks.0.att.v")];
          check(
            `${att}.v.mixed`,
            (t, c) => own(t, c) + (first(t, c) - own(t, c)) * at(`${att}.v_gate`)(t, c),
          );
          v = at(`${att}.v.mixed`);
        }
        check(`${att}.kk`, (t, c) => {
          const scaled = (i: number): number => at(`${att}.k`)(t, i) * weight(`${att}.k_k`)[i]!;
          const start = Math.floor(c / size) * size;
          return scaled(c) / Math.hypot(...Array.from({ length: size }, (_, i) => scaled(start + i)));
        });
        check(
          `${att}.k.scaled`,
          (t, c) => at(`${att}.k`)(t, c) * (1 + (at(`${att}.a`)(t, c) - 1) * weight(`${att}.k_a`)[c]!),
        );
        check(`${att}.bonus`, (t, c) => {
          const start = Math.floor(c / size) * size;
          let sum = 0;
          for (let i = start; i < start + size; i++) {
            sum += at(`${att}.r`)(t, i) * at(`${att}.k.scaled`)(t, i) * weight(`${att}.r_k`)[i]!;
          }
          return at(`${att}.ln_x`)(t, c) + sum * v(t, c);
        });
        check(gated, (t, c) => at(`${att}.bonus`)(t, c) * at(`${att}.g`)(t, c));
      } else {
        check(`${att}.g`, product(weight(`${att}.gate.weight`), `${att}.xg`));
        check(`${att}.g.silu`, (t, c) => at(`${att}.g`)(t, c) * sigmoid(at(`${att}.g`)(t, c)));
        check(gated, (t, c) => at(`${att}.ln_x`)(t, c) * at(`${att}.g.silu`)(t, c));
      }
      check(`${att}.out`, product(weight(`${att}.output.weight`), gated));
      // The first token meets an empty state, so that its wkv is known without the recurrence.
      const bonus = version === "5.0" ? "time_first" : "time_faaaa";
      const firstKey = (name: string) => (c: number) => {
        const start = Math.floor(c / size) * size;
        let sum = 0;
        for (let i = start; i < start + size; i++) {
          const perChannel = version === "5.2" || version === "6";
          const raw = version === "7" ? 1 : weight(`${att}.${bonus}`)[perChannel ? i : Math.floor(i / size)]!;
          const u = version === "5.0" ? Math.exp(raw) : raw;
          sum += at(`${att}.r`)(0, i) * u * at(name)(0, i);
        }
        return sum;
      };
      const wkv = traced(`${att}.wkv`).slice(0, C);
      const value = version === "7" && layer > 0 ? `${att}.v.mixed` : `${att}.v`;
      const reads = version === "4" ? () => 1 : firstKey(version === "7" ? `${att}.k.scaled` : `${att}.k`);
      const wantWkv = Array.from({ length: C }, (_, c) => reads(c) * at(value)(0, c));
      expectClose(`${att}.wkv`, wkv, wantWkv, 1e-5 * Math.max(1, ...wantWkv.map(Math.abs)));

      const F = MODEL_SIZES.nFfn;
      check(`${ffn}.k`, product(weight(`${ffn}.key.weight`), `${ffn}.xk`));
      check(`${ffn}.k.relu_squared`, (t, c) => Math.max(0, at(`${ffn}.k`, F)(t, c)) ** 2);
      const last = version === "7" ? `${ffn}.out` : `${ffn}.kv`;
      check(last, product(weight(`${ffn}.value.weight`), `${ffn}.k.relu_squared`));
      if (version !== "7") {
        check(`${ffn}.r`, product(weight(`${ffn}.receptance.weight`), `${ffn}.xr`));
        check(`${ffn}.r.sigmoid`, (t, c) => sigmoid(at(`${ffn}.r`)(t, c)));
        check(`${ffn}.out`, (t, c) => at(`${ffn}.kv`)(t, c) * at(`${ffn}.r.sigmoid`)(t, c));
      }
    }
    // All but wkv, of which the first token alone was checked above, and the states.
    const rows = model.traceNames().filter((name) => !name.includes(".state."));
    expect(nChecked).toBe(rows.length - MODEL_SIZES.nLayer);
  });
});

/** A weight of layer 1 or outside the layers, and the value that it goes into first. */
const INJECTIONS: Readonly<Record<string, readonly [weight: string, value: string, token?: number][]>> = {
  "4": [
    ["att.time_first", "att.wkv", 1],
    ["att.time_decay", "att.wkv", 2],
    ["att.time_mix_r", "att.xr"],
    ["ffn.receptance.weight", "ffn.r"],
    ["ffn.value.weight", "ffn.kv"],
  ],
  "5.0": [
    ["att.time_first", "att.wkv"],
    ["att.ln_x.bias", "att.ln_x"],
    ["ffn.value.weight", "ffn.kv"],
  ],
  "5.1": [
    ["att.time_faaaa", "att.wkv"],
    ["att.gate.weight", "att.g"],
  ],
  "5.2": [
    ["att.time_decay", "att.wkv", 2],
    ["att.time_mix_g", "att.xg"],
  ],
  "6": [
    ["att.time_maa_x", "att.xxx"],
    ["att.time_maa_w", "att.mix_w"],
    ["att.time_decay", "att.w"],
    ["att.time_faaaa", "att.wkv"],
    ["att.gate.weight", "att.g"],
    ["ffn.time_maa_r", "ffn.xr"],
  ],
  "7": [
    ["att.x_g", "att.xg"],
    ["att.w0", "att.w"],
    ["att.a0", "att.a"],
    ["att.v0", "att.v_gate"],
    ["att.k_k", "att.kk"],
    ["att.k_a", "att.k.scaled"],
    ["att.ln_x.weight", "att.ln_x"],
    ["att.r_k", "att.bonus"],
    ["ffn.x_k", "ffn.xk"],
    ["ffn.value.weight", "ffn.out"],
  ],
};
const COMMON: readonly [weight: string, value: string, token?: number][] = [
  ["ln1.bias", "att.ln"],
  ["att.key.weight", "att.k"],
  ["att.receptance.weight", "att.r"],
  ["att.value.weight", "att.v"],
  ["att.output.weight", "att.out"],
  ["ln2.weight", "ffn.ln"],
  ["ffn.key.weight", "ffn.k"],
];
const ENDS: readonly [weight: string, value: string][] = [
  ["blocks.0.ln0.weight", "blocks.0.ln0"],
  ["ln_out.bias", "ln_out"],
  ["head.weight", "head"],
];

describe.each(WITHOUT_POOL)("on $name", (place) => {
  test.each(VERSIONS)("v%s: a weight that was changed shows at the first value it goes into", async (version) => {
    await using model = await loadVersion(place, version);
    const trace = await model.trace(TOKENS);
    const cases = [
      ...[...COMMON, ...INJECTIONS[version]!].map(
        ([weight, value, token = 0]) => [`blocks.1.${weight}`, `blocks.1.${value}`, 1, token] as const,
      ),
      ...ENDS.map(([weight, value]) => [weight, value, value.startsWith("blocks.") ? 0 : null, 0] as const),
    ];
    // Most of the squared ReLUs are zero: the first token that has the one that meets the changed weight.
    const hidden = valuesOf(trace, "blocks.1.ffn.k.relu_squared");
    const firstUse = TOKENS.findIndex((_, t) => hidden[t * MODEL_SIZES.nFfn + 2] !== 0);
    const tokenOf = (weight: string, token: number): number =>
      weight.endsWith("ffn.value.weight") ? firstUse : token;
    for (const [weight, name, layer, token] of cases) {
      await using changed = await loadVersion(place, version, {}, (tensors) => {
        // The third number of a matrix's fourth row, the fourth of a vector.
        const { shape, values } = tensors.get(weight)!;
        const [rows, columns] = [shape[0]!, values.length / shape[0]!];
        if (weight.endsWith("weight") && shape.length === 2 && rows > 1) values[3 * columns + 2]! += 0.5;
        else values[Math.min(3, values.length - 1)]! += 0.5;
      });
      const { first } = diffTraces(trace, await changed.trace(TOKENS));
      expect(first, weight).toMatchObject({ name, layer });
      expect(first!.token, weight).toBe(tokenOf(weight, token));
      const isVector = !/\.(time_first|time_faaaa|time_decay|r_k|k_k)$/.test(weight) || version === "4";
      if (isVector) expect(first!.index, weight).toEqual([3]);
    }
  });
});

const hasGolden = hasFixture("golden/");
const FOLDERS = hasGolden
  ? readdirSync(new URL("golden/", FIXTURES)).filter((name) => /^v[\d.]+$/.test(name))
  : [];

describe.skipIf(!hasGolden)("logits and states of the official package", () => {
  test.each(FOLDERS.flatMap((folder) => WITHOUT_POOL.map((place) => ({ folder, place, name: place.name }))))(
    "$folder on $name",
    async ({ folder, place }) => {
      const { tolerance } = readJson(`golden/${folder}/manifest.json`) as {
        tolerance: { logits_f32_max_abs: number; state_f32_max_abs: number };
      };
      const { tensors } = readJson(`golden/${folder}/state.json`) as {
        tensors: { name: string; offset: number; length: number }[];
      };
      await using model = await load(place, readBytes(`golden/${folder}/model.pth`));
      const trace = await model.trace(readJson(`golden/${folder}/tokens.json`) as number[]);
      const { logits_f32_max_abs, state_f32_max_abs } = tolerance;
      expectClose("head", valuesOf(trace, "head"), readF32(`golden/${folder}/logits.f32`), logits_f32_max_abs);
      const state = readF32(`golden/${folder}/state.f32`);
      for (const { name, offset, length } of tensors) {
        const own = name.replace(/\.([^.]+)$/, ".state.$1").replace("x_prev", "shift");
        expectClose(own, valuesOf(trace, own), state.subarray(offset, offset + length), state_f32_max_abs);
      }
    },
  );
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
