// The worker's side: an engine that does what the page asks, slot by slot and step by step.

import { UsageError } from "../../core/errors.ts";
import type { Logger } from "../../core/logger.ts";
import type { Platform } from "../../core/platform.ts";
import type { Port } from "../../core/port.ts";
import type { Program } from "../../ops/backend.ts";
import { loadParts, type LoadedParts } from "../load.ts";
import { fileOf } from "../tokenizer.ts";
import { Channel, type Answer } from "./channel.ts";
import type { EngineCalls, LoadReply, LoadRequest, PageCalls, ProgramFacts } from "./calls.ts";
import { receivedFile } from "./files.ts";
import { ServedProgram } from "./served-program.ts";

/** Serves one model to whoever is at the other end, until that ends this thread. */
export function serveEngine(platform: Platform, port: Port): void {
  const programs = new Map<number, ServedProgram>();
  let nPrograms = 0;
  /** What to load again; null where the device cannot be lost. */
  let request: LoadRequest | null = null;

  const serve = (parts: LoadedParts): Answer<LoadReply> => {
    const number = nPrograms++;
    programs.set(number, new ServedProgram(parts.loaded.program));
    return loadReply(parts, number);
  };

  /** Lets a program do what is asked of it. The page hears of its loss before the error that comes of it. */
  const on = async <Value>(
    number: number,
    work: (served: ServedProgram) => Value | Promise<Value>,
  ): Promise<Value> => {
    const served = programs.get(number);
    if (served === undefined) {
      throw new UsageError("the program was disposed: the model has been reloaded since.");
    }
    try {
      return await work(served);
    } catch (error) {
      if (programs.has(number) && served.program.isLost === true) channel.tell("lost", number);
      throw error;
    }
  };
  const done = async (
    number: number,
    work: (served: ServedProgram) => void | Promise<void>,
  ): Promise<Answer<undefined>> => {
    await on(number, work);
    return { value: undefined };
  };

  const channel: Channel<PageCalls, EngineCalls> = new Channel<PageCalls, EngineCalls>(port, {
    async load(asked, signal) {
      const parts = await load(platform, channel, asked, signal);
      // A file in memory must not be kept where it is not needed again.
      if (parts.loaded.program.isLost !== undefined) request = asked;
      return serve(parts);
    },
    reload: ({ program, wantsProgress }, signal) =>
      on<Answer<LoadReply | null>>(program, async (served) => {
        if (request === null || served.program.isLost !== true) return { value: null };
        return serve(await load(platform, channel, { ...request, tokenizer: null, wantsProgress }, signal));
      }),
    dispose: (program) =>
      done(program, (served) => {
        programs.delete(program);
        served.program.dispose();
      }),
    createSlot: ({ program, slot, copyOf }) => done(program, (served) => served.createSlot(slot, copyOf)),
    releaseSlot: ({ program, slot }) => done(program, (served) => served.releaseSlot(slot)),
    resetSlot: ({ program, slot }) =>
      done(program, (served) => served.program.resetSlot(served.slotOf(slot))),
    copySlot: ({ program, slot, from }) =>
      done(program, (served) => served.program.copySlot(served.slotOf(slot), served.slotOf(from))),
    readSlot: ({ program, slot }) =>
      on(program, async (served) => moved(await served.program.readSlot(served.slotOf(slot)))),
    writeSlot: ({ program, slot, values }) =>
      done(program, (served) => served.program.writeSlot(served.slotOf(slot), values)),
    readLogits: ({ program, slot }) => on(program, async (served) => moved(await served.readLogits(slot))),
    step: ({ program, runs, inputs }, signal) =>
      on(program, async (served) => {
        const logits = await served.step(runs, inputs, { signal });
        return { value: { logits, zeroInputs: served.program.zeroInputs() }, transfer: [logits.buffer] };
      }),
  });
}

/** Memory that nobody here needs any longer. */
function moved(values: Float32Array): Answer<Float32Array> {
  return { value: values, transfer: [values.buffer as ArrayBuffer] };
}

function load(
  platform: Platform,
  channel: Channel<PageCalls, EngineCalls>,
  { file, options, lora, tokenizer, wantsProgress }: LoadRequest,
  signal: AbortSignal,
): Promise<LoadedParts> {
  const tell = (level: keyof Logger) => (message: string) => channel.tell("log", { level, message });
  return loadParts(platform, file && receivedFile(file, channel), {
    ...options,
    signal,
    lora: lora && { file: receivedFile(lora.file, channel), alpha: lora.alpha },
    tokenizer: tokenizer && receivedFile(tokenizer, channel),
    logger: { debug: tell("debug"), info: tell("info"), warn: tell("warn") },
    onProgress: wantsProgress ? (progress) => channel.tell("progress", progress) : undefined,
  });
}

/** What the page makes a model of. The tables of rows move over to it. */
function loadReply(
  { loaded, tokenizer, info, chatTemplate }: LoadedParts,
  number: number,
): Answer<LoadReply> {
  const { config, inputWidths, initialState, embedding, positions, program } = loaded;
  // Only files of a local disk are looked up row by row, and a worker has none.
  const bytes = embedding.bytes!;
  const transfer = [bytes.buffer];
  if (positions !== null) transfer.push(positions.columns.buffer, positions.rows.buffer);
  return {
    transfer,
    value: {
      info: { ...info, isInWorker: true },
      config,
      chatTemplate,
      tokenizer: tokenizer && { kind: tokenizer.tokenizer.kind, file: fileOf(tokenizer) },
      inputWidths,
      initialState,
      embedding: { dtype: embedding.dtype, bytes },
      positions: positions && { columns: positions.columns, rows: positions.rows },
      program: factsOf(program, number),
    },
  };
}

function factsOf(program: Program, number: number): ProgramFacts {
  const { weightByteLength, stateElements, maxRows, isLost, hasShortlists = false } = program;
  return {
    number,
    canBeLost: isLost !== undefined,
    hasShortlists,
    weightByteLength,
    stateElements,
    maxRows,
    zeroInputs: program.zeroInputs(),
  };
}
