// Shared test data, which lies beside the checkout: logits and states of official packages, files of other programs.

import { existsSync, readFileSync } from "node:fs";
import { bytesSource, type ByteSource } from "../../packages/rwkv/src/core/byte-source.ts";

/** A fresh clone does not have it. */
export const FIXTURES = new URL("../../../shared/fixtures/", import.meta.url);

/** Whether a fixture is there; says so where it is not, so that nothing is skipped in silence. */
export function hasFixture(path: string): boolean {
  const isThere = existsSync(new URL(path, FIXTURES));
  if (!isThere) process.stderr.write(`skipped: shared/fixtures/${path} is not beside this checkout\n`);
  return isThere;
}

export function readBytes(path: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(path, FIXTURES)));
}

export function openFixture(path: string): ByteSource {
  return bytesSource(readBytes(path), path);
}

export function readJson(path: string): unknown {
  return JSON.parse(readFileSync(new URL(path, FIXTURES), "utf8"));
}

export function readF32(path: string): Float32Array {
  return new Float32Array(readBytes(path).slice().buffer);
}
