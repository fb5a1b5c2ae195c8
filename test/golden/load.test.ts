// What loading promises: types on the device, progress, stopping half-way, and nothing left behind on failure.

import { describe, expect, test } from "vitest";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import { FormatError, UsageError } from "../../packages/rwkv/src/core/errors.ts";
import { loadProgram, type LoadProgramOptions } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import type { Backend, WeightUpload } from "../../packages/rwkv/src/ops/backend.ts";
import { expectClose, runTokens } from "./run-model.ts";
import { checkpointOf, syntheticModel, TOKENS, type SyntheticSizes } from "./synthetic.ts";

/** Wide enough for blocks of 32, with ranks and a hidden width that are not. */
const WIDE: SyntheticSizes = {
  nLayer: 2,
  nVocab: 12,
  nEmbd: 64,
  heads: 2,
  nFfn: 72,
  ranks6: [4, 6],
  ranks7: [4, 5, 3, 6],
};

/** The reference backend, with a note of what was announced and uploaded and whether builders were disposed of. */
function recordingBackend(): {
  backend: Backend;
  announced: (number | undefined)[];
  uploads: WeightUpload[];
  disposed: () => number;
} {
  const inner = createReferenceBackend();
  const announced: (number | undefined)[] = [];
  const uploads: WeightUpload[] = [];
  let nDisposed = 0;
  const backend: Backend = {
    name: inner.name,
    description: inner.description,
    nThreads: inner.nThreads,
    hasInt8Activations: inner.hasInt8Activations,
    kernels: inner.kernels,
    createBuilder(options) {
      announced.push(options.weightByteLength);
      const builder = inner.createBuilder(options);
      return {
        weight(upload, signal) {
          uploads.push(upload);
          return builder.weight(upload, signal);
        },
        state: (name, shape, initial) => builder.state(name, shape, initial),
        input: (name, shape) => builder.input(name, shape),
        scratch: (name, shape, rows) => builder.scratch(name, shape, rows),
        output: (name, shape) => builder.output(name, shape),
        build: (forward) => builder.build(forward),
        dispose() {
          nDisposed++;
          builder.dispose();
        },
      };
    },
  };
  return { backend, announced, uploads, disposed: () => nDisposed };
}

async function dtypesOf(
  dtype: LoadProgramOptions["dtype"],
  stored: "f32" | "bf16",
): Promise<Map<string, string>> {
  const { backend, uploads } = recordingBackend();
  const weights = canonicalWeights(checkpointOf(syntheticModel("7", WIDE), { dtype: stored }));
  await loadProgram(backend, weights, { maxRows: 4, ...(dtype !== undefined && { dtype }) });
  return new Map(uploads.map((upload) => [upload.name, upload.dtype]));
}

test.each(["4", "5.0", "5.2", "6", "7"] as const)(
  "RWKV %s: a backend hears how many bytes of weights there will be, in the types asked for",
  async (version) => {
    for (const dtype of [undefined, "f16", "q8_0"] as const) {
      const { backend, announced, uploads } = recordingBackend();
      const weights = canonicalWeights(checkpointOf(syntheticModel(version, WIDE)));
      await loadProgram(backend, weights, { maxRows: 4, ...(dtype !== undefined && { dtype }) });
      expect(announced).toEqual([uploads.reduce((sum, { byteLength }) => sum + byteLength, 0)]);
    }
  },
);

describe("types on the device", () => {
  const [MATRIX, VECTOR, DOWN, ODD] = [
    "blocks.1.att.key.weight",
    "blocks.1.att.x_k",
    "blocks.1.att.w1",
    "blocks.1.ffn.value.weight",
  ];

  test("are the stored ones, but f32 for vectors", async () => {
    const dtypes = await dtypesOf(undefined, "bf16");
    expect([MATRIX, VECTOR, DOWN].map((name) => dtypes.get(name))).toEqual(["bf16", "f32", "bf16"]);
    expect(dtypes.has("emb.weight")).toBe(false);
  });

  test("are those asked for", async () => {
    const dtypes = await dtypesOf("f16", "bf16");
    expect([MATRIX, VECTOR, DOWN].map((name) => dtypes.get(name))).toEqual(["f16", "f32", "f16"]);
  });

  test("keep 16 bits beside q8_0 for low-rank factors and rows that are no whole blocks", async () => {
    const fromF32 = await dtypesOf("q8_0", "f32");
    expect([MATRIX, VECTOR, DOWN, ODD].map((name) => fromF32.get(name))).toEqual([
      "q8_0",
      "f32",
      "f16",
      "f16",
    ]);
    const fromBf16 = await dtypesOf("q8_0", "bf16");
    expect([MATRIX, DOWN, ODD].map((name) => fromBf16.get(name))).toEqual(["q8_0", "bf16", "bf16"]);
  });

  test("change the logits by no more than their rounding", async () => {
    const logits = async (dtype?: LoadProgramOptions["dtype"]): Promise<Float32Array> => {
      const weights = canonicalWeights(checkpointOf(syntheticModel("7", WIDE)));
      const options = { maxRows: 4, ...(dtype !== undefined && { dtype }) };
      return (await runTokens(await loadProgram(createReferenceBackend(), weights, options), TOKENS)).logits;
    };
    const exact = await logits();
    expect(await logits("f32")).toEqual(exact);
    // relative errors of 2^-12, 2^-9 and 2^-8 per weight, with logits of size 10 and some ten matrices in a row
    expectClose("f16", await logits("f16"), exact, 10 * 10 * 2 ** -12);
    expectClose("bf16", await logits("bf16"), exact, 10 * 10 * 2 ** -9);
    expectClose("q8_0", await logits("q8_0"), exact, 10 * 10 * 2 ** -8);
  });
});

describe("loading", () => {
  const weights = canonicalWeights(checkpointOf(syntheticModel("6")));

  test("reports stored bytes, up to the total", async () => {
    const seen: [number, number, string][] = [];
    const onProgress = (...progress: [number, number, string]): unknown => seen.push(progress);
    await loadProgram(createReferenceBackend(), weights, { maxRows: 1, onProgress });
    expect(seen[0]![2]).toBe("emb.weight");
    expect(seen.at(-1)!.slice(0, 2)).toEqual([7744 * 4, 7744 * 4]);
    for (let i = 1; i < seen.length; i++) expect(seen[i]![0]).toBeGreaterThan(seen[i - 1]![0]);
    expect(new Set(seen.map(([, , name]) => name)).size).toBe(weights.tensors.size);
  });

  test("stops when asked, and frees what it took", async () => {
    const { backend, uploads, disposed } = recordingBackend();
    const controller = new AbortController();
    const reason = new Error("enough");
    const onProgress = (_done: number, _total: number, name: string): void => {
      if (name === "blocks.0.att.key.weight") controller.abort(reason);
    };
    const loading = loadProgram(backend, weights, { maxRows: 1, signal: controller.signal, onProgress });
    await expect(loading).rejects.toBe(reason);
    expect(uploads.at(-1)!.name).toBe("blocks.0.att.key.weight");
    expect(disposed()).toBe(1);
    await expect(loadProgram(backend, weights, { maxRows: 1, signal: controller.signal })).rejects.toBe(
      reason,
    );
  });

  test("refuses a damaged matrix by name, and frees what it took", async () => {
    const model = syntheticModel("7");
    model.get("blocks.1.ffn.value.weight")!.values[2] = NaN;
    const { backend, disposed } = recordingBackend();
    const loading = loadProgram(backend, canonicalWeights(checkpointOf(model)), { maxRows: 1 });
    await expect(loading).rejects.toThrow(FormatError);
    await expect(loading).rejects.toThrow(/"blocks.1.ffn.value.weight" holds NaN at element 2/);
    expect(disposed()).toBe(1);
  });

  test("refuses a type that cannot hold the weights", async () => {
    const model = syntheticModel("7");
    model.get("head.weight")!.values[100] = 1e6;
    const loading = loadProgram(createReferenceBackend(), canonicalWeights(checkpointOf(model)), {
      maxRows: 1,
      dtype: "f16",
    });
    await expect(loading).rejects.toThrow(UsageError);
    await expect(loading).rejects.toThrow(/"head.weight" holds 1000000/);
  });

  test("takes another group norm eps", async () => {
    const load = (groupNormEps: number): Promise<Awaited<ReturnType<typeof loadProgram>>> =>
      loadProgram(createReferenceBackend(), weights, { maxRows: 4, groupNormEps });
    const usual = await runTokens(await load(64e-5), TOKENS);
    const plain = await runTokens(
      await loadProgram(createReferenceBackend(), weights, { maxRows: 4 }),
      TOKENS,
    );
    const other = await runTokens(await load(1e-5), TOKENS);
    expect(usual.logits).toEqual(plain.logits);
    expect(other.logits).not.toEqual(plain.logits);
  });

  test("embedding rows are those of the file, at the place asked for", async () => {
    const { embedding, inputWidths, positions } = await loadProgram(createReferenceBackend(), weights, {
      maxRows: 1,
    });
    const out = new Float32Array(48).fill(9);
    embedding.row(11, out, 16);
    expect(out.subarray(16, 32)).toEqual(
      syntheticModel("6")
        .get("emb.weight")!
        .values.subarray(11 * 16),
    );
    expect([out[15], out[32]]).toEqual([9, 9]);
    expect([embedding.nVocab, embedding.nEmbd]).toEqual([12, 16]);
    expect(inputWidths).toEqual([16]);
    expect(positions).toBeNull();
  });
});
