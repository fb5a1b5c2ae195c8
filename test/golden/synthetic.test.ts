// The synthetic models of every version against published logits and states; needs no files.

import { describe, expect, test } from "vitest";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import { loadProgram, type LoadedProgram } from "../../packages/rwkv/src/model/load.ts";
import { stateLayout } from "../../packages/rwkv/src/model/state.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";
import { WEBGPU } from "../support/webgpu.ts";
import { BACKENDS, REFERENCE_F64 } from "./backends.ts";
import { expectClose, runTokens } from "./run-model.ts";
import {
  addTimeState,
  checkpointOf,
  LOGITS,
  SIZES,
  STATE4,
  STATES,
  syntheticModel,
  syntheticValues,
  TOKENS,
  type SyntheticVersion,
  type TensorValues,
} from "./synthetic.ts";

const VERSIONS: readonly SyntheticVersion[] = ["4", "5.0", "5.1", "5.2", "6", "7"];

/** Printed with six decimals, so f64 arithmetic must come within 2e-6; 1e-4 leaves room for f32 in any order. */
const LIMIT_F64 = 2e-6;
const LIMIT_F32 = 1e-4;

async function load(backend: Backend, model: ReadonlyMap<string, TensorValues>): Promise<LoadedProgram> {
  return loadProgram(backend, canonicalWeights(checkpointOf(model)), { maxRows: 8 });
}

/** A tensor of the state block. */
function stateTensor(loaded: LoadedProgram, state: Float32Array, name: string): Float32Array {
  const tensor = stateLayout(loaded.config).tensors.find((candidate) => candidate.name === name)!;
  return state.subarray(tensor.offset, tensor.offset + tensor.shape.reduce((a, b) => a * b, 1));
}

test("the weight generator gives the published first values", () => {
  expectClose(
    "emb",
    syntheticValues("emb.weight", 4),
    [0.25804016, 0.11118104, 0.19004432, 0.11488053],
    1e-8,
  );
  expectClose("ln1", syntheticValues("blocks.0.ln1.weight", 3), [0.934124, 1.059571, 0.849111], 1e-6);
  const decay = syntheticValues("blocks.1.att.time_decay", 3);
  expectClose("decay", decay, [-1.385967, -2.843144, -1.417359], 1e-6);
});

for (const { name, create } of [...BACKENDS, ...WEBGPU]) {
  const limit = name === REFERENCE_F64.name ? LIMIT_F64 : LIMIT_F32;
  describe(`on ${name}`, () => {
    for (const version of [...VERSIONS, "6+state", "7+state"] as const) {
      test(`RWKV ${version} gives the published logits and state`, async () => {
        const hasState = version.endsWith("+state");
        const model = syntheticModel((hasState ? version.slice(0, 1) : version) as SyntheticVersion);
        if (hasState) addTimeState(model);
        const loaded = await load(await create(), model);
        const { logits, state } = await runTokens(loaded, TOKENS);
        const { first, last } = LOGITS[version]!;
        expectClose("after the first token", logits.subarray(0, first.length), first, limit);
        expectClose("after the last token", logits.subarray(3 * SIZES.nVocab), last, limit);

        const tensor = (part: string): Float32Array => stateTensor(loaded, state, `blocks.1.${part}`);
        if (version === "4") {
          for (const [part, values] of Object.entries(STATE4)) {
            expectClose(part, tensor(part).subarray(0, 2), values, limit);
          }
        } else {
          const { att, ffn, row, column } = STATES[version]!;
          const N = SIZES.nEmbd / SIZES.heads;
          const head1 = tensor("wkv").subarray(N * N);
          expectClose("attShift", tensor("attShift").subarray(0, 2), att, limit);
          expectClose("ffnShift", tensor("ffnShift").subarray(0, 2), ffn, limit);
          expectClose("wkv row", head1.subarray(0, 3), row, limit);
          expectClose("wkv column", [head1[0]!, head1[N]!, head1[2 * N]!], column, limit);
        }
        loaded.program.dispose();
      });
    }

    test("one chunk and single tokens give the same logits and states", async () => {
      const backend = await create();
      for (const version of VERSIONS) {
        const loaded = await load(backend, syntheticModel(version));
        const single = await runTokens(loaded, TOKENS, 1);
        const chunk = await runTokens(loaded, TOKENS, 3);
        expect(chunk.logits, `RWKV ${version}`).toEqual(single.logits);
        expect(chunk.state, `RWKV ${version}`).toEqual(single.state);
        loaded.program.dispose();
      }
    });
  });
}

test("v7 ignores the value residual of layer 0, present or absent", async () => {
  const model = syntheticModel("7");
  for (const digit of [0, 1, 2]) model.delete(`blocks.0.att.v${digit}`);
  const loaded = await load(createReferenceBackend({ storage: "f64" }), model);
  const { logits } = await runTokens(loaded, TOKENS);
  expectClose("logits", logits.subarray(3 * SIZES.nVocab), LOGITS["7"]!.last, 2e-6);
});

describe("v4 with a position table", () => {
  const side = 2;
  const { nEmbd: C, nVocab: V } = SIZES;

  function modelWithPositions(): Map<string, TensorValues> {
    const model = syntheticModel("4");
    model.set("blocks.0.pos_emb_x", {
      shape: [1, side, C],
      values: syntheticValues("blocks.0.pos_emb_x", side * C),
    });
    model.set("blocks.0.pos_emb_y", {
      shape: [side, 1, C],
      values: syntheticValues("blocks.0.pos_emb_y", side * C),
    });
    return model;
  }

  test("equals an independent loop over the tokens, beyond the end of the table too", async () => {
    const model = modelWithPositions();
    const loaded = await load(createReferenceBackend({ storage: "f64" }), model);
    expect(loaded.config.positions).toBe(3);
    const tokens = [1, 5, 3, 9, 2];
    const { logits } = await runTokens(loaded, tokens, 2);
    expectClose("logits", logits, loopV4(model, tokens), 2e-6);
    expect(Math.abs(logits[3 * V]! - LOGITS["4"]!.last[0]!)).toBeGreaterThan(0.01);
  });

  /** RWKV-4 by explicit loops in f64, one token at a time; shares no code with the engine. */
  function loopV4(model: ReadonlyMap<string, TensorValues>, tokens: readonly number[]): Float32Array {
    const get = (name: string): Float32Array => model.get(name)!.values;
    const layerNorm = (x: readonly number[], name: string): number[] => {
      const mean = x.reduce((a, b) => a + b) / C;
      const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / C;
      return x.map(
        (v, i) =>
          ((v - mean) / Math.sqrt(variance + 1e-5)) * get(`${name}.weight`)[i]! + get(`${name}.bias`)[i]!,
      );
    };
    const times = (name: string, x: readonly number[]): number[] => {
      const w = get(name);
      return Array.from({ length: w.length / x.length }, (_, o) =>
        x.reduce((sum, v, i) => sum + w[o * x.length + i]! * v, 0),
      );
    };
    const sigmoid = (v: number): number => 1 / (1 + Math.exp(-v));
    const zeros = (): number[] => Array.from({ length: C }, () => 0);
    const states = Array.from({ length: SIZES.nLayer }, () => ({
      att: zeros(),
      ffn: zeros(),
      num: zeros(),
      den: zeros(),
    }));
    const out: number[] = [];
    tokens.forEach((token, t) => {
      let x = layerNorm(Array.from(get("emb.weight").subarray(token * C, (token + 1) * C)), "blocks.0.ln0");
      if (t < side * side - 1) {
        const [px, py] = [get("blocks.0.pos_emb_x"), get("blocks.0.pos_emb_y")];
        x = x.map((v, i) => v + px[(t % side) * C + i]! + py[Math.floor(t / side) * C + i]!);
      }
      states.forEach((s, layer) => {
        const att = `blocks.${layer}.att`;
        const ffn = `blocks.${layer}.ffn`;
        const xa = layerNorm(x, `blocks.${layer}.ln1`);
        const shiftA = (q: string): number[] =>
          xa.map(
            (v, i) => v * get(`${att}.time_mix_${q}`)[i]! + s.att[i]! * (1 - get(`${att}.time_mix_${q}`)[i]!),
          );
        const r = times(`${att}.receptance.weight`, shiftA("r")).map(sigmoid);
        const k = times(`${att}.key.weight`, shiftA("k"));
        const v = times(`${att}.value.weight`, shiftA("v"));
        s.att = xa;
        // true sums: small exponents need no running maximum
        const gated = r.map((gate, i) => {
          const bonus = Math.exp(get(`${att}.time_first`)[i]! + k[i]!);
          const wkv = (s.num[i]! + bonus * v[i]!) / (s.den[i]! + bonus);
          const decay = Math.exp(-Math.exp(get(`${att}.time_decay`)[i]!));
          s.num[i] = decay * s.num[i]! + Math.exp(k[i]!) * v[i]!;
          s.den[i] = decay * s.den[i]! + Math.exp(k[i]!);
          return gate * wkv;
        });
        const attOut = times(`${att}.output.weight`, gated);
        x = x.map((value, i) => value + attOut[i]!);
        const xf = layerNorm(x, `blocks.${layer}.ln2`);
        const shiftF = (q: string): number[] =>
          xf.map(
            (value, i) =>
              value * get(`${ffn}.time_mix_${q}`)[i]! + s.ffn[i]! * (1 - get(`${ffn}.time_mix_${q}`)[i]!),
          );
        const hidden = times(`${ffn}.key.weight`, shiftF("k")).map((value) => Math.max(value, 0) ** 2);
        const gateF = times(`${ffn}.receptance.weight`, shiftF("r")).map(sigmoid);
        const ffnOut = times(`${ffn}.value.weight`, hidden);
        s.ffn = xf;
        x = x.map((value, i) => value + gateF[i]! * ffnOut[i]!);
      });
      out.push(...times("head.weight", layerNorm(x, "ln_out")));
    });
    return Float32Array.from(out);
  }
});
