// Commands on the GPU, as real processes: the results of the processor, and an end by themselves, after an error too.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { rwkv, temporaryFolder, type Finished } from "../support/cli.ts";
import { tinyModel } from "../support/tiny-model.ts";
import { WEBGPU, WEBGPU_ENVIRONMENT } from "../support/webgpu.ts";

const folder = temporaryFolder();
const MODEL = join(folder.path, "tiny.safetensors");
beforeAll(() => {
  writeFileSync(MODEL, tinyModel({ layers: 1 }));
});
afterAll(() => folder.remove());

function run(command: string, ...args: string[]): Promise<Finished> {
  return rwkv([command, "--model", MODEL, ...args], { env: WEBGPU_ENVIRONMENT });
}

describe.skipIf(WEBGPU.length === 0)("commands on the GPU", { timeout: 300_000 }, () => {
  test("logits are those of the processor", async () => {
    const { description } = await WEBGPU[0]!.create();
    const logits = async (backend: string, device: string | RegExp): Promise<number[]> => {
      const args = ["--tokens", "34,105,110", "--all", "--json", "--backend", backend, "--verbose"];
      const { code, stdout, stderr } = await run("logits", ...args);
      expect(stderr).toMatch(device);
      expect(code).toBe(0);
      return (JSON.parse(stdout) as { logits: number[] }).logits;
    };
    const [got, want] = [await logits("webgpu", description), await logits("cpu", /; cpu: /)];
    expect(got).toHaveLength(3 * 256);
    // Logits of size 10 after some ten matrices of 64 inputs, summed in another order.
    for (let i = 0; i < want.length; i++) expect(Math.abs(got[i]! - want[i]!)).toBeLessThan(1e-4);
  });

  test("bench measures the GPU", async () => {
    const args = ["--prompt-tokens", "8", "--decode-tokens", "2", "--batch", "2", "--repeat", "1", "--json"];
    const { code, stdout, stderr } = await run("bench", "--device", "webgpu", ...args);
    expect([code, stderr]).toEqual([0, ""]);
    const report = JSON.parse(stdout) as Record<string, { tokensPerSecond: { median: number } }>;
    for (const phase of ["prefill", "decode"]) {
      expect(report[phase]!.tokensPerSecond.median).toBeGreaterThan(0);
    }
    expect(report["ffnZeroShare"]).toBeGreaterThan(0.2); // squared ReLUs of a random model: about half
  });

  test("a wrong token ends the command after the model was loaded, with the code of wrong usage", async () => {
    const { code, stdout, stderr } = await run(
      "logits",
      "--tokens",
      "34,999",
      "--device",
      "webgpu",
      "--json",
    );
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(/^rwkv: Token 999 is unknown .* 0 to 255\.\n$/);
  });

  test("auto takes the processor where it would only imitate a GPU, and says why", async () => {
    const { isSoftware, description } = await WEBGPU[0]!.create();
    const { code, stderr } = await run("logits", "--tokens", "34", "--json", "--device", "auto", "--verbose");
    expect(code).toBe(0);
    const reason = `The cpu backend is used: ${description} is no GPU: the processor does its work`;
    if (isSoftware) expect(stderr).toContain(reason);
    else expect(stderr).toContain(description);
  });

  test("devices names the adapter, which auto takes if it is a GPU", async () => {
    const { isSoftware, description } = await WEBGPU[0]!.create();
    const { code, stdout } = await rwkv(["devices", "--json"], { env: WEBGPU_ENVIRONMENT });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toContainEqual({
      name: "webgpu",
      description,
      isUsable: true,
      isPreferred: !isSoftware,
    });
  });
});
