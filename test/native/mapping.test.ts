// Weights that native kernels use where they lie in a file: the same bits as those that are read, and an error instead
// of a dead process when the file is changed.

import { mkdtempSync, readFileSync, rmSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { buildProgram, seededRandom } from "../../packages/rwkv/src/backends/cpu/testing.ts";
import type { ByteSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { byteLengthOf, type WeightDType } from "../../packages/rwkv/src/core/dtype.ts";
import { FormatError } from "../../packages/rwkv/src/core/errors.ts";
import { layoutByteLength, packMatrix, type WeightLayout } from "../../packages/rwkv/src/core/layout.ts";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { writePacked } from "../../packages/rwkv/src/formats/packed/packed.ts";
import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { packWeights } from "../../packages/rwkv/src/model/pack.ts";
import { chooseDTypes } from "../../packages/rwkv/src/model/policy.ts";
import { canonicalWeights, type CanonicalWeight } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { packedMetadata } from "../../packages/rwkv/src/model/weights/packed.ts";
import { fileSource } from "../../packages/rwkv/src/node.ts";
import type { Program, WeightUpload } from "../../packages/rwkv/src/ops/backend.ts";
import { checkpointOf, syntheticModel, WIDE_SIZES } from "../golden/synthetic.ts";
import { NATIVE } from "../support/backends.ts";

const [N_OUT, N_IN] = [40, 256];
const random = seededRandom(5);
const ROWS = Float32Array.from({ length: 3 * N_IN }, () => random() - 0.5);

let folder = "";
let path = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rwkv-mapping-"));
  path = join(folder, "weights.bin");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Random weights in rows: small f16 numbers, or blocks of q4_k whose scales are. */
function randomRows(dtype: "f16" | "q4_k"): Uint8Array {
  const bytes = Uint8Array.from({ length: byteLengthOf(dtype, [N_OUT, N_IN]) }, () => random() * 256);
  const step = dtype === "f16" ? 2 : 144;
  for (let i = 1; i < bytes.length; i += step) bytes[i] = 0x24 + (bytes[i]! & 0x80);
  if (dtype === "q4_k") for (let i = 3; i < bytes.length; i += step) bytes[i] = 0x24;
  return bytes;
}

function panelsOf(dtype: "f16" | "q4_k", rows = randomRows(dtype)): Uint8Array {
  const panels = new Uint8Array(layoutByteLength("panels", dtype, [N_OUT, N_IN]));
  packMatrix("panels", dtype, [N_OUT, N_IN], rows, panels);
  return panels;
}

/** A file with bytes at an offset, and the upload of them as a matrix. */
async function uploadFrom(
  dtype: WeightDType,
  layout: WeightLayout,
  bytes: Uint8Array,
  offset: number,
): Promise<{ upload: WeightUpload; source: ByteSource; nReads: () => number }> {
  const contents = new Uint8Array(offset + bytes.byteLength);
  contents.set(bytes, offset);
  writeFileSync(path, contents);
  const source = await fileSource(path);
  let nReads = 0;
  const upload: WeightUpload = {
    name: "w",
    shape: [N_OUT, N_IN],
    dtype,
    layout,
    byteLength: bytes.byteLength,
    place: { file: source.file!, offset },
    read(target) {
      nReads += 1;
      return source.read(offset, target);
    },
  };
  return { upload, source, nReads: () => nReads };
}

describe.skipIf(NATIVE.length === 0)("mapped weights", () => {
  const product = async (upload: WeightUpload): Promise<Program> => {
    const builder = (await NATIVE[0]!.create()).createBuilder({ maxRows: 3 });
    const w = await builder.weight(upload);
    return buildProgram(builder, N_IN, N_OUT, ({ x }) => {
      const y = builder.scratch("y", [N_OUT], "token");
      return (ops) => {
        ops.matmul(y, w, x);
        return y;
      };
    });
  };
  const run = async (program: Program): Promise<Float32Array> => {
    const slot = program.createSlot();
    return (await program.step([{ slot, nRows: 3, logits: "all" }], [ROWS])).slice();
  };

  test("panels on a cache line give the bits of those that are read, and are not read", async () => {
    const f16 = randomRows("f16");
    const panels = panelsOf("f16", f16);
    const q4 = panelsOf("q4_k");
    const cases = [
      { dtype: "f16", layout: "panels", bytes: panels, offset: 4096 + 64, isMapped: true },
      { dtype: "f16", layout: "panels", bytes: panels, offset: 4096 + 32, isMapped: false },
      { dtype: "f16", layout: "rows", bytes: f16, offset: 64, isMapped: false },
      { dtype: "q4_k", layout: "panels", bytes: q4, offset: 4096 + 128, isMapped: true },
    ] as const;
    for (const { dtype, layout, bytes, offset, isMapped } of cases) {
      const { upload, source, nReads } = await uploadFrom(dtype, layout, bytes, offset);
      const mapped = await product(upload);
      await source.close(); // the mapping does not need it
      expect(nReads()).toBe(isMapped ? 0 : 1);
      const read = await product({
        ...upload,
        place: undefined,
        read: (target) => {
          target.set(bytes);
          return Promise.resolve();
        },
      });
      const want = await run(read);
      expect(want.every((value) => Number.isFinite(value) && value !== 0)).toBe(true);
      expect(await run(mapped)).toEqual(want);
      mapped.dispose();
      read.dispose();
    }
  });

  test.each(["f16", "q8", "q4", "nf4", "sf4"] as const)(
    "of a packed model in %s no more is read than what kernels want otherwise, and vectors before the first matrix",
    async (dtype) => {
      const sink = new MemorySink();
      const original = canonicalWeights(checkpointOf(syntheticModel("7", WIDE_SIZES)));
      const contents = packWeights(original, chooseDTypes(original.tensors, { dtype }));
      await writePacked(sink, { ...contents, tokenizer: null, metadata: packedMetadata(original) });
      writeFileSync(path, sink.bytes());
      const file = await fileSource(path);
      let bytesRead = 0;
      const source: ByteSource = {
        name: file.name,
        byteLength: file.byteLength,
        file: file.file,
        read(offset, target) {
          bytesRead += target.byteLength;
          return file.read(offset, target);
        },
        close: () => file.close(),
      };
      const weights = canonicalWeights(await openCheckpoint(source));
      const backend = await NATIVE[0]!.create();
      bytesRead = 0;
      const { program, embedding } = await loadProgram(backend, weights, { maxRows: 1 });
      // AVX2 reads blocks of that matrix in panels as well, AVX-512 those of 4 bits; else they become columns.
      const isWhole =
        dtype === "f16" ||
        backend.kernels === "native-avx2" ||
        (backend.kernels === "native-avx512" && dtype !== "q8");
      const isPacked = ({ name }: CanonicalWeight): boolean => !isWhole && name.endsWith("ffn.value.weight");
      const isInPlace = ({ dtype: stored, rule, place }: CanonicalWeight): boolean =>
        stored === "f32" && rule.meaning === "asStored" && rule.repeat === 1 && place!.offset % 64 === 0;
      let expected = 0;
      let hasMapping = false;
      let nMapped = 0;
      for (const weight of weights.tensors.values()) {
        const { kind } = weight.rule;
        if (kind === "vector" && hasMapping && isInPlace(weight)) nMapped += 1;
        else if (kind === "vector") expected += weight.byteLength;
        else if (isPacked(weight)) expected += weight.packed!.byteLength;
        else if (kind !== "embedding") hasMapping = true;
      }
      expect(bytesRead).toBe(expected);
      expect(nMapped).toBeGreaterThan(10);
      program.dispose();
      embedding.close();
      await source.close();
    },
  );

  test("a vector that is not finite is refused where it would be mapped", async () => {
    const sink = new MemorySink();
    const original = canonicalWeights(checkpointOf(syntheticModel("7", WIDE_SIZES)));
    const contents = packWeights(original, chooseDTypes(original.tensors, { dtype: "f16" }));
    await writePacked(sink, { ...contents, tokenizer: null, metadata: packedMetadata(original) });
    const bytes = sink.bytes();
    writeFileSync(path, bytes);
    let source = await fileSource(path);
    const { offset } = canonicalWeights(await openCheckpoint(source)).tensors.get("ln_out.weight")!.place!;
    await source.close();
    new DataView(bytes.buffer, bytes.byteOffset).setFloat32(offset + 8, NaN, true);
    writeFileSync(path, bytes);
    source = await fileSource(path);
    const weights = canonicalWeights(await openCheckpoint(source));
    await expect(loadProgram(await NATIVE[0]!.create(), weights, { maxRows: 1 })).rejects.toThrow(
      /tensor "ln_out.weight" holds NaN at element 2/,
    );
    await source.close();
  });

  // Linux tells what is mapped.
  test.skipIf(process.platform !== "linux")(
    "a file is mapped once, however many weights and programs use it",
    async () => {
      const { upload, source } = await uploadFrom("q4_k", "panels", panelsOf("q4_k"), 64);
      const builder = (await NATIVE[0]!.create()).createBuilder({ maxRows: 1 });
      for (let i = 0; i < 5; i++) await builder.weight({ ...upload, name: `w${String(i)}` });
      const other = await product(upload);
      await source.close();
      const nMappings = readFileSync("/proc/self/maps", "utf8").split(path).length - 1;
      expect(nMappings).toBe(2);
      other.dispose();
      expect(readFileSync("/proc/self/maps", "utf8").split(path).length - 1).toBe(1);
      builder.dispose();
    },
  );

  test("a file that was cut or written to is a FormatError at the next step, and the process goes on", async () => {
    const changes = [() => truncateSync(path, 100), () => utimesSync(path, 1, 1)];
    for (const change of changes) {
      const { upload, source } = await uploadFrom("q4_k", "panels", panelsOf("q4_k"), 64);
      const program = await product(upload);
      await source.close();
      await run(program);
      change();
      await expect(run(program)).rejects.toThrow(FormatError);
      await expect(run(program)).rejects.toThrow("load the model again");
      program.dispose();
    }
  });

  test("a file that has become shorter than it was when it was opened is not mapped", async () => {
    const { upload, source, nReads } = await uploadFrom("q4_k", "panels", panelsOf("q4_k"), 64);
    truncateSync(path, 1000);
    await expect(product(upload)).rejects.toThrow("now ends at 1000");
    expect(nReads()).toBe(1);
    await source.close();
  });
});
