// Holds a backend to a folder of golden files: logits and final state of the official package, token by token, in chunks and
// beside other sequences. Knows of no test framework and no file system, so that pages of a browser run it too.

import { bytesSource, type ByteSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { tunedState } from "../../packages/rwkv/src/model/tuned-state.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";
import { expectClose, runBesideOthers, runTokens } from "./run-model.ts";

export interface Manifest {
  readonly version: string;
  readonly config: Readonly<Record<string, number>>;
  readonly model: { readonly file: string };
  readonly time_state?: { readonly file: string };
  readonly tolerance: { readonly logits_f32_max_abs: number; readonly state_f32_max_abs: number };
}

export interface Golden {
  readonly manifest: Manifest;
  readonly model: ByteSource;
  /** A tuned state to begin with. */
  readonly timeState: ByteSource | null;
  readonly tokens: readonly number[];
  /** `[tokens, V]` */
  readonly logits: Float32Array;
  readonly state: Float32Array;
}

/** @param read - gives the bytes of a file of the folder */
export async function readGolden(read: (file: string) => Promise<Uint8Array>): Promise<Golden> {
  const json = async (file: string): Promise<unknown> =>
    JSON.parse(new TextDecoder().decode(await read(file)));
  const f32 = async (file: string): Promise<Float32Array> =>
    new Float32Array((await read(file)).slice().buffer);
  const source = async (file: string): Promise<ByteSource> => bytesSource(await read(file), file);
  const manifest = (await json("manifest.json")) as Manifest;
  return {
    manifest,
    model: await source(manifest.model.file),
    timeState: manifest.time_state === undefined ? null : await source(manifest.time_state.file),
    tokens: (await json("tokens.json")) as number[],
    logits: await f32("logits.f32"),
    state: await f32("state.f32"),
  };
}

/** Rows per step in which the tokens are read once more, by themselves and beside other sequences. */
export interface Chunks {
  readonly alone: readonly number[];
  readonly beside: readonly number[];
}

export const ALL_CHUNKS: Chunks = { alone: [3, 7, 64], beside: [1, 7] };
/** Where every step takes long. */
export const FEW_CHUNKS: Chunks = { alone: [7, 64], beside: [7] };

/** @throws Error that names the place where logits or states are wrong, or differ between chunks */
export async function checkGolden(backend: Backend, golden: Golden, chunks = ALL_CHUNKS): Promise<void> {
  const { manifest, tokens } = golden;
  const weights = canonicalWeights(await openCheckpoint(golden.model));
  const loaded = await loadProgram(backend, weights, { maxRows: 96 });
  try {
    const initialState =
      golden.timeState === null
        ? loaded.initialState
        : await tunedState(await openCheckpoint(golden.timeState), loaded.config);
    const single = await runTokens(loaded, tokens, 1, initialState);
    expectClose("logits", single.logits, golden.logits, manifest.tolerance.logits_f32_max_abs);
    expectClose("state", single.state, golden.state, manifest.tolerance.state_f32_max_abs);
    for (const chunk of chunks.alone) {
      const chunked = await runTokens(loaded, tokens, chunk, initialState);
      expectClose(`logits in chunks of ${chunk}`, chunked.logits, single.logits, 0);
      expectClose(`state in chunks of ${chunk}`, chunked.state, single.state, 0);
    }
    for (const chunk of chunks.beside) {
      const beside = await runBesideOthers(loaded, tokens, chunk, initialState);
      expectClose(`logits beside others, chunks of ${chunk}`, beside.logits, single.logits, 0);
      expectClose(`state beside others, chunks of ${chunk}`, beside.state, single.state, 0);
    }
  } finally {
    loaded.program.dispose();
  }
}
