// The engines that are timed, each in a process of its own, so that neither memory nor compiled code passes from one
// measurement to the next.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { UsageError } from "rwkv";

export const ROOT = resolve(import.meta.dirname, "../..");
/** Random models are kept here between runs. */
export const MODELS_FOLDER = join(ROOT, "bench", "models");
export const RESULTS_FOLDER = join(ROOT, "bench", "results");
const RWKV = join(ROOT, "apps", "cli", "bin", "rwkv.js");
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
  /** The first load of the process; the file is in memory. */
  readonly loadMs: number;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
  readonly peakRssBytes: number;
  /** Of the model in memory; null where the engine does not tell. */
  readonly weightBytes: number | null;
  /** Speed of decode as a part of what the memory's bandwidth, measured by the same process, allows; null likewise. */
  readonly shareOfBound: number | null;
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
  readonly decodeBoundTokensPerSecond: number | null;
  readonly weightBytes: number;
  readonly bytesReadPerToken: number;
  readonly kernels: string;
}

interface Median {
  readonly median: number;
}

/** What this library runs on: a Node, with the addon or without. */
export interface Kernels {
  /** As `rwkv bench` calls them, and which Node if it is not the one that runs this. */
  readonly name: string;
  /** Path of the program. */
  readonly node: string;
  /** Value of RWKV_NATIVE. */
  readonly native: "0" | "1";
}

export interface RwkvOptions extends Work {
  readonly threads: number;
  readonly batch?: number;
  readonly repeat?: number;
  /** Default true. */
  readonly skipZeros?: boolean;
}

/** Measurements by `rwkv bench`. */
export async function runRwkv(
  model: string,
  { node, native }: Omit<Kernels, "name">,
  options: RwkvOptions,
): Promise<BenchReport> {
  const { threads, promptTokens, decodeTokens, batch = 1, repeat = 1, skipZeros = true } = options;
  const args = [
    RWKV,
    ...["bench", "--json", "--repeat", String(repeat), "--model", model, "--threads", String(threads)],
    ...["--prompt-tokens", String(promptTokens), "--decode-tokens", String(decodeTokens)],
    ...["--batch", String(batch)],
    ...(skipZeros ? [] : ["--no-skip-zeros"]),
  ];
  return JSON.parse(await runNode(args, { RWKV_NATIVE: native }, node)) as BenchReport;
}

/** The LTS release whose WebAssembly has relaxed SIMD, where another one runs this. */
const LTS = "24";

/** What kernels can be asked for: the addon, WebAssembly, and WebAssembly on the LTS release. */
export const KERNEL_SORTS = ["native", "wasm", "wasm-lts"] as const;
export type KernelSort = (typeof KERNEL_SORTS)[number];

/**
 * This library, once for each set of kernels that it has here.
 * @param sorts - those wanted
 * @param model - any that loads quickly
 * @param explain - is told why a set is left out
 */
export async function rwkvKernels(
  sorts: readonly KernelSort[],
  model: string,
  explain: (message: string) => void,
): Promise<Kernels[]> {
  const found: Kernels[] = [];
  for (const sort of sorts) {
    const isLts = sort === "wasm-lts";
    if (isLts && process.versions.node.split(".")[0] === LTS) continue;
    try {
      const node = isLts ? await findLts() : process.execPath;
      const candidate = { node, native: sort === "native" ? "1" : "0" } as const;
      const { kernels } = await runRwkv(model, candidate, { promptTokens: 1, decodeTokens: 1, threads: 1 });
      found.push({ ...candidate, name: `${kernels}${isLts ? `, Node ${LTS}` : ""}` });
    } catch (error) {
      explain(`left out: ${sort}: ${messageOf(error)}`);
    }
  }
  return found;
}

/** The path of that Node, which npm's own command brings if it is not in its cache. */
async function findLts(): Promise<string> {
  const args = ["exec", "--yes", `--package=node@${LTS}`, "--", "node", "--print", "process.execPath"];
  return (await runProgram("npm", args, {})).trim();
}

export function rwkvEngine(kernels: Kernels, threads: number, skipZeros = true): Engine {
  return {
    name: `rwkv ${kernels.name}${skipZeros ? "" : ", zeros read"}`,
    async measure(model, work) {
      const report = await runRwkv(model, kernels, { ...work, threads, skipZeros });
      const decodeTokensPerSecond = report.decode.tokensPerSecond.median;
      const bound = report.decodeBoundTokensPerSecond;
      return {
        loadMs: report.load.ms.median,
        prefillTokensPerSecond: report.prefill.tokensPerSecond.median,
        decodeTokensPerSecond,
        peakRssBytes: report.peakRssBytes,
        weightBytes: report.weightBytes,
        shareOfBound: bound === null ? null : decodeTokensPerSecond / bound,
      };
    },
  };
}

/** Milliseconds per token of decode at places of one sequence, those of each turn; see position-process.ts. */
export async function runPositions(
  model: string,
  { node, native }: Kernels,
  threads: number,
  positions: readonly number[],
): Promise<number[][]> {
  const args = [join(ROOT, "bench", "dist", "position-process.js"), "--model", model];
  args.push("--threads", String(threads), "--positions", positions.join(","));
  return JSON.parse(await runNode(args, { RWKV_NATIVE: native }, node)) as number[][];
}

/** Runs `rwkv` to its end. */
export async function runCommand(args: readonly string[]): Promise<void> {
  await runNode([RWKV, ...args], {});
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
      const counted = JSON.parse(await runNode(args, {})) as Omit<Sample, "weightBytes" | "shareOfBound">;
      return { ...counted, weightBytes: null, shareOfBound: null };
    },
  };
}

/** Runs Node to its end and returns what it wrote to stdout. */
function runNode(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  node = process.execPath,
): Promise<string> {
  return runProgram(node, args, env);
}

function runProgram(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<string> {
  return new Promise((resolveRun, reject) => {
    const child = spawn(program, args, {
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
      reject(new Error(`${basename(program)} ${args.join(" ")} ended with ${end}: ${message}`));
    });
  });
}

/** One line. */
export function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).replaceAll("\n", " ");
}
