// What rounding costs, on a text that the unrounded model wrote itself: the bounds that docs/quantization.md promises. Models:
// RWKV/rwkv.cpp's tiny ones, in f32.

import { afterAll, describe, expect, test } from "vitest";
import { compare, loadModel, quantize } from "../../packages/rwkv/src/node.ts";
import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import { FIXTURES, hasFixture } from "./fixtures.ts";

const N_TOKENS = 4096;
const SEED = 1;
const FIRST_TOKEN = 10;

/** Most that the perplexity may change, as a share, with the policy that the dtype brings with it. */
const BOUNDS = [
  { model: "4v0-660K", groupNormEps: undefined, q8: 0.002, q4: 0.01, nf4: 0.01, sf4: 0.01 },
  { model: "5v2-730K", groupNormEps: 1e-5, q8: 0.002, q4: 0.05, nf4: 0.07, sf4: 0.07 },
] as const;

const lines: string[] = [];
afterAll(() => void process.stdout.write(lines.join("")));

describe.skipIf(!hasFixture("rwkv.cpp/")).each(BOUNDS)("$model", ({ model, groupNormEps, ...bounds }) => {
  const file = new URL(`rwkv.cpp/tiny-rwkv-${model}-FP32.bin`, FIXTURES);
  const text = sample(file, groupNormEps);

  test.each(["q8", "q4", "nf4", "sf4"] as const)(
    "in %s keeps its perplexity within the bound",
    async (dtype) => {
      const sink = new MemorySink();
      await quantize(file, sink, { dtype });
      for (const activations of ["f32", undefined] as const) {
        const result = await compare(file, sink.bytes(), { prompt: await text, activations, groupNormEps });
        expect(result.nPredicted).toBe(N_TOKENS);
        expect(Math.abs(result.perplexityChange)).toBeLessThan(bounds[dtype]);
        // unlike the change of perplexity, the divergence cannot be small because errors cancel
        expect(result.meanKl).toBeGreaterThan(0);
        expect(result.meanKl).toBeLessThan(2 * bounds[dtype]);
        const change = (100 * result.perplexityChange).toFixed(3);
        lines.push(
          `${model} ${dtype}, activations ${activations ?? "as by default"}: perplexity ${change} %, KL ${result.meanKl.toExponential(2)}\n`,
        );
      }
    },
  );
});

async function sample(file: URL, groupNormEps: number | undefined): Promise<number[]> {
  if (!hasFixture("rwkv.cpp/")) return [];
  await using model = await loadModel(file, { groupNormEps });
  await using session = await model.createSession();
  const options = { maxTokens: N_TOKENS, temperature: 1, topP: 1, topK: 0, seed: SEED };
  return [FIRST_TOKEN, ...(await session.generate([FIRST_TOKEN], options)).tokens];
}
