// The worker's side: an engine that does what the page asks, slot by slot and step by step.

import type { Logger } from "../../core/logger.ts";
import type { Platform } from "../../core/platform.ts";
import type { Port } from "../../core/port.ts";
import type { LoadedProgram } from "../../model/load.ts";
import type { Program } from "../../ops/backend.ts";
import { loadParts, type LoadedParts } from "../load.ts";
import { fileOf } from "../tokenizer.ts";
import { Channel, type Answer } from "./channel.ts";
import type { EngineCalls, LoadReply, LoadRequest, PageCalls, ProgramFacts } from "./calls.ts";
import { receivedFile } from "./files.ts";

/** A slot of the program, or why there is none. */
type Slot = { readonly number: number } | { readonly error: unknown };

/** Serves one engine to whoever is at the other end, until that ends this thread. */
export function serveEngine(platform: Platform, port: Port): void {
  let program: Program;
  const slots = new Map<number, Slot>();
  const slotOf = (slot: number): number => {
    const found = slots.get(slot)!;
    if ("error" in found) throw found.error;
    return found.number;
  };

  const channel: Channel<PageCalls, EngineCalls> = new Channel<PageCalls, EngineCalls>(port, {
    async load(request, signal) {
      const parts = await load(platform, channel, request, signal);
      ({ program } = parts.loaded);
      return loadReply(parts);
    },
    createSlot({ slot, copyOf }) {
      try {
        slots.set(slot, { number: program.createSlot(copyOf === undefined ? undefined : slotOf(copyOf)) });
      } catch (error) {
        slots.set(slot, { error });
        throw error;
      }
      return DONE;
    },
    releaseSlot(slot) {
      const found = slots.get(slot)!;
      slots.delete(slot);
      if ("number" in found) program.releaseSlot(found.number);
      return DONE;
    },
    async resetSlot(slot) {
      await program.resetSlot(slotOf(slot));
      return DONE;
    },
    async copySlot({ to, from }) {
      await program.copySlot(slotOf(to), slotOf(from));
      return DONE;
    },
    async readSlot(slot) {
      return moved(await program.readSlot(slotOf(slot)));
    },
    async writeSlot({ slot, values }) {
      await program.writeSlot(slotOf(slot), values);
      return DONE;
    },
    async step({ runs, inputs }, signal) {
      const own = runs.map((run) => ({ ...run, slot: slotOf(run.slot) }));
      const logits = (await program.step(own, inputs, { signal })).slice();
      return { value: { logits, zeroInputs: program.zeroInputs() }, transfer: [logits.buffer] };
    },
  });
}

const DONE: Answer<undefined> = { value: undefined };

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
function loadReply({ loaded, tokenizer, info, chatTemplate }: LoadedParts): Answer<LoadReply> {
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
      program: factsOf(program),
    },
  };
}

function factsOf(program: LoadedProgram["program"]): ProgramFacts {
  const { weightByteLength, stateElements, maxRows } = program;
  return { weightByteLength, stateElements, maxRows, zeroInputs: program.zeroInputs() };
}
