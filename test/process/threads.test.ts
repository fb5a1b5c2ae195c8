// Threads as a process sees them: it ends by itself with a model loaded or disposed, and idle threads take no time.
// Runs the built engine in processes of its own.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, expect, test } from "vitest";
import { ROOT, run, rwkv, temporaryFolder } from "../support/cli.ts";
import { tinyModel } from "../support/tiny-model.ts";

const folder = temporaryFolder();
afterAll(() => folder.remove());
const MODEL = join(folder.path, "model.safetensors");
writeFileSync(MODEL, tinyModel());

const ENGINE = pathToFileURL(join(ROOT, "packages/rwkv/dist/node.js")).href;

/**
 * Runs a module with `model` loaded on 3 threads and `print` to answer with.
 * @param native - RWKV_NATIVE: the threads of WebAssembly, or with undefined those of native kernels where they are built
 */
async function answers(body: string, native: string | undefined = "0"): Promise<unknown> {
  const source = `
    import { loadModel } from ${JSON.stringify(ENGINE)};
    const model = await loadModel(${JSON.stringify(MODEL)}, { threads: 3 });
    const print = (value) => console.log(JSON.stringify(value));
    ${body}`;
  const { code, stdout, stderr } = await run(process.execPath, ["--input-type=module", "-e", source], {
    env: { RWKV_NATIVE: native },
  });
  expect(stderr).toBe("");
  expect(code).toBe(0);
  return JSON.parse(stdout);
}

/** Long enough that the step is shared among threads. */
const READ_SOME = `
  const prompt = Array.from({ length: 200 }, (_, i) => i);
  const session = await model.createSession();
  const logits = await session.forward(prompt);`;

test("a process ends by itself with a model on threads, disposed or not, used or not", async () => {
  expect(await answers(`print(model.info.device);`)).toMatch(/^cpu: WebAssembly (relaxed )?SIMD, 3 threads$/);
  expect(await answers(`${READ_SOME} print(logits.length);`)).toBe(256);
  expect(await answers(`${READ_SOME} model.dispose(); print(logits.length);`)).toBe(256);
});

test("a process ends by itself with models of the best kernels, disposed, dropped or in use", async () => {
  const body = `
    for (let i = 0; i < 6; i++) {
      const other = await loadModel(${JSON.stringify(MODEL)}, { threads: 2 });
      await (await other.createSession()).forward([1, 2, 3]);
      if (i % 2 === 0) other.dispose();
    }
    ${READ_SOME} print(logits.length);`;
  expect(await answers(body, undefined)).toBe(256);
});

test("a process stays alive for a step that nothing else waits for", async () => {
  const body = `${READ_SOME} void session.forward(prompt).then((logits) => print(logits.length));`;
  expect(await answers(body)).toBe(256);
});

test("idle threads take no processor time", async () => {
  const share = await answers(`${READ_SOME}
    await new Promise((resolve) => setTimeout(resolve, 100));
    const [before, start] = [process.cpuUsage(), performance.now()];
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const { user, system } = process.cpuUsage(before);
    print((user + system) / 1000 / (performance.now() - start));`);
  // Three spinning threads would take as many cores as there are.
  expect(share).toBeLessThan(0.1);
});

test("the command takes a number of threads and says how many it uses; more or fewer than it can are refused", async () => {
  const args = ["generate", "a", "--model", MODEL, "--max-tokens", "3", "--temperature", "0", "--verbose"];
  const texts = [];
  for (const threads of ["1", "2"]) {
    const { code, stdout, stderr } = await rwkv([...args, "--threads", threads]);
    expect(code).toBe(0);
    expect(stderr).toContain(`${threads} thread`);
    texts.push(stdout);
  }
  expect(texts[1]).toBe(texts[0]);
  for (const threads of ["0", "65", "1.5", "many"]) {
    const { code, stderr } = await rwkv([...args, "--threads", threads]);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/threads/);
  }
});
