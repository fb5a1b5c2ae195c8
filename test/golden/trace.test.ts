// What is in a trace is what its names say: computed from the weights alone, the official package's own logits and states,
// and on every backend the same names and values.

import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { diffTraces } from "../../packages/rwkv/src/node.ts";
import {
  CPU,
  load,
  loadVersion,
  MODEL_SIZES,
  modelOf,
  REFERENCE,
  TOKENS,
  valuesOf,
  VERSIONS,
} from "../support/traced-models.ts";
import { FIXTURES, hasFixture, readBytes, readF32, readJson } from "./fixtures.ts";
import { expectClose } from "./run-model.ts";

describe.each(CPU)("$name and the reference", (place) => {
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

      const shifted = (
        mix: string,
        letters: string,
        shareOfPrevious: (q: string, c: number) => number,
      ): void => {
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
        check(
          `${att}.xxx`,
          added((_, c) => weight(`${att}.time_maa_x`)[c]!),
        );
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

const hasGolden = hasFixture("golden/");
const FOLDERS = hasGolden
  ? readdirSync(new URL("golden/", FIXTURES)).filter((name) => /^v[\d.]+$/.test(name))
  : [];

describe.skipIf(!hasGolden)("logits and states of the official package", () => {
  test.each(
    FOLDERS.flatMap((folder) => [REFERENCE, ...CPU].map((place) => ({ folder, place, name: place.name }))),
  )("$folder on $name", async ({ folder, place }) => {
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
  });
});
