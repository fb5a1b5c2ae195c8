// The engines that are timed, each in a process of its own, so that neither memory nor compiled code passes from one
// measurement to the next.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { UsageError } from "rwkv";

export const ROOT = resolve(import.meta.dirname, "../..");
/** Random models are kept here between runs. */
export const MODELS_FOLDER = join(ROOT, "bench", "models");
export const RESULTS_FOLDER = join(ROOT, "bench", "results");
/** Where the package that brings llama.cpp is installed. */
export const PEERS_FOLDER = join(ROOT, "bench", "peers");

/** What is timed. */
export interface Work {
  readonly promptTokens: number;
  /** Of each session. */
  readonly decodeTokens: number;
}

/** What one process measured. */
export interface Sample {
  readonly loadMs: number;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
  readonly peakRssBytes: number;
}

export interface Engine {
  /** Kernels and threads, as in tables. */
  readonly name: string;
  /** Starts a process that loads the model, warms up and measures once. */
  measure(model: string, work: Work): Promise<Sample>;
}

/** The part of `rwkv bench --json` that is read here. */
interface BenchReport {
  readonly load: { readonly ms: Median };
  readonly prefill: { readonly tokensPerSecond: Median };
  readonly decode: { readonly tokensPerSecond: Median };
  readonly peakRssBytes: number;
  readonly weightBytes: number;
  readonly bytesReadPerToken: number;
  readonly kernels: string;
}

interface Median {
  readonly median: number;
}

/** Values of RWKV_NATIVE: without the addon, and with it. */
const KERNEL_CHOICES = ["0", "1"] as const;
export type KernelChoice = (typeof KERNEL_CHOICES)[number];

export interface RwkvOptions extends Work {
  readonly threads: number;
  readonly batch?: number;
  readonly kernels: KernelChoice;
}

/** One measurement by `rwkv bench`. */
export async function runRwkv(model: string, options: RwkvOptions): Promise<BenchReport> {
  const args = [
    join(ROOT, "apps", "cli", "bin", "rwkv.js"),
    ...["bench", "--json", "--repeat", "1", "--model", model, "--threads", String(options.threads)],
    ...["--prompt-tokens", String(options.promptTokens), "--decode-tokens", String(options.decodeTokens)],
    ...["--batch", String(options.batch ?? 1)],
  ];
  return JSON.parse(await runNode(args, { RWKV_NATIVE: options.kernels })) as BenchReport;
}

/**
 * This library, once for each set of kernels that it has here.
 * @param model - any that loads quickly
 * @param explain - is told why a set is left out
 */
export async function rwkvKernels(
  model: string,
  explain: (message: string) => void,
): Promise<{ readonly choice: KernelChoice; readonly name: string }[]> {
  const found: { choice: KernelChoice; name: string }[] = [];
  for (const choice of KERNEL_CHOICES) {
    try {
      const { kernels } = await runRwkv(model, {
        promptTokens: 1,
        decodeTokens: 1,
        threads: 1,
        kernels: choice,
      });
      if (found.every(({ name }) => name !== kernels)) found.push({ choice, name: kernels });
    } catch (error) {
      explain(`left out: RWKV_NATIVE=${choice}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return found;
}

export function rwkvEngine(kernels: { choice: KernelChoice; name: string }, threads: number): Engine {
  return {
    name: `rwkv ${kernels.name}`,
    async measure(model, work) {
      const report = await runRwkv(model, { ...work, threads, kernels: kernels.choice });
      return {
        loadMs: report.load.ms.median,
        prefillTokensPerSecond: report.prefill.tokensPerSecond.median,
        decodeTokensPerSecond: report.decode.tokensPerSecond.median,
        peakRssBytes: report.peakRssBytes,
      };
    },
  };
}

/**
 * @param folder - of the runner and the package that brings llama.cpp
 * @throws UsageError if the package is not installed there
 */
export function llamaEngine(folder: string, threads: number): Engine {
  if (!existsSync(join(folder, "node_modules", "node-llama-cpp"))) {
    throw new UsageError(
      `node-llama-cpp is not installed in ${folder}. Install it there, and there only: ` +
        `npm ci --ignore-scripts --prefix bench/peers`,
    );
  }
  return {
    name: `llama.cpp, ${threads} ${threads === 1 ? "thread" : "threads"}`,
    async measure(model, { promptTokens, decodeTokens }) {
      const args = [join(folder, "llama.js"), "--model", model, "--threads", String(threads)];
      args.push("--prompt-tokens", String(promptTokens), "--decode-tokens", String(decodeTokens));
      return JSON.parse(await runNode(args, {})) as Sample;
    },
  };
}

/** Runs Node to its end and returns what it wrote to stdout. */
function runNode(args: readonly string[], env: Readonly<Record<string, string>>): Promise<string> {
  return new Promise((resolveRun, reject) => {
    const child = spawn(process.execPath, args, {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (piece: Buffer) => stdout.push(piece));
    child.stderr.on("data", (piece: Buffer) => stderr.push(piece));
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (code === 0) {
        resolveRun(Buffer.concat(stdout).toString("utf8"));
        return;
      }
      const end = signal ?? `code ${code ?? 0}`;
      const message = Buffer.concat(stderr).toString("utf8").trim();
      reject(new Error(`node ${args.join(" ")} ended with ${end}: ${message}`));
    });
  });
}
