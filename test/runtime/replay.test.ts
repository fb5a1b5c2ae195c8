// Sequences whose device is lost, on a backend that loses nothing by itself.

import { expect, test } from "vitest";
import { checkpointOf, SIZES, syntheticModel } from "../golden/synthetic.ts";
import { createCpuBackend } from "../../packages/rwkv/src/backends/cpu/cpu.ts";
import { loadProgram, type LoadedProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import type { Program } from "../../packages/rwkv/src/ops/backend.ts";
import { Engine } from "../../packages/rwkv/src/runtime/engine.ts";
import { Sequence } from "../../packages/rwkv/src/runtime/sequence.ts";

/** As many states read as `nReads` says, by a program that can be lost. */
interface Losable extends Program {
  isLost: boolean;
  nReads: number;
}

async function load(): Promise<{ readonly loaded: LoadedProgram; readonly program: Losable }> {
  const weights = canonicalWeights(checkpointOf(syntheticModel("7", SIZES)));
  const loaded = await loadProgram(await createCpuBackend({ threads: 1 }), weights, { maxRows: 64 });
  const { program: own } = loaded;
  const program: Losable = {
    isLost: false,
    nReads: 0,
    weightByteLength: own.weightByteLength,
    stateElements: own.stateElements,
    maxRows: own.maxRows,
    createSlot: (copyOf) => own.createSlot(copyOf),
    releaseSlot: (slot) => own.releaseSlot(slot),
    resetSlot: (slot) => own.resetSlot(slot),
    copySlot: (to, from) => own.copySlot(to, from),
    readSlot(slot) {
      this.nReads += 1;
      return own.readSlot(slot);
    },
    writeSlot: (slot, values) => own.writeSlot(slot, values),
    step: (runs, inputs, options) => own.step(runs, inputs, options),
    zeroInputs: () => own.zeroInputs(),
    dispose: () => own.dispose(),
  };
  return { loaded: { ...loaded, program }, program };
}

const tokensOf = (n: number): number[] => Array.from({ length: n }, (_, i) => (i * 7) % SIZES.nVocab);

test("a sequence, and its fork, go on after a reload with the same bits", async () => {
  const { loaded } = await load();
  const engine = new Engine({ name: "model", loaded, fingerprint: "", tokenizer: null });
  const undisturbed = await Sequence.create(engine, null);
  const sequence = await Sequence.create(engine, null);
  const prompt = tokensOf(70);
  const rows = Float32Array.from({ length: 3 * SIZES.nEmbd }, (_, i) => Math.sin(i));
  for (const one of [undisturbed, sequence]) {
    await one.read(prompt, {});
    await one.read(rows, {});
    one.accept(5);
    await one.settle();
    one.accept(6);
  }
  prompt.fill(0); // what was read is not to change with the caller's arrays
  rows.fill(0);
  const fork = sequence.fork();
  const want = (await undisturbed.forward([1, 2], "all", {})).slice();
  const wantState = await undisturbed.readState();
  engine.replace((await load()).loaded);
  for (const one of [sequence, fork]) {
    expect(await one.forward([1, 2], "all", {})).toEqual(want);
    expect(await one.readState()).toEqual(wantState);
  }
  engine.dispose();
});

test("a fork of a sequence that has not gone on yet does so by itself", async () => {
  const engine = new Engine({
    name: "model",
    loaded: (await load()).loaded,
    fingerprint: "",
    tokenizer: null,
  });
  const sequence = await Sequence.create(engine, null);
  await sequence.read(tokensOf(9), {});
  const want = (await sequence.fork().forward([3], "last", {})).slice();
  engine.replace((await load()).loaded);
  const fork = sequence.fork();
  sequence.release();
  expect(await fork.forward([3], "last", {})).toEqual(want);
  engine.dispose();
});

test("of a long text the state is copied now and then, and only what follows is read again", async () => {
  const { loaded, program } = await load();
  const engine = new Engine({ name: "model", loaded, fingerprint: "", tokenizer: null });
  const sequence = await Sequence.create(engine, null);
  await sequence.read(tokensOf(5000), {});
  expect(program.nReads).toBe(0);
  await sequence.read(tokensOf(20), {});
  expect(program.nReads).toBe(1);
  const want = (await sequence.fork().forward([3], "last", {})).slice();
  const after = await load();
  let nRows = 0;
  engine.replace({
    ...after.loaded,
    program: {
      ...after.program,
      step: (runs, inputs, options) => {
        for (const run of runs) nRows += run.nRows;
        return after.program.step(runs, inputs, options);
      },
    },
  });
  expect(await sequence.forward([3], "last", {})).toEqual(want);
  expect(nRows).toBeLessThan(25);
  engine.dispose();
});
