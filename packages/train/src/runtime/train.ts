// A training from its configuration to its result: reads, begins or goes on, steps, saves. Hides the order of files on
// the disk, so that it may be ended at any moment and started again.

import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadTokenizer, modelTokenizer, UsageError, type Tokenizer } from "rwkv";
import { createBatches, type Batches } from "../data/batches.ts";
import { readDocuments, type Documents } from "../data/documents.ts";
import { loadKernels } from "../kernels/load.ts";
import { startCrew, type Crew } from "../threads/crew.ts";
import { openBlocks, planTraining, type TrainBlocks, type TrainPlan } from "../threads/setup.ts";
import { fillBlocks, freshModelWeights, readBaseModel, type BaseModel } from "./base.ts";
import { lossChart } from "./chart.ts";
import { loadCheckpoint, saveCheckpoint, type Progress } from "./checkpoint.ts";
import { freshConfig, type TrainConfig } from "./config.ts";
import { openLosses, type LossFile, type LossLine } from "./losses.ts";
import { rateAt } from "./rate.ts";
import { writeResult } from "./result.ts";

/** What is told before the first step. */
export interface TrainStart {
  readonly nParameters: number;
  readonly nTrained: number;
  readonly nDocuments: number;
  /** In the data, counted once. */
  readonly nDataTokens: number;
  /** Steps done by an earlier run. */
  readonly resumedStep: number;
  readonly kernels: string;
  readonly memoryByteLength: number;
}

/** What is told after each step. */
export interface TrainStep extends LossLine {
  readonly plannedTokens: number;
  readonly epochs: number;
  /** Since this run began. */
  readonly tokensPerSecond: number;
  readonly remainingMs: number;
}

export interface TrainOptions {
  /** Ends the training between two steps, after a checkpoint. */
  readonly signal?: AbortSignal | undefined;
  readonly onStart?: ((start: TrainStart) => void) | undefined;
  readonly onStep?: ((step: TrainStep) => void) | undefined;
}

export interface TrainResult {
  /** The model, the adapters or the state, as safetensors. */
  readonly path: string;
  readonly chartPath: string;
  readonly losses: readonly LossLine[];
}

/**
 * Trains as the configuration says, from the checkpoint in its folder if there is one.
 * @throws UsageError if something in the configuration does not fit the files
 * @throws the signal's reason if aborted; the same call then goes on from there
 */
export async function train(config: TrainConfig, options: TrainOptions = {}): Promise<TrainResult> {
  const { signal } = options;
  const { tokenizer, base } = await readModel(config, signal);
  const documents = await readDocuments(config.files, {
    tokenizer,
    answersOnly: config.answersOnly,
    signal,
  });
  const plan = planTraining({
    config: base.config,
    parts: config.parts,
    limits: { maxRows: config.rowsAtOnce, maxRuns: config.batches.batch },
    nThreads: config.threads,
    pull: config.pull,
  });
  const kernels = await loadKernels(config.kernels);
  const blocks = openBlocks(plan, kernels);
  fillBlocks(base, plan.table, config.parts, blocks, config.seed);

  await mkdir(config.out, { recursive: true });
  const fingerprint = fingerprintOf(config, base, documents);
  const checkpointPath = join(config.out, "checkpoint.safetensors");
  const saved = await loadCheckpoint(checkpointPath, fingerprint, plan.table, blocks);
  const losses = await openLosses(join(config.out, "losses.jsonl"), saved?.progress.step ?? 0);
  const batches = createBatches(documents, config.batches, saved?.progress.position);
  const crew = await startCrew({ plan, blocks, kernels, kernelName: config.kernels });
  try {
    if (saved !== null) await crew.writeStates(saved.states);
    const { parameters } = plan.table;
    const count = (only: boolean): number =>
      parameters.reduce((sum, { nElements, isTrained }) => sum + (isTrained || !only ? nElements : 0), 0);
    options.onStart?.({
      nParameters: count(false),
      nTrained: count(true),
      nDocuments: documents.starts.length - 1,
      nDataTokens: documents.tokens.length,
      resumedStep: saved?.progress.step ?? 0,
      kernels: kernels.name,
      memoryByteLength: byteLengthOf(blocks),
    });
    const save = async (progress: Omit<Progress, "fingerprint" | "position">): Promise<void> => {
      const whole = { ...progress, position: batches.position(), fingerprint };
      await saveCheckpoint(checkpointPath, whole, plan.table, blocks, await crew.readStates());
    };
    await runSteps({ config, crew, batches, losses, save, from: saved?.progress }, options);
  } finally {
    await crew.close();
  }
  return finish(config, base, plan, blocks, losses);
}

async function readModel(
  config: TrainConfig,
  signal: AbortSignal | undefined,
): Promise<{ tokenizer: Tokenizer; base: BaseModel }> {
  const { model, seed } = config;
  if (typeof model === "string") {
    const base = await readBaseModel(model, signal);
    const tokenizer =
      config.tokenizer === null
        ? await modelTokenizer(model, { signal })
        : await loadTokenizer(config.tokenizer, { signal });
    checkVocabulary(tokenizer, base.config.nVocab);
    return { tokenizer, base };
  }
  const tokenizer = await loadTokenizer(config.tokenizer!, { signal });
  const nVocab = model.vocab ?? tokenizer.nVocab;
  checkVocabulary(tokenizer, nVocab);
  return { tokenizer, base: freshModelWeights(freshConfig(model, nVocab), seed) };
}

function checkVocabulary(tokenizer: Tokenizer, nVocab: number): void {
  if (tokenizer.nVocab <= nVocab) return;
  throw new UsageError(
    `The tokenizer has ids up to ${tokenizer.nVocab - 1}, but the model has rows for ${nVocab}. Give the tokenizer that ` +
      `belongs to the model, or a larger model.vocab.`,
  );
}

/** Of everything that decides on the sequence of losses; not of where files lie or how often is saved. */
function fingerprintOf(config: TrainConfig, { config: sizes }: BaseModel, documents: Documents): string {
  const { parts, model, batches, rate, optimizer, pull, tokens, threads, seed, rowsAtOnce } = config;
  const hash = createHash("sha256");
  const isFile = typeof model === "string";
  hash.update(
    JSON.stringify({ parts, sizes, isFile, batches, rate, optimizer, pull, tokens, threads, seed }),
  );
  hash.update(JSON.stringify({ rowsAtOnce }));
  const { tokens: ids, starts, learnt } = documents;
  for (const { buffer, byteOffset, byteLength } of [ids, starts, learnt ?? new Uint8Array(0)]) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest("hex");
}

interface StepContext {
  readonly config: TrainConfig;
  readonly crew: Crew;
  readonly batches: Batches;
  readonly losses: LossFile;
  readonly save: (progress: { step: number; nTokens: number }) => Promise<void>;
  readonly from: Progress | undefined;
}

async function runSteps(context: StepContext, { signal, onStep }: TrainOptions): Promise<void> {
  const { config, crew, batches, losses, save } = context;
  const { optimizer, checkpointSteps, tokens: plannedTokens } = config;
  let step = context.from?.step ?? 0;
  let nTokens = context.from?.nTokens ?? 0;
  const [firstTokens, firstMs] = [nTokens, performance.now()];
  let savedStep = step;
  while (nTokens < plannedTokens) {
    if (signal?.aborted === true) {
      if (step > savedStep) await save({ step, nTokens });
      signal.throwIfAborted();
    }
    const rate = rateAt({ ...config.rate, plannedTokens }, step, nTokens);
    const batch = batches.next();
    const loss = await crew.accumulate(batch.sequences, 1 / Math.max(1, batch.nTargets));
    const norm = Math.sqrt(await crew.reduce());
    step++;
    if (!Number.isFinite(loss + norm)) {
      throw new UsageError(
        `Step ${step}: the loss is ${loss}, the norm of its gradient ${norm}. The training has diverged: begin anew with ` +
          `a smaller rate.from.`,
      );
    }
    await crew.update({
      rate,
      beta1: optimizer.beta1,
      beta2: optimizer.beta2,
      eps: optimizer.eps,
      weightDecay: optimizer.weightDecay,
      step,
      // as PyTorch clips, with a small number against a division by zero
      gradientScale: Math.min(1, optimizer.clip / (norm + 1e-6)),
    });
    nTokens += batch.nTokens;
    const line = { step, nTokens, loss, norm, rate };
    losses.append(line);
    const tokensPerSecond = (1000 * (nTokens - firstTokens)) / (performance.now() - firstMs);
    const remainingMs = (1000 * Math.max(0, plannedTokens - nTokens)) / tokensPerSecond;
    onStep?.({ ...line, plannedTokens, epochs: batch.epochs, tokensPerSecond, remainingMs });
    if (step % checkpointSteps === 0 || nTokens >= plannedTokens) {
      await save({ step, nTokens });
      savedStep = step;
    }
  }
}

async function finish(
  config: TrainConfig,
  { config: sizes }: BaseModel,
  { table }: TrainPlan,
  blocks: TrainBlocks,
  { lines }: LossFile,
): Promise<TrainResult> {
  const result = { config: sizes, parts: config.parts, table, blocks, dtype: config.dtype };
  const path = await writeResult(config.out, result);
  const chartPath = join(config.out, "loss.svg");
  await writeFile(chartPath, lossChart(lines));
  return { path, chartPath, losses: lines };
}

function byteLengthOf({ memory }: TrainBlocks): number {
  return memory instanceof SharedArrayBuffer ? memory.byteLength : memory.buffer.byteLength;
}
