// Times one engine in a page: prefill of one prompt and decode of greedy tokens, after the same work once as a warm-up, which
// lets the browser compile its best code. The server that gave out the page gets one line of JSON. Plain JavaScript that
// runs as it is; what it shall do stands in the page's address.

const query = new URLSearchParams(location.search);
const threads = Number(query.get("threads"));
const promptTokens = Number(query.get("prompt-tokens"));
const decodeTokens = Number(query.get("decode-tokens"));
const MODEL = "/model.gguf";

/** One token for each piece, by the vocabulary of the random models; ids spread over it. */
const prompt = Array.from({ length: promptTokens }, (_, i) => `token ${300 + ((i * 7919) % 65000)}`).join("");

/** Both: `prefill` ends with the first token drawn, `decode` begins there and ends with the last. */
const ENGINES = {
  async rwkv() {
    const { loadModel } = await import("/rwkv/browser.js");
    const start = performance.now();
    const model = await loadModel(MODEL, { threads, worker: true });
    const loadMs = performance.now() - start;
    return {
      loadMs,
      description: model.info.device,
      async generate() {
        await using session = await model.createSession();
        const startMs = performance.now();
        const atMs = [];
        const options = { temperature: 0, maxTokens: decodeTokens, stopTokens: [] };
        for await (const { tokens } of session.generate(prompt, options)) {
          if (tokens.length > 0) atMs.push(performance.now());
        }
        return {
          prefillTokens: model.tokenizer.encode(prompt).length,
          prefillMs: atMs[0] - startMs,
          decodeSteps: atMs.length - 1,
          decodeMs: atMs.at(-1) - atMs[0],
        };
      },
    };
  },

  async wllama() {
    const { LoggerWithoutDebug, Wllama } = await import("/wllama/index.js");
    const paths = { default: "/wllama/wasm/wllama.wasm" };
    const wllama = new Wllama(paths, { logger: LoggerWithoutDebug, suppressNativeLog: true });
    const start = performance.now();
    const file = await (await fetch(MODEL)).blob();
    const context = { n_ctx: 2 * (promptTokens + decodeTokens), n_parallel: 1, n_gpu_layers: 0 };
    await wllama.loadModel([file], { ...context, n_threads: threads });
    const loadMs = performance.now() - start;
    const n = wllama.isMultithread() ? wllama.getNumThreads() : 1;
    return {
      loadMs,
      description: `llama.cpp ${Wllama.getLibllamaVersion()}, ${n} ${n === 1 ? "thread" : "threads"}`,
      /** By llama.cpp's own counters, which leave out what the page does. */
      async generate() {
        const { timings } = await wllama.createCompletion({
          prompt,
          max_tokens: decodeTokens,
          cache_prompt: false,
          ignore_eos: true,
          // Its cheapest way to the likeliest token.
          samplers: ["top_k"],
          top_k: 1,
          temperature: 0,
        });
        return {
          prefillTokens: timings.prompt_n,
          prefillMs: timings.prompt_ms,
          decodeSteps: timings.predicted_n - 1,
          decodeMs: timings.predicted_ms,
        };
      },
    };
  },
};

async function measure() {
  if (!crossOriginIsolated)
    throw new Error("The page is not cross-origin isolated, so that there are no threads.");
  const { loadMs, description, generate } = await ENGINES[query.get("engine")]();
  await generate();
  const { prefillTokens, prefillMs, decodeSteps, decodeMs } = await generate();
  if (prefillTokens !== promptTokens || decodeSteps !== decodeTokens - 1) {
    throw new Error(
      `The work is not what was asked for: ${prefillTokens} tokens of the prompt in place of ${promptTokens}, ` +
        `${decodeSteps} steps after the first token in place of ${decodeTokens - 1}.`,
    );
  }
  return {
    loadMs,
    description,
    prefillTokensPerSecond: (1000 * prefillTokens) / prefillMs,
    decodeTokensPerSecond: (1000 * decodeSteps) / decodeMs,
  };
}

const answer = (body) => fetch("/answer", { method: "POST", body: JSON.stringify(body) });
try {
  await answer({ sample: await measure() });
} catch (error) {
  await answer({ error: String(error?.stack ?? error) });
}
