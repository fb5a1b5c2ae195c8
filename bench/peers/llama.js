// Times llama.cpp on one GGUF file, in a process of its own: prefill of one prompt and decode of fixed tokens, greedy,
// by llama.cpp's own counters (`llama_perf_context`), which count the graph alone: no sampling and no JavaScript.
// Prints one line of JSON. Plain JavaScript, because the package is installed in this folder only where peers are timed.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const WARM_UP = { promptTokens: 64, decodeTokens: 8 };

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    threads: { type: "string" },
    "prompt-tokens": { type: "string" },
    "decode-tokens": { type: "string" },
  },
});
const modelPath = values.model;
const threads = Number(values.threads);
const promptTokens = Number(values["prompt-tokens"]);
const decodeTokens = Number(values["decode-tokens"]);

const messages = [];
const llama = await getLlama({
  gpu: false,
  build: "never",
  progressLogs: false,
  maxThreads: threads,
  logLevel: LlamaLogLevel.info,
  logger: (level, message) => messages.push(message),
});
const start = performance.now();
const model = await llama.loadModel({ modelPath, useMmap: true });
const loadMs = performance.now() - start;
const context = await model.createContext({
  contextSize: 2 * (promptTokens + decodeTokens),
  batchSize: Math.max(promptTokens, WARM_UP.promptTokens),
  sequences: 1,
  threads: { ideal: threads, min: threads },
  performanceTracking: true,
});
const sequence = context.getSequence();

/** Ids spread over the vocabulary, the same in every run. */
const token = (i) => (i * 7919 + 1) % model.fileInfo.metadata.tokenizer.ggml.tokens.length;

/** Reads a prompt, then decodes tokens that are given and not those that the model would choose. */
async function run(nPrompt, nDecode) {
  await sequence.clearHistory();
  const prompt = Array.from({ length: nPrompt }, (_, i) => token(i));
  const evaluation = sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true });
  await evaluation.next();
  for (let i = 0; i < nDecode; i++) await evaluation.next(token(nPrompt + i));
  await evaluation.return();
}

/** What llama.cpp counted since it was last asked. */
async function readCounters() {
  messages.length = 0;
  await context.printTimings();
  const text = messages.join("\n");
  const prefill = /prompt eval time = +([\d.]+) ms \/ +(\d+) tokens/.exec(text);
  const decode = / {2}eval time = +([\d.]+) ms \/ +(\d+) runs/.exec(text);
  if (prefill === null || decode === null) {
    throw new Error(`llama.cpp printed no timings that are known here, but:\n${text}`);
  }
  return {
    prefill: { ms: Number(prefill[1]), tokens: Number(prefill[2]) },
    decode: { ms: Number(decode[1]), tokens: Number(decode[2]) },
  };
}

/** As `rwkv bench` measures it. */
function peakMemory() {
  const status = process.platform === "linux" ? readFileSync("/proc/self/status", "utf8") : "";
  const kilobytes = /^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1];
  return 1024 * (kilobytes === undefined ? process.resourceUsage().maxRSS : Number(kilobytes));
}

await run(WARM_UP.promptTokens, WARM_UP.decodeTokens);
await readCounters();
await run(promptTokens, decodeTokens);
const { prefill, decode } = await readCounters();
if (prefill.tokens !== promptTokens || decode.tokens !== decodeTokens) {
  throw new Error(
    `asked for ${promptTokens} tokens of prefill and ${decodeTokens} of decode, but llama.cpp counted ` +
      `${prefill.tokens} and ${decode.tokens}: its counters mean something else in this version.`,
  );
}
process.stdout.write(
  `${JSON.stringify({
    loadMs,
    prefillTokensPerSecond: (prefill.tokens * 1000) / prefill.ms,
    decodeTokensPerSecond: (decode.tokens * 1000) / decode.ms,
    peakRssBytes: peakMemory(),
  })}\n`,
);
await llama.dispose();
