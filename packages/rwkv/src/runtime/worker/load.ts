// The page's side of a model in a worker: the worker loads it, the page makes a model of what comes back.

import { UnsupportedError } from "../../core/errors.ts";
import { SILENT_LOGGER } from "../../core/logger.ts";
import type { Platform } from "../../core/platform.ts";
import { portOf, type EngineWorker, type Port } from "../../core/port.ts";
import type { LoadedProgram } from "../../model/load.ts";
import { embeddingTable, positionTable } from "../../model/embedding.ts";
import { createByteTokenizer } from "../../tokenizer/bytes.ts";
import { openTokenizer } from "../../tokenizer/open.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { Engine } from "../engine.ts";
import type { LoadOptions } from "../load.ts";
import { Model } from "../model.ts";
import type { FileSource } from "../source.ts";
import { checkFits, isTokenizer } from "../tokenizer.ts";
import { Channel } from "./channel.ts";
import type { EngineCalls, LoadReply, PageCalls } from "./calls.ts";
import { SharedSources } from "./files.ts";
import { WorkerProgram } from "./program.ts";

/**
 * As `loadModel`, with the engine in a worker.
 * @throws UnsupportedError where the platform has no such workers
 * @throws DeviceError if the worker cannot be started
 */
export async function loadInWorker(
  platform: Platform,
  file: FileSource | undefined,
  worker: true | EngineWorker,
  { tokenizer, lora, signal, onProgress, logger = SILENT_LOGGER, ...options }: Omit<LoadOptions, "worker">,
): Promise<Model> {
  signal?.throwIfAborted();
  const hasOwn = tokenizer !== undefined && isTokenizer(tokenizer);
  const ownTokenizer = hasOwn ? tokenizer : null;
  const tokenizerFile = hasOwn ? null : tokenizer;
  const sources = new SharedSources();
  const failing = new AbortController();
  const ending = signal === undefined ? failing.signal : AbortSignal.any([signal, failing.signal]);
  const channel = new Channel<EngineCalls, PageCalls>(startEngine(platform, worker), {
    ...sources.handlers,
    progress: (progress) => {
      try {
        onProgress?.(progress);
      } catch (error) {
        failing.abort(error);
      }
      return { value: undefined };
    },
    log: ({ level, message }) => {
      logger[level](message);
      return { value: undefined };
    },
  });
  try {
    const reply = await channel.call(
      "load",
      {
        file: file === undefined ? undefined : sources.message(file),
        options,
        lora: lora && { file: sources.message(lora.file), alpha: lora.alpha },
        tokenizer:
          tokenizerFile === undefined || tokenizerFile === null
            ? tokenizerFile
            : sources.message(tokenizerFile),
        wantsProgress: onProgress !== undefined,
      },
      { signal: ending },
    );
    // The worker may have been done before it heard.
    ending.throwIfAborted();
    const { info } = reply;
    if (ownTokenizer !== null) checkFits(ownTokenizer, info.name, reply.config.nVocab);
    const engine = new Engine({
      name: info.name,
      loaded: loadedProgram(reply, new WorkerProgram(channel, reply.program)),
      fingerprint: info.fingerprint,
      tokenizer: ownTokenizer ?? (await receivedTokenizer(reply)),
    });
    return new Model(engine, info, reply.chatTemplate, platform, null);
  } catch (error) {
    channel.close(new Error("The model was not loaded.", { cause: error }));
    throw error;
  }
}

function startEngine({ startEngine: start }: Platform, worker: true | EngineWorker): Port {
  if (worker !== true) return portOf(worker);
  if (start !== undefined) return start();
  throw new UnsupportedError(
    "`worker` is for browsers. Here steps are computed on threads of their own, and nothing waits for them: leave it out.",
  );
}

function loadedProgram(
  { config, inputWidths, initialState, embedding, positions }: LoadReply,
  program: WorkerProgram,
): LoadedProgram {
  const { nVocab, nEmbd, positions: nPositions } = config;
  return {
    program,
    config,
    inputWidths,
    initialState,
    embedding: embeddingTable(nVocab, nEmbd, embedding.dtype, embedding.bytes),
    positions: positions && positionTable(nPositions, nEmbd, positions.columns, positions.rows),
  };
}

async function receivedTokenizer({ info, tokenizer }: LoadReply): Promise<Tokenizer | null> {
  if (tokenizer === null) return null;
  return tokenizer.file === null ? createByteTokenizer() : openTokenizer(tokenizer.file, info.name);
}
