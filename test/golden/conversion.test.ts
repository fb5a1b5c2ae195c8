// Conversions keep the model: the same weights written as safetensors and as GGUF, and read back, give the same logits.

import { describe, expect, test } from "vitest";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import type { ByteSink } from "../../packages/rwkv/src/core/byte-sink.ts";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { decodeToF32, encodeFromF32 } from "../../packages/rwkv/src/core/decode.ts";
import { UnsupportedError, UsageError } from "../../packages/rwkv/src/core/errors.ts";
import type { Checkpoint } from "../../packages/rwkv/src/formats/checkpoint.ts";
import { writeGguf } from "../../packages/rwkv/src/formats/gguf/write.ts";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { writePth } from "../../packages/rwkv/src/formats/pth/write.ts";
import { writeSafetensors } from "../../packages/rwkv/src/formats/safetensors/safetensors.ts";
import {
  ggufMetadata,
  ggufTensors,
  officialTensors,
  type SafetensorsDType,
} from "../../packages/rwkv/src/model/export.ts";
import { fingerprint } from "../../packages/rwkv/src/model/fingerprint.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights, type CanonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { hasFixture, openFixture } from "./fixtures.ts";
import { expectClose, runTokens } from "./run-model.ts";
import {
  addTimeState,
  checkpointOf,
  officialShapes,
  syntheticModel,
  TOKENS,
  type CheckpointOptions,
  type SyntheticSizes,
  type SyntheticVersion,
} from "./synthetic.ts";

const WIDE: SyntheticSizes = {
  nLayer: 2,
  nVocab: 12,
  nEmbd: 64,
  heads: 2,
  nFfn: 96,
  ranks6: [4, 6],
  ranks7: [4, 5, 3, 6],
};

/** The bytes of whatever is written. */
async function collect(write: (sink: ByteSink) => Promise<void>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  await write({
    write(bytes) {
      pieces.push(bytes.slice());
      return Promise.resolve();
    },
  });
  const whole = new Uint8Array(pieces.reduce((total, piece) => total + piece.byteLength, 0));
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.byteLength;
  }
  return whole;
}

async function toSafetensors(weights: CanonicalWeights, dtype: SafetensorsDType | null): Promise<Checkpoint> {
  const bytes = await collect((sink) =>
    writeSafetensors(sink, officialTensors(weights, dtype), new Map([["format", "pt"]])),
  );
  return openCheckpoint(bytesSource(bytes, "converted.safetensors"));
}

async function toPth(weights: CanonicalWeights, dtype: SafetensorsDType | null): Promise<Checkpoint> {
  const bytes = await collect((sink) => writePth(sink, officialTensors(weights, dtype)));
  return openCheckpoint(bytesSource(bytes, "converted.pth"));
}

async function toGguf(
  weights: CanonicalWeights,
  dtype: "f32" | "f16" | "bf16" | "q8_0" | null,
): Promise<Checkpoint> {
  const bytes = await collect((sink) =>
    writeGguf(sink, ggufTensors(weights, dtype), ggufMetadata(weights, dtype)),
  );
  return openCheckpoint(bytesSource(bytes, "converted.gguf"));
}

async function logitsOf(weights: CanonicalWeights, tokens = TOKENS): Promise<Float32Array> {
  const loaded = await loadProgram(createReferenceBackend(), weights, { maxRows: 8 });
  return (await runTokens(loaded, tokens, 8)).logits;
}

function weightsOf(version: SyntheticVersion, options: CheckpointOptions = {}): CanonicalWeights {
  const model = syntheticModel(version, WIDE);
  return canonicalWeights(checkpointOf(model, { dtype: "bf16", ...options }));
}

describe("safetensors", () => {
  test.each(["4", "5.0", "5.1", "5.2", "6", "7"] as const)(
    "RWKV %s: official names and shapes, same bits",
    async (version) => {
      const weights = weightsOf(version);
      const converted = await toSafetensors(weights, null);
      const shapes = officialShapes(version, WIDE);
      if (version === "7") for (const digit of [0, 1, 2]) shapes.delete(`blocks.0.att.v${digit}`);
      const got = new Map([...converted.tensors].map(([name, { shape }]) => [name, [...shape]]));
      expect(Object.fromEntries([...got].sort())).toEqual(Object.fromEntries([...shapes].sort()));
      for (const { dtype } of converted.tensors.values()) expect(dtype).toBe("bf16");
      const again = canonicalWeights(converted);
      expect(await logitsOf(again)).toEqual(await logitsOf(weights));
      expect(await fingerprint(again)).toBe(await fingerprint(weights));
    },
  );

  test("matrices are written in the type asked for, vectors keep theirs", async () => {
    const weights = weightsOf("7");
    const converted = await toSafetensors(weights, "f32");
    expect(converted.tensors.get("blocks.0.att.w1")!.dtype).toBe("f32");
    expect(converted.tensors.get("head.weight")!.dtype).toBe("f32");
    expect(converted.tensors.get("ln_out.weight")!.dtype).toBe("bf16");
    expect(await logitsOf(canonicalWeights(converted))).toEqual(await logitsOf(weights));
  });

  test.each(["5.2", "6", "7"] as const)("a tuned state of RWKV %s goes along", async (version) => {
    const model = syntheticModel(version, WIDE);
    addTimeState(model, WIDE);
    const weights = canonicalWeights(checkpointOf(model));
    const again = canonicalWeights(await toSafetensors(weights, null));
    expect(again.timeState).not.toBeNull();
    expect(await logitsOf(again)).toEqual(await logitsOf(weights));
    expect(await logitsOf(again)).not.toEqual(await logitsOf(weightsOf(version, { dtype: "f32" })));
  });

  test.each(["4", "5.0", "5.2"] as const)(
    "decays of RWKV %s stored as applied are taken back",
    async (version) => {
      const model = syntheticModel(version, WIDE);
      for (const [name, { shape, values }] of model) {
        const apply =
          version === "4" ? (raw: number) => -Math.exp(raw) : (raw: number) => Math.exp(-Math.exp(raw));
        if (name.endsWith("time_decay")) model.set(name, { shape, values: values.map(apply) });
        // extremes that f32 rounds away must stay what they are
        if (name === "blocks.0.att.time_decay")
          model.get(name)!.values.set(version === "4" ? [-0, -80] : [0, 1]);
        if (name.endsWith("time_first") && version === "5.0")
          model.set(name, { shape, values: values.map(Math.exp) });
      }
      const weights = canonicalWeights(checkpointOf(model, { format: "rwkv.cpp" }));
      const again = canonicalWeights(await toSafetensors(weights, null));
      expectClose("logits", await logitsOf(again), await logitsOf(weights), 1e-5);
    },
  );

  test("a value that the type cannot hold is refused when it is written", async () => {
    const model = syntheticModel("7", WIDE);
    model.get("head.weight")!.values[5] = -1e6;
    const weights = canonicalWeights(checkpointOf(model));
    await expect(toSafetensors(weights, "f16")).rejects.toThrow(UsageError);
  });
});

describe(".pth", () => {
  test.each(["4", "5.0", "5.1", "5.2", "6", "7"] as const)(
    "RWKV %s: official names and shapes in the official order of dimensions, same bits",
    async (version) => {
      const model = syntheticModel(version, WIDE);
      if (version.startsWith("5.2") || version >= "6") addTimeState(model, WIDE);
      const weights = canonicalWeights(checkpointOf(model, { dtype: "bf16" }));
      const converted = await toPth(weights, null);
      expect(converted.format).toBe("pth");
      for (const { name, shape } of converted.tensors.values()) expect(shape).toEqual(model.get(name)!.shape);
      const again = canonicalWeights(converted);
      expect(again.timeState === null).toBe(weights.timeState === null);
      expect(await logitsOf(again)).toEqual(await logitsOf(weights));
      expect(await fingerprint(again)).toBe(await fingerprint(weights));
    },
  );
});

describe("GGUF", () => {
  test.each(["6", "7"] as const)("RWKV %s in f32 gives the same bits", async (version) => {
    const weights = weightsOf(version);
    const again = canonicalWeights(await toGguf(weights, "f32"));
    expect(again.config).toEqual(weights.config);
    expect(await logitsOf(again)).toEqual(await logitsOf(weights));
    expect(await fingerprint(again)).toBe(await fingerprint(weights));
  });

  test.each(["6", "7"] as const)("RWKV %s keeps stored types where GGUF expects no f32", async (version) => {
    const converted = await toGguf(weightsOf(version), null);
    const dtype = (name: string): unknown => converted.tensors.get(name)?.dtype;
    expect(dtype("blk.1.time_mix_key.weight")).toBe("bf16");
    expect(dtype("token_embd.weight")).toBe("bf16");
    expect(dtype("blk.1.time_mix_lerp_fused.weight")).toBe("f32");
    expect(dtype("blk.1.time_mix_w1.weight")).toBe("f32");
    expect(dtype("blk.1.attn_norm_2.bias")).toBe("f32");
    expect(await logitsOf(canonicalWeights(converted))).toEqual(await logitsOf(weightsOf(version)));
  });

  test("RWKV 7 has in layer 0 what llama.cpp asks for, and flat heads", async () => {
    const { tensors, metadata } = await toGguf(weightsOf("7"), "f16");
    const shape = (name: string): unknown => tensors.get(name)?.shape;
    expect(shape("blk.0.time_mix_v1.weight")).toEqual(shape("blk.0.time_mix_a1.weight"));
    expect(shape("blk.1.time_mix_v1.weight")).toEqual([3, 64]);
    expect(shape("blk.1.time_mix_r_k.weight")).toEqual([64]);
    expect(tensors.get("blk.1.time_mix_g1.weight")!.dtype).toBe("f16");
    expect(Object.fromEntries(metadata)).toMatchObject({
      "general.architecture": "rwkv7",
      "general.file_type": 1,
      "rwkv7.embedding_length": 64,
      "rwkv7.block_count": 2,
      "rwkv7.feed_forward_length": 96,
      "rwkv7.attention.head_count": 0,
      "rwkv7.wkv.head_size": 32,
      "rwkv7.attention.decay_lora_rank": 4,
      "rwkv7.attention.iclr_lora_rank": 5,
      "rwkv7.attention.value_residual_mix_lora_rank": 3,
      "rwkv7.attention.gate_lora_rank": 6,
    });
  });

  test("q8_0 leaves what is no whole block, and the model close to itself", async () => {
    const weights = weightsOf("6");
    const converted = await toGguf(weights, "q8_0");
    expect(converted.tensors.get("blk.0.time_mix_key.weight")!.dtype).toBe("q8_0");
    expect(converted.tensors.get("blk.0.time_mix_decay_w2.weight")!.dtype).toBe("f32");
    expect(converted.metadata.get("general.file_type")).toBe(7);
    expectClose(
      "logits",
      await logitsOf(canonicalWeights(converted)),
      await logitsOf(weights),
      10 * 10 * 2 ** -8,
    );
  });

  test("weights divided for f16 stay divided in GGUF, and are multiplied back elsewhere", async () => {
    const weights = weightsOf("6");
    const divided = ggufTensors(weights, null).map((tensor) => {
      if (!/blk\.1\.(time_mix_output|channel_mix_value)/.test(tensor.name)) return tensor;
      return {
        ...tensor,
        async read(target: Uint8Array): Promise<void> {
          await tensor.read(target);
          const values = new Float32Array(target.byteLength / 2);
          decodeToF32("bf16", target, values);
          encodeFromF32(
            "bf16",
            values.map((value) => value / 2),
            target,
          );
        },
      };
    });
    const metadata = ggufMetadata(weights, null);
    metadata.set("rwkv6.rescale_every_n_layers", { type: "u32", value: 1 });
    const bytes = await collect((sink) => writeGguf(sink, divided, metadata));
    const rescaled = canonicalWeights(await openCheckpoint(bytesSource(bytes)));
    expect(rescaled.rescaleEveryNLayers).toBe(1);
    const want = await logitsOf(weights);
    expect(await logitsOf(rescaled)).toEqual(want);
    expect(await logitsOf(canonicalWeights(await toGguf(rescaled, null)))).toEqual(want);
    const plain = canonicalWeights(await toSafetensors(rescaled, null));
    expect(plain.rescaleEveryNLayers).toBe(0);
    expect(await logitsOf(plain)).toEqual(want);
  });

  test("versions without a form in GGUF, and models without a first norm, are refused", () => {
    expect(() => ggufTensors(weightsOf("5.2"), null)).toThrow(UnsupportedError);
    expect(() => ggufTensors(weightsOf("5.2"), null)).toThrow(
      /is RWKV 5.2, but GGUF has a form for RWKV 6 and 7 only/,
    );
    const model = syntheticModel("7", WIDE);
    for (const part of ["weight", "bias"]) model.delete(`blocks.0.ln0.${part}`);
    const folded = canonicalWeights(checkpointOf(model, { format: "safetensors" }));
    expect(() => ggufMetadata(folded, null)).toThrow(/has no first norm/);
  });
});

describe("from shared test data", () => {
  const tokens = [1, 5, 3, 9, 200, 17];

  test.skipIf(!hasFixture("golden/v7/model.pth"))(
    ".pth to safetensors to GGUF and back keeps every bit",
    async () => {
      const weights = canonicalWeights(await openCheckpoint(openFixture("golden/v7/model.pth")));
      const want = await logitsOf(weights, tokens);
      const safetensors = canonicalWeights(await toSafetensors(weights, null));
      expect(await logitsOf(safetensors, tokens)).toEqual(want);
      const gguf = canonicalWeights(await toGguf(safetensors, null));
      expect(await logitsOf(gguf, tokens)).toEqual(want);
      const back = canonicalWeights(await toSafetensors(gguf, null));
      expect(await logitsOf(back, tokens)).toEqual(want);
      expect(await fingerprint(back)).toBe(await fingerprint(weights));
    },
  );

  test.skipIf(!hasFixture("gguf/v7-q4_0.gguf"))(
    "blocks go from GGUF to GGUF as they are, to safetensors in f16",
    async () => {
      const weights = canonicalWeights(await openCheckpoint(openFixture("gguf/v7-q4_0.gguf")));
      const want = await logitsOf(weights, tokens);
      const again = await toGguf(weights, null);
      expect(again.tensors.get("blk.0.time_mix_key.weight")!.dtype).toBe("q4_0");
      expect(await logitsOf(canonicalWeights(again), tokens)).toEqual(want);
      const plain = await toSafetensors(weights, null);
      expect(plain.tensors.get("blocks.0.att.key.weight")!.dtype).toBe("f16");
      // 4-bit values times an f16 scale need up to 15 bits, f16 keeps 11 of them
      expectClose("f16", await logitsOf(canonicalWeights(plain), tokens), want, 10 * 10 * 2 ** -12);
    },
  );
});
