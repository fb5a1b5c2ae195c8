// Runs in a page of a browser: every contract case and golden folder on its WebGPU.

import { createWebgpuBackend } from "../../packages/rwkv/src/backends/webgpu/webgpu.ts";
import { contractCases } from "../contract/cases.ts";
import { checkCase } from "../contract/check-case.ts";
import { checkGolden, FEW_CHUNKS, readGolden } from "../golden/check-golden.ts";

export interface PageResult {
  readonly description: string;
  readonly nCases: number;
  readonly nGolden: number;
  /** What is wrong, a line for each case or folder. */
  readonly errors: readonly string[];
}

/** @param golden - addresses of the folders */
export async function checkWebgpu(golden: readonly string[]): Promise<PageResult> {
  const backend = await createWebgpuBackend(navigator.gpu);
  const errors: string[] = [];
  const cases = contractCases();
  for (const testCase of cases) {
    try {
      const error = await checkCase("webgpu", backend, testCase);
      if (error !== null) errors.push(error);
    } catch (error) {
      errors.push(`${testCase.op} ${testCase.title}: ${String(error)}`);
    }
  }
  for (const folder of golden) {
    try {
      const read = async (file: string): Promise<Uint8Array> => {
        const response = await fetch(`${folder}/${file}`);
        if (!response.ok) throw new Error(`${file} is not served: ${response.status}`);
        return new Uint8Array(await response.arrayBuffer());
      };
      await checkGolden(backend, await readGolden(read), FEW_CHUNKS);
    } catch (error) {
      errors.push(`${folder}: ${String(error)}`);
    }
  }
  return { description: backend.description, nCases: cases.length, nGolden: golden.length, errors };
}
