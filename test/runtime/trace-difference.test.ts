// One weight is changed, and the difference of two traces names the first value, token and index that it goes into.

import { describe, expect, test } from "vitest";
import { diffTraces } from "../../packages/rwkv/src/node.ts";
import {
  CPU,
  loadVersion,
  MODEL_SIZES,
  REFERENCE,
  TOKENS,
  valuesOf,
  VERSIONS,
} from "../support/traced-models.ts";

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

describe.each([REFERENCE, ...CPU])("on $name", (place) => {
  test.each(VERSIONS)(
    "v%s: a weight that was changed shows at the first value it goes into",
    async (version) => {
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
    },
  );
});
