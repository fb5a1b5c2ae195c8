// The page's side of a model in a worker: the worker loads it, the page makes a model of what comes back.

import { UnsupportedError, UsageError } from "../../core/errors.ts";
import { SILENT_LOGGER } from "../../core/logger.ts";
import type { Platform } from "../../core/platform.ts";
import { portOf, type EngineWorker, type Port } from "../../core/port.ts";
import type { LoadedProgram } from "../../model/load.ts";
import { embeddingTable, positionTable } from "../../model/embedding.ts";
import { createByteTokenizer } from "../../tokenizer/bytes.ts";
import { openTokenizer } from "../../tokenizer/open.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { Engine, free } from "../engine.ts";
import type { LoadOptions } from "../load.ts";
import { Model, type LoadAgain, type ReloadOptions } from "../model.ts";
import type { LoadProgress } from "../progress.ts";
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
  const hearing = new Hearing();
  const channel = new Channel<EngineCalls, PageCalls>(startEngine(platform, worker), {
    ...sources.handlers,
    progress: (progress) => {
      hearing.hear(progress);
      return { value: undefined };
    },
    log: ({ level, message }) => {
      logger[level](message);
      return { value: undefined };
    },
    lost: (number) => {
      programs.get(number)?.lose();
      return { value: undefined };
    },
  });
  /** What the page has of the worker's programs: one, or two while the model is loaded again. */
  const programs = new Map<number, WorkerProgram>();
  const received = (reply: LoadReply): LoadedProgram => {
    const { number } = reply.program;
    const program = new WorkerProgram(channel, reply.program, () => {
      programs.delete(number);
      if (programs.size > 0) channel.tell("dispose", number);
      else channel.close(new UsageError("The model has been disposed. Load it again to go on."));
    });
    programs.set(number, program);
    return loadedProgram(reply, program);
  };
  const loadAgain: LoadAgain = async (again) => {
    const ending = hearing.begin(again);
    const [program] = programs.keys();
    const wantsProgress = again.onProgress !== undefined;
    const reply = await channel.call("reload", { program: program!, wantsProgress }, { signal: ending });
    if (reply === null) return null;
    const loaded = received(reply);
    // The worker may have been done before it heard.
    if (ending.aborted) {
      free(loaded);
      throw ending.reason;
    }
    return { loaded, info: reply.info };
  };
  try {
    const ending = hearing.begin({ signal, onProgress });
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
    ending.throwIfAborted(); // for the same reason
    const { info } = reply;
    if (ownTokenizer !== null) checkFits(ownTokenizer, info.name, reply.config.nVocab);
    const engine = new Engine({
      name: info.name,
      loaded: received(reply),
      fingerprint: info.fingerprint,
      tokenizer: ownTokenizer ?? (await receivedTokenizer(reply)),
    });
    return new Model(engine, info, reply.chatTemplate, platform, loadAgain);
  } catch (error) {
    channel.close(new Error("The model was not loaded.", { cause: error }));
    throw error;
  }
}

/** Who hears of the progress of the load that goes on. */
class Hearing {
  hear: (progress: LoadProgress) => void = () => undefined;

  /** The signal that ends the load: that of the options, or of a failure of `onProgress`. */
  begin({ signal, onProgress }: ReloadOptions): AbortSignal {
    const failing = new AbortController();
    this.hear = (progress) => {
      try {
        onProgress?.(progress);
      } catch (error) {
        failing.abort(error);
      }
    };
    return signal === undefined ? failing.signal : AbortSignal.any([signal, failing.signal]);
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
