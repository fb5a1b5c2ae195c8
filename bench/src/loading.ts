// What it takes to load a file that the system has in memory, against reading the same bytes.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { runRwkv, type Kernels } from "./engines.ts";
import { spreadOf, type Spread } from "./statistics.ts";

const REPEATS = 5;
const PIECE_BYTES = 16 * 2 ** 20;

/** Milliseconds. */
export interface LoadTimes {
  readonly load: number;
  /** All bytes of the file, into memory that is new each time, as that of a model is. */
  readonly read: number;
}

/** Medians of repeated loads in one process, and of repeated reads. */
export async function measureLoad(model: string, kernels: Kernels): Promise<LoadTimes> {
  const read = readTimes(model);
  const options = { promptTokens: 1, decodeTokens: 1, threads: 1, repeat: REPEATS };
  const report = await runRwkv(model, kernels, options);
  return { load: report.load.ms.median, read: read.median };
}

function readTimes(path: string): Spread {
  const times: number[] = [];
  // The first one brings the file into memory.
  for (let i = 0; i <= REPEATS; i++) {
    const start = performance.now();
    const file = openSync(path, "r");
    try {
      const bytes = new Uint8Array(fstatSync(file).size);
      for (let done = 0; done < bytes.length;) {
        done += readSync(file, bytes, done, Math.min(PIECE_BYTES, bytes.length - done), done);
      }
    } finally {
      closeSync(file);
    }
    if (i > 0) times.push(performance.now() - start);
  }
  return spreadOf(times);
}
