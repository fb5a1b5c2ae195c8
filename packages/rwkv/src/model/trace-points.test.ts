import { describe, expect, test } from "vitest";
import type { TensorDeclarer } from "../ops/backend.ts";
import { createOps } from "../ops/create-ops.ts";
import type { Ops } from "../ops/ops.ts";
import type { OpCall } from "../ops/signature.ts";
import type { Tensor, TensorKind } from "../ops/tensor.ts";
import type { ModelConfig, RwkvVersion } from "./config.ts";
import { declareForward } from "./forward.ts";
import { tracePoints, type TracePoint } from "./trace-points.ts";
import { weightRules } from "./weights/tables.ts";

/** Handles without data. */
function declarer(): TensorDeclarer & {
  make(kind: TensorKind, name: string, shape: readonly number[]): Tensor;
} {
  let index = 0;
  const make = (
    kind: TensorKind,
    name: string,
    shape: readonly number[],
    rows: Tensor["rows"] = "none",
  ): Tensor => ({ index: index++, kind, rows, name, shape, dtype: "f32" });
  return {
    make,
    state: (name, shape) => make("state", name, shape),
    input: (name, shape) => make("input", name, shape, "token"),
    scratch: (name, shape, rows) => make("scratch", name, shape, rows),
    output: (name, shape) => make("output", name, shape, "logit"),
  };
}

function record(forward: (ops: Ops) => void): OpCall[] {
  const calls: OpCall[] = [];
  forward(createOps((call) => calls.push(call)));
  return calls;
}

function pointsOf(version: RwkvVersion, more: Partial<ModelConfig> = {}): TracePoint[] {
  const config: ModelConfig = {
    version,
    nLayer: 2,
    nEmbd: 8,
    nAtt: 8,
    nFfn: 16,
    nVocab: 10,
    heads: version === "4" ? null : 2,
    headSize: version === "4" ? null : 4,
    ranks: { tokenShift: 2, decay: 2, rate: 2, value: 2, gate: 2 },
    positions: 0,
    hasLn0: true,
    ...more,
  };
  const builder = declarer();
  const handles = new Map(
    weightRules(config).map(({ name, shape, repeat }) => [
      name,
      builder.make("weight", name, shape.length === 1 ? [shape[0]! * repeat] : shape),
    ]),
  );
  const options = { groupNormEps: 64e-5, rescaleEveryNLayers: 0 };
  return tracePoints(record(declareForward(builder, config, handles, options)));
}

const FFN = "ln xr xk state.shift r r.sigmoid k k.relu_squared kv out x";
const NAMES: Readonly<Record<RwkvVersion, { readonly att: string; readonly ffn: string }>> = {
  "4": {
    att: "ln xr xk xv state.shift r r.sigmoid k v wkv state.aa state.bb state.pp gated out x",
    ffn: FFN,
  },
  "5.0": { att: "ln xr xk xv state.shift r k v wkv state.wkv ln_x out x", ffn: FFN },
  "5.1": { att: "ln xr xk xv xg state.shift g g.silu r k v wkv state.wkv ln_x gated out x", ffn: FFN },
  "5.2": { att: "ln xr xk xv xg state.shift g g.silu r k v wkv state.wkv ln_x gated out x", ffn: FFN },
  "6": {
    att:
      "ln xx state.shift xxx mix_w xw mix_k xk mix_v xv mix_r xr mix_g xg r k v g g.silu w wkv state.wkv ln_x gated " +
      "out x",
    ffn: FFN,
  },
  "7": {
    att: "ln xr xw xk xv xa xg state.shift r k v w a g v_gate v.mixed kk k.scaled wkv state.wkv ln_x bonus gated out x",
    ffn: "ln xk state.shift k k.relu_squared out x",
  },
};

describe.each(Object.keys(NAMES) as RwkvVersion[])("v%s", (version) => {
  test("every value has the name that docs/trace.md gives it, in order of computation", () => {
    const { att, ffn } = NAMES[version];
    const inLayer = (layer: number): string[] => [
      ...att.split(" ").map((name) => `blocks.${layer}.att.${name}`),
      ...ffn.split(" ").map((name) => `blocks.${layer}.ffn.${name}`),
    ];
    const isInLayer0 = (name: string): boolean => !/v_gate|v\.mixed/.test(name);
    const points = pointsOf(version);
    expect(points.map(({ name }) => name)).toEqual([
      "emb",
      "blocks.0.ln0",
      ...inLayer(0).filter(isInLayer0),
      ...inLayer(1),
      "ln_out",
      "head",
    ]);
    for (const { name, layer } of points) {
      const written = /^blocks\.(\d+)\./.exec(name)?.[1];
      expect(layer).toBe(written === undefined ? null : Number(written));
    }
  });
});

test("a norm that is folded into the embedding has no value, a position embedding has two", () => {
  const names = pointsOf("4", { hasLn0: false, positions: 3 }).map(({ name }) => name);
  expect(names.slice(0, 4)).toEqual(["emb", "pos_emb", "x", "blocks.0.att.ln"]);
});

test("handles that no table knows are called as they are, and numbered when they are written again", () => {
  const builder = declarer();
  const vector = builder.make("weight", "blocks.4.att.new", [8]);
  const [a, b] = [builder.scratch("a", [8], "token"), builder.scratch("novelty", [8], "token")];
  const shift = builder.state("blocks.4.attNews", [8], 0);
  const calls = record((ops) => {
    ops.tokenShift([b], a, shift, [vector]);
    ops.mul(b, a);
    ops.activate(b, b, "tanh");
    ops.copy(a, b);
    ops.add(b, a, 1);
  });
  expect(tracePoints(calls).map(({ name }) => name)).toEqual([
    "blocks.4.att.novelty",
    "blocks.4.att.state.attNews",
    "blocks.4.att.novelty.2",
    "blocks.4.att.novelty.tanh",
    "blocks.4.att.novelty.3",
  ]);
});
