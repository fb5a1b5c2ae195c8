// Programs with taps: every value that a forward pass writes is copied, on every backend, and nothing else changes. The
// passes of a backend may fuse neighbours only where that leaves the bits alone, and this is where it shows.

import { afterAll, describe, expect, test } from "vitest";
import type { EncodedDType } from "../../packages/rwkv/src/core/decode.ts";
import { smallMemoryBackend, threadedBackend } from "../../packages/rwkv/src/backends/cpu/testing.ts";
import { loadProgram, type LoadedProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import type { Recording } from "../../packages/rwkv/src/ops/backend.ts";
import { operandsOf } from "../../packages/rwkv/src/ops/signature.ts";
import type { Tap } from "../../packages/rwkv/src/ops/taps.ts";
import { nodeThreads } from "../../packages/rwkv/src/platform/node/threads.ts";
import { BACKENDS, type TestBackend } from "../support/backends.ts";
import { runTokens } from "./run-model.ts";
import { checkpointOf, SIZES, syntheticModel, type SyntheticVersion } from "./synthetic.ts";

const VERSIONS: readonly SyntheticVersion[] = ["4", "5.0", "5.1", "5.2", "6", "7"];
const SMALL_SIZES = { ...SIZES, nVocab: 40, nEmbd: 64, nFfn: 128, ranks7: [8, 8, 8, 8] } as const;
const TOKENS = Array.from({ length: 21 }, (_, i) => (7 * i + 3) % SMALL_SIZES.nVocab);

const PLACES: readonly TestBackend[] = [
  ...BACKENDS,
  { name: "cpu, 2 threads", create: () => threadedBackend(2, nodeThreads) },
  // The largest matrix has 32 KB in f32, a layer about 150.
  { name: "cpu, memories of 100 KB", create: () => smallMemoryBackend(100_000) },
];

const open: LoadedProgram[] = [];
afterAll(() => {
  for (const { program } of open) program.dispose();
});

async function load(
  place: TestBackend,
  version: SyntheticVersion,
  dtype?: EncodedDType,
): Promise<LoadedProgram> {
  const backend = await place.create();
  const loaded = await loadProgram(
    backend,
    canonicalWeights(checkpointOf(syntheticModel(version, SMALL_SIZES))),
    {
      maxRows: 32,
      dtype,
      activations: dtype !== undefined && backend.hasInt8Activations ? "int8" : "f32",
    },
  );
  open.push(loaded);
  return loaded;
}

/** After every write. */
function allTaps({ calls }: Recording): Tap[] {
  return calls.flatMap((call, i) =>
    operandsOf(call)
      .filter(({ role, tensor }) => role !== "in" && tensor.rows !== "none")
      .map(({ tensor }) => ({ tensor, nCalls: i + 1 })),
  );
}

describe.each(PLACES)("$name", (place) => {
  test.each([
    ...VERSIONS.map((version) => ({ version, dtype: undefined })),
    ...VERSIONS.map((version) => ({ version, dtype: "q8_0" as const })),
    { version: "7" as const, dtype: "q4" as const },
    { version: "7" as const, dtype: "bf16" as const },
  ])(
    "v$version in $dtype: logits and states are the same bits, whatever is tapped",
    async ({ version, dtype }) => {
      const loaded = await load(place, version, dtype);
      const recording = loaded.program.recording!;
      const taps = allTaps(recording);
      const want = await runTokens(loaded, TOKENS, 32);
      for (const chosen of [
        taps,
        taps.filter((_, i) => i % 2 === 0),
        taps.filter((_, i) => i % 2 === 1),
        [],
      ]) {
        const program = await recording.tapped(chosen, 32);
        for (const chunk of [32, 5, 1]) {
          expect(await runTokens({ ...loaded, program }, TOKENS, chunk)).toEqual(want);
        }
        program.dispose();
      }
      expect(await runTokens(loaded, TOKENS, 32)).toEqual(want);
    },
  );
});
