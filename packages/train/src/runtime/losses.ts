// The losses of a training, one line of JSON per step in a file beside the checkpoint. After a restart the lines behind
// the checkpoint are cut off: those steps are done again.

import { appendFileSync, existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { atomicFile } from "rwkv";

export interface LossLine {
  /** From 1. */
  readonly step: number;
  /** Read in all, this step included. */
  readonly nTokens: number;
  /** Mean cross-entropy of the step's targets, in nats. */
  readonly loss: number;
  /** Of the gradient, before it is clipped. */
  readonly norm: number;
  readonly rate: number;
}

export interface LossFile {
  readonly lines: readonly LossLine[];
  append(line: LossLine): void;
}

/** @param nSteps - lines to keep */
export async function openLosses(path: string, nSteps: number): Promise<LossFile> {
  const lines = nSteps === 0 ? [] : (await readLines(path)).slice(0, nSteps);
  const file = await atomicFile(path);
  try {
    await file.write(new TextEncoder().encode(lines.map((line) => `${JSON.stringify(line)}\n`).join("")));
    await file.commit();
  } finally {
    await file.discard();
  }
  return {
    lines,
    append(line) {
      lines.push(line);
      appendFileSync(path, `${JSON.stringify(line)}\n`);
    },
  };
}

/** Whole lines; one that was cut off by a sudden end is left out. */
async function readLines(path: string): Promise<LossLine[]> {
  if (!existsSync(path)) return [];
  const text = await readFile(path, "utf8");
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  return whole
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as LossLine);
}
