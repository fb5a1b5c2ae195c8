// The built engine in a worker of a real browser: the same text as in the page and in Node, from every kind of file, while the
// page goes on.

import { beforeAll, describe, expect, test } from "vitest";
import { nodePlatform } from "../../packages/rwkv/src/platform/node/platform.ts";
import { loadModel } from "../../packages/rwkv/src/runtime/load.ts";
import { HAS_BROWSER, openPage, SOFTWARE_GPU } from "../support/browser.ts";
import { tinyModel } from "../support/tiny-model.ts";

/** The engine's worker, which gives its device away when it is told to. */
const LOSING_WORKER = `
  import "/watched-devices.js";
  import "/dist/worker.js";`;

const WATCHED_DEVICES = `
  const devices = [];
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    const device = await requestDevice.call(this, descriptor);
    devices.push(device);
    return device;
  };
  addEventListener("message", (event) => {
    if (event.data !== "lose the device") return;
    event.stopImmediatePropagation();
    for (const device of devices.splice(0)) device.destroy();
  });`;

const FILES = {
  "/losing-worker.js": new TextEncoder().encode(LOSING_WORKER),
  "/watched-devices.js": new TextEncoder().encode(WATCHED_DEVICES),
  "/models/tiny.safetensors": tinyModel(),
  "/models/cut.safetensors": tinyModel().subarray(0, 3000),
};

const SAMPLING = { maxTokens: 60, seed: 11, temperature: 1.1 };

const GREEDY = { maxTokens: 40, temperature: 0 };

const PAGE = `
  let nTerminated = 0;
  globalThis.Worker = class extends Worker {
    terminate() {
      nTerminated++;
      super.terminate();
    }
  };
  const { loadModel } = await import("/dist/browser.js");
  const SAMPLING = ${JSON.stringify(SAMPLING)};
  const TINY = "/models/tiny.safetensors";
  const textOf = async (model) => (await (await model.createSession()).generate("It is ", SAMPLING)).text;
`;

const TEXTS = `${PAGE}
  const bytes = new Uint8Array(await (await fetch(TINY)).arrayBuffer());
  const opfs = await navigator.storage.getDirectory();
  const handle = await opfs.getFileHandle("tiny.safetensors", { create: true });
  const writable = await handle.createWritable();
  await writable.write(bytes);
  await writable.close();
  const sources = {
    address: TINY,
    url: new URL(TINY, location.href),
    file: new File([bytes], "tiny.safetensors"),
    handle,
    bytes,
    source: {
      name: "tiny.safetensors",
      byteLength: bytes.byteLength,
      read: async (offset, target) => target.set(bytes.subarray(offset, offset + target.byteLength)),
      close: async () => undefined,
    },
  };
  const page = await loadModel(TINY, { threads: 2 });
  const result = { page: { info: page.info, text: await textOf(page) }, worker: {}, bytesLeft: 0 };
  page.dispose();
  for (const [kind, source] of Object.entries(sources)) {
    const model = await loadModel(source, { worker: true, threads: 2 });
    result.worker[kind] = { info: model.info, text: await textOf(model) };
    model.dispose();
  }
  result.bytesLeft = bytes.byteLength;
  const worker = new Worker("/dist/worker.js", { type: "module" });
  const own = await loadModel(TINY, { worker, threads: 2 });
  result.worker.own = { info: own.info, text: await textOf(own) };
  own.dispose();
  result.nTerminated = nTerminated;
  return result;`;

const ENDS = `${PAGE}
  const { DeviceError, FormatError } = await import("/dist/browser.js");
  const failure = async (promise) => {
    try {
      await promise;
    } catch (error) {
      const isDamage = error instanceof FormatError;
      return { isDamage, isDevice: error instanceof DeviceError, name: error.name, message: error.message };
    }
  };
  const model = await loadModel(TINY, { worker: true, chunk: 8 });
  const session = await model.createSession();
  await session.append("As before");
  const snapshot = await session.snapshot();
  const controller = new AbortController();
  const abort = await failure(
    session.append("a long prompt. ".repeat(200), {
      signal: controller.signal,
      onProgress: ({ tokensDone }) => tokensDone > 100 && controller.abort(),
    }),
  );
  const first = (await session.generate("", SAMPLING)).text;
  await session.rewind(snapshot);
  const again = (await session.generate("", SAMPLING)).text;
  const saved = await snapshot.save();
  const restored = (await (await model.restore(saved)).generate("", SAMPLING)).text;
  const unknown = await failure(session.append([256]));
  const running = failure(session.generate(null, { maxTokens: 100000 }));
  setTimeout(() => model.dispose(), 50);
  const disposed = await running;
  return {
    abort, first, again, restored, unknown, disposed, nTerminated,
    damaged: await failure(loadModel("/models/cut.safetensors", { worker: true })),
    missing: await failure(loadModel(TINY, { worker: new Worker("/nowhere.js", { type: "module" }) })),
    noModel: await failure(loadModel(undefined, { worker: true })),
  };`;

// The reference backend, which is slow and has no threads.
const RESPONSIVE = `${PAGE}
  const prompt = Array.from({ length: 256 }, (_, i) => i % 256);
  const results = {};
  for (const worker of [false, true]) {
    const model = await loadModel(TINY, { worker, backend: "reference" });
    const session = await model.createSession();
    let nTicks = 0;
    const timer = setInterval(() => nTicks++, 5);
    const start = performance.now();
    await session.forward(prompt);
    const elapsedMs = performance.now() - start;
    clearInterval(timer);
    results[worker ? "worker" : "page"] = { nTicks, elapsedMs };
    model.dispose();
  }
  return results;`;

const ON_GPU = `${PAGE}
  const model = await loadModel(TINY, { worker: true, device: "webgpu" });
  const { text } = await (await model.createSession()).generate("It is ", ${JSON.stringify(GREEDY)});
  model.dispose();
  return { info: model.info, text };`;

const RELOADED = `${PAGE}
  const { DeviceError } = await import("/dist/browser.js");
  const GREEDY = ${JSON.stringify(GREEDY)};
  const worker = new Worker("/losing-worker.js", { type: "module" });
  const model = await loadModel(TINY, { worker, device: "webgpu" });
  const session = await model.createSession();
  const tokens = [];
  let loss = null;
  try {
    for await (const chunk of session.generate("It is ", GREEDY)) {
      tokens.push(...chunk.tokens);
      if (tokens.length === 10) worker.postMessage("lose the device");
    }
  } catch (error) {
    loss = { isDevice: error instanceof DeviceError, message: error.message };
  }
  const nBefore = tokens.length;
  await model.reload();
  const maxTokens = GREEDY.maxTokens - nBefore;
  tokens.push(...(await session.generate(null, { ...GREEDY, maxTokens })).tokens);
  const { info } = model;
  model.dispose();
  return { info, tokens, nBefore, loss, nTerminated };`;

interface Told {
  readonly info: { readonly device: string; readonly isInWorker: boolean; readonly name: string };
  readonly text: string;
}

interface Texts {
  readonly page: Told;
  readonly worker: Readonly<Record<string, Told>>;
  readonly bytesLeft: number;
  readonly nTerminated: number;
}

interface Reloaded extends Pick<Told, "info"> {
  readonly tokens: readonly number[];
  readonly nBefore: number;
  readonly loss: Pick<Failure, "isDevice" | "message">;
  readonly nTerminated: number;
}

interface Failure {
  readonly name: string;
  readonly message: string;
  readonly isDamage: boolean;
  readonly isDevice: boolean;
}

describe.skipIf(!HAS_BROWSER)("in a worker of a browser", () => {
  let nodeText: string;
  let greedyText: string;
  let greedyTokens: readonly number[];
  beforeAll(async () => {
    const platform = { ...nodePlatform, loadNative: () => Promise.resolve(null) }; // the same kernels as there
    const model = await loadModel(platform, FILES["/models/tiny.safetensors"], { threads: 1 });
    nodeText = (await (await model.createSession()).generate("It is ", SAMPLING)).text;
    const greedy = await (await model.createSession()).generate("It is ", GREEDY);
    greedyText = greedy.text;
    greedyTokens = greedy.tokens;
    model.dispose();
  });

  test.each([
    [true, "2 threads"],
    [false, "1 thread (threads cannot share memory here)"],
  ])(
    "every kind of file gives the text of the page and of Node; isolated: %s",
    async (isIsolated, threads) => {
      const { page, worker, bytesLeft, nTerminated } = (await openPage({
        script: TEXTS,
        files: FILES,
        isIsolated,
      })) as Texts;
      const { length } = Object.keys(worker);
      expect(length).toBe(7);
      for (const { info, text } of [page, ...Object.values(worker)]) {
        expect(text).toBe(nodeText);
        expect(info.device).toBe(`cpu: WebAssembly relaxed SIMD, ${threads}`);
      }
      for (const { info } of Object.values(worker)) expect(info.isInWorker).toBe(true);
      expect(page.info.isInWorker).toBe(false);
      expect(worker["handle"]!.info.name).toBe("tiny.safetensors");
      expect(bytesLeft).toBe(FILES["/models/tiny.safetensors"].byteLength);
      // Each engine's worker, and the page's own two threads where it has them.
      expect(nTerminated).toBe(length + (isIsolated ? 2 : 0));
    },
  );

  test("aborts, errors, snapshots and dispose are as in the page", async () => {
    const ends = (await openPage({ script: ENDS, files: FILES })) as Record<string, Failure & string>;
    expect(ends["abort"]).toMatchObject({ name: "AbortError" });
    expect(ends["again"]).toBe(ends["first"]);
    expect(ends["restored"]).toBe(ends["first"]);
    expect(ends["unknown"]).toMatchObject({ name: "UsageError" });
    expect(ends["disposed"]!.message).toContain("has been disposed");
    expect(ends["damaged"]).toMatchObject({ isDamage: true, name: "FormatError" });
    expect(ends["missing"]).toMatchObject({ isDevice: true });
    expect(ends["missing"]!.message).toContain("could not start or has ended");
    expect(ends["noModel"]!.message).toContain("No model was named");
  });

  test("timers of the page go on while the worker reads a prompt, as they do not beside an engine in the page", async () => {
    const { page, worker } = (await openPage({ script: RESPONSIVE, files: FILES })) as Record<
      "page" | "worker",
      { readonly nTicks: number; readonly elapsedMs: number }
    >;
    const rate = worker.nTicks / worker.elapsedMs;
    expect(rate).toBeGreaterThan((2 * page.nTicks) / page.elapsedMs);
    expect(worker.nTicks).toBeGreaterThan(4);
  });

  test.skipIf(process.env["RWKV_TEST_WEBGPU"] !== "1")(
    "a GPU is used from the worker, in a page that is not isolated, and gives the text of the CPU",
    { timeout: 300_000 },
    async () => {
      const page = { script: ON_GPU, files: FILES, flags: SOFTWARE_GPU };
      const { info, text } = (await openPage(page)) as Told;
      expect(info.device).toContain("webgpu");
      expect(text).toBe(greedyText);
    },
  );

  test.skipIf(process.env["RWKV_TEST_WEBGPU"] !== "1")(
    "a GPU that is lost in the worker comes back with a reload, and the session goes on in mid-answer",
    { timeout: 300_000 },
    async () => {
      const page = { script: RELOADED, files: FILES, flags: SOFTWARE_GPU };
      const { info, tokens, nBefore, loss, nTerminated } = (await openPage(page)) as Reloaded;
      expect(loss.isDevice).toBe(true);
      expect(loss.message).toMatch(/was lost.*model\.reload\(\)/);
      expect(nBefore).toBeGreaterThanOrEqual(10);
      expect(nBefore).toBeLessThan(GREEDY.maxTokens);
      expect(info.device).toContain("webgpu");
      expect(tokens).toEqual(greedyTokens);
      expect(nTerminated).toBe(1);
    },
  );
});
