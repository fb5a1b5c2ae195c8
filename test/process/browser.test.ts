// The built engine in a real browser: threads are workers over shared memory in a cross-origin isolated page, and there
// is one thread, which the model's info says, in any other page.

import { describe, expect, test } from "vitest";
import { HAS_BROWSER, openPage } from "../support/browser.ts";
import { tinyModel } from "../support/tiny-model.ts";

const SCRIPT = `
  const { loadModel } = await import("/dist/browser.js");
  const results = [];
  for (const threads of [1, 3]) {
    const model = await loadModel("/model.safetensors", { threads });
    const session = await model.createSession();
    // Long enough that the step is shared among threads, and short enough that it is not.
    const first = await session.forward(Array.from({ length: 200 }, (_, i) => i));
    const second = await session.forward([6]);
    results.push({ device: model.info.device, logits: [...first, ...second] });
    model.dispose();
  }
  return results;`;

interface Result {
  readonly device: string;
  readonly logits: readonly number[];
}

async function open(isIsolated: boolean): Promise<Result[]> {
  const files = { "/model.safetensors": tinyModel() };
  return (await openPage({ script: SCRIPT, files, isIsolated })) as Result[];
}

describe.skipIf(!HAS_BROWSER)("in a browser", () => {
  test("an isolated page computes on as many threads as asked for, with the same bits", async () => {
    const [one, three] = await open(true);
    expect(one?.device).toBe("cpu: WebAssembly relaxed SIMD, 1 thread");
    expect(three?.device).toBe("cpu: WebAssembly relaxed SIMD, 3 threads");
    expect(three!.logits).toEqual(one!.logits);
    expect(one!.logits.length).toBe(2 * 256);
  });

  test("a page that is not isolated computes on one, and says why", async () => {
    const [one, three] = await open(false);
    expect(three?.device).toBe("cpu: WebAssembly relaxed SIMD, 1 thread (threads cannot share memory here)");
    expect(three!.logits).toEqual(one!.logits);
  });
});
