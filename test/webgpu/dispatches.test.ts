// How many dispatches a layer takes, and how much each moves: counted by planning models as the webgpu backend does, which
// needs no GPU.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { kernelCalls } from "../../packages/rwkv/src/backends/webgpu/calls.ts";
import { lower } from "../../packages/rwkv/src/backends/webgpu/commands.ts";
import { fuse } from "../../packages/rwkv/src/backends/webgpu/fusion.ts";
import { matricesToGather } from "../../packages/rwkv/src/backends/webgpu/gather.ts";
import type { Gpu } from "../../packages/rwkv/src/backends/webgpu/gpu.ts";
import type { GpuDType } from "../../packages/rwkv/src/backends/webgpu/kernels/formats.ts";
import { Memory } from "../../packages/rwkv/src/backends/webgpu/memory.ts";
import type { Places } from "../../packages/rwkv/src/backends/webgpu/operands.ts";
import { panelPacking, rowPacking } from "../../packages/rwkv/src/backends/webgpu/packing.ts";
import { dispatchReport, type DispatchReport } from "../../packages/rwkv/src/backends/webgpu/report.ts";
import type { Matrix } from "../../packages/rwkv/src/backends/webgpu/weights.ts";
import { Shortlists } from "../../packages/rwkv/src/backends/webgpu/shortlists.ts";
import { countElements, isQuantized } from "../../packages/rwkv/src/core/dtype.ts";
import { GROUP_NORM_EPS, type ModelConfig } from "../../packages/rwkv/src/model/config.ts";
import { declareForward } from "../../packages/rwkv/src/model/forward.ts";
import { weightRules } from "../../packages/rwkv/src/model/weights/tables.ts";
import { createOps } from "../../packages/rwkv/src/ops/create-ops.ts";
import type { OpCall } from "../../packages/rwkv/src/ops/signature.ts";
import type { RowKind, Tensor, TensorKind } from "../../packages/rwkv/src/ops/tensor.ts";
import { ROOT } from "../support/cli.ts";

/** Sizes and ranks of the published 0.4B of version 7. */
const CONFIG = {
  nLayer: 3,
  nEmbd: 1024,
  nAtt: 1024,
  nFfn: 4096,
  nVocab: 65536,
  ranks: { tokenShift: 32, decay: 64, rate: 64, value: 32, gate: 128 },
  positions: 0,
  hasLn0: true,
} as const;

const VERSIONS = ["4", "5.0", "5.1", "5.2", "6", "7"] as const;

/** Most that a layer may take. */
const MOST_DISPATCHES = 12;

type DTypeOf = (name: string) => GpuDType;

function planned(version: ModelConfig["version"], nLayer: number, dtypeOf: DTypeOf): DispatchReport[] {
  const heads = version === "4" ? null : 16;
  const config: ModelConfig = {
    ...CONFIG,
    version,
    nLayer,
    heads,
    headSize: heads === null ? null : CONFIG.nAtt / heads,
  };
  const tensors: Tensor[] = [];
  const declare = (
    kind: TensorKind,
    rows: RowKind,
    name: string,
    shape: readonly number[],
    dtype: Tensor["dtype"] = "f32",
  ): Tensor => {
    const tensor: Tensor = { index: tensors.length, kind, rows, name, shape, dtype };
    tensors.push(tensor);
    return tensor;
  };
  const handles = new Map<string, Tensor>();
  for (const { name, kind, shape, repeat } of weightRules(config)) {
    if (kind === "embedding" || kind === "position") continue;
    const handle =
      kind === "vector"
        ? declare("weight", "none", name, [repeat * countElements(shape)])
        : declare("weight", "none", name, shape, dtypeOf(name));
    handles.set(name, handle);
  }
  const forward = declareForward(
    {
      state: (name, shape) => declare("state", "none", name, shape),
      input: (name, shape) => declare("input", "token", name, shape),
      scratch: (name, shape, rows) => declare("scratch", rows, name, shape),
      output: (name, shape) => declare("output", "logit", name, shape),
    },
    config,
    handles,
    { groupNormEps: GROUP_NORM_EPS, rescaleEveryNLayers: 0 },
  );
  const recorded: OpCall[] = [];
  forward(createOps((call) => recorded.push(call)));
  const commands = fuse(lower(recorded, (name, width, rows) => declare("scratch", rows, name, [width])));

  const matrices = new Map<Tensor, Matrix>();
  const matrixOf = (tensor: Tensor): Matrix => {
    const [nRows, nIn] = tensor.shape as readonly [number, number];
    const dtype = tensor.dtype as GpuDType;
    const isSparse = tensor.name.endsWith("ffn.value.weight") && !isQuantized(dtype);
    const { nTogether, words } = isSparse ? panelPacking(dtype, nIn) : rowPacking(dtype, nIn);
    const place = { memory: new Memory(tensor.name), at: 0, stride: words };
    const part = { firstRow: 0, nRows, place, byteLength: 4 * words * Math.ceil(nRows / nTogether) };
    const matrix = matrices.get(tensor) ?? { dtype, isSparse, parts: [part] };
    matrices.set(tensor, matrix);
    return matrix;
  };
  for (const list of matricesToGather(commands, matrixOf, 2 ** 27)) {
    const memory = new Memory("several");
    for (const tensor of list) {
      const matrix = matrixOf(tensor);
      const parts = matrix.parts.map((part) => ({ ...part, place: { ...part.place, memory } }));
      matrices.set(tensor, { ...matrix, parts });
    }
  }
  const memories = new Map<string, Memory>();
  const counts = new Memory("counts");
  const places: Places = {
    matrixOf,
    countsOf: () => ({ memory: counts, at: 0, stride: 0 }),
    placeOf: ({ kind, rows, name }) => {
      const label = kind === "state" || kind === "input" ? name : `${kind} ${rows}`;
      const memory = memories.get(label) ?? new Memory(label);
      memories.set(label, memory);
      return { memory, at: 0, stride: 0 };
    },
  };
  const choice = { features: { subgroupThreads: 0, hasPackedDot: false }, activations: "f32" } as const;
  return dispatchReport(commands.flatMap((command) => kernelCalls(command, places, choice)));
}

/** The dispatches of the last layer; before the logits come the selected rows' norm and the head. */
function layerOf(version: ModelConfig["version"], dtypeOf: DTypeOf): DispatchReport[] {
  const [shorter, longer] = [2, 3].map((nLayer) => planned(version, nLayer, dtypeOf));
  const nDispatches = longer!.length - shorter!.length;
  return longer!.slice(-2 - nDispatches, -2);
}

const isLowRank = (name: string): boolean => /att\.([wavg][12]|time_maa_w[12]|time_decay_w[12])/.test(name);

describe.each(VERSIONS)("a layer of version %s", (version) => {
  test.each([
    ["of one type", () => "f16"],
    ["with low-rank maps of another type", (name) => (isLowRank(name) ? "f16" : "q8_0")],
    ["as `q4` has them", (name) => (isLowRank(name) ? "f16" : name.includes("att.receptance") ? "q8" : "q4")],
  ] satisfies [string, DTypeOf][])(
    `with weights %s takes at most ${MOST_DISPATCHES} dispatches`,
    (title, dtypeOf) => {
      const layer = layerOf(version, dtypeOf);
      console.log(`${version}, weights ${title}: ${layer.length} dispatches`);
      expect(layer.length).toBeGreaterThan(0);
      expect(layer.length).toBeLessThanOrEqual(MOST_DISPATCHES);
    },
  );
});

const DOCUMENT = readFileSync(join(ROOT, "docs/webgpu.md"), "utf8").replaceAll(/ +\| +/g, " | ");

test("docs/webgpu.md tells how many dispatches a layer of each version takes", () => {
  const counts = VERSIONS.map((version) => layerOf(version, () => "f16").length);
  expect(DOCUMENT).toMatch(
    new RegExp(`\\| ${VERSIONS.join(" \\| ")} +\\|\\n.*\\n\\| ${counts.join(" \\| ")} +\\|`),
  );
});

test("docs/webgpu.md lists the dispatches of a layer of version 7 with the bytes that each moves", () => {
  const layer = layerOf("7", () => "f16");
  const lines = layer.map(({ label, matrixBytes, otherBytes }) => {
    const short = label.replaceAll(/blocks\.\d+\.|\.weight/g, "").replaceAll(/(low-rank \d+)\.\d/g, "$1");
    return `${short} | ${matrixBytes} | ${otherBytes}`;
  });
  const total = (bytes: (line: DispatchReport) => number): number =>
    layer.reduce((sum, line) => sum + bytes(line), 0);
  lines.push(`all | ${total(({ matrixBytes }) => matrixBytes)} | ${total(({ otherBytes }) => otherBytes)}`);
  const missing = lines.filter((line) => !DOCUMENT.includes(`| ${line} |`));
  expect(missing).toEqual([]);
});

test("docs/webgpu.md lists the dispatches of shortlists with their workgroups and bytes", () => {
  const logits = { memory: new Memory("output"), at: 0, stride: CONFIG.nVocab };
  const { calls } = new Shortlists(null as unknown as Gpu, logits, CONFIG.nVocab);
  const lines = calls.map(
    ({ label, parts, traffic }) => `| ${label} | ${parts[0]!.nGroups[0]!} | ${traffic.others} |`,
  );
  expect(lines.filter((line) => !DOCUMENT.includes(line))).toEqual([]);
});

test("a layer of version 7 reads each of its matrices once", () => {
  const { nEmbd, nAtt, nFfn, ranks } = CONFIG;
  const ranksTogether = ranks.decay + ranks.rate + ranks.value + ranks.gate;
  const nWeights = 4 * nEmbd * nAtt + 2 * nEmbd * nFfn + ranksTogether * (nEmbd + nAtt);
  const layer = layerOf("7", () => "f16");
  expect(layer.reduce((sum, { matrixBytes }) => sum + matrixBytes, 0)).toBe(2 * nWeights);
  // Of one of them, ffn.value, only as much as its inputs that are not zero ask for.
  expect(layer.reduce((sum, { sparseBytes }) => sum + sparseBytes, 0)).toBe(2 * nEmbd * nFfn);
});
