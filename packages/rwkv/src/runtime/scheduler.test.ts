import { expect, test } from "vitest";
import type { Program, Run } from "../ops/backend.ts";
import { Scheduler, type Job } from "./scheduler.ts";

const N_VOCAB = 3;

/** A program that writes down the runs of each step, and whose logits tell slot and row. */
function recordingProgram(maxRows: number): { program: Program; steps: (readonly Run[])[] } {
  const steps: (readonly Run[])[] = [];
  const step = (runs: readonly Run[], inputs: readonly Float32Array[]): Promise<Float32Array> => {
    steps.push(runs.map((run) => ({ ...run })));
    const logits: number[] = [];
    let row = 0;
    for (const { slot, nRows, logits: wanted } of runs) {
      for (let i = 0; i < nRows; i++, row++) {
        const isWanted = wanted === "all" || (wanted === "last" && i === nRows - 1);
        if (isWanted) logits.push(slot, inputs[0]![row]!, 0);
      }
    }
    return Promise.resolve(Float32Array.from(logits));
  };
  const program: Partial<Program> = { maxRows, step };
  return { program: program as Program, steps };
}

/** Submits a job and gives what it left in its target. */
async function read(scheduler: Scheduler, wanted: Job): Promise<Float32Array> {
  await scheduler.submit(wanted);
  return wanted.target;
}

function job(slot: number, nRows: number, options: Partial<Job> = {}): Job {
  return {
    slot,
    nRows,
    logits: "last",
    target: new Float32Array(N_VOCAB * (options.logits === "all" ? nRows : 1)),
    signal: undefined,
    fillRows: (inputs, targetRow, first, n) => {
      for (let i = 0; i < n; i++) inputs[0]![targetRow + i] = 1000 * slot + first + i;
    },
    ...options,
  };
}

test("a job whose rows cannot be had fails alone", async () => {
  const { program, steps } = recordingProgram(16);
  const scheduler = new Scheduler(program, N_VOCAB, [1]);
  const fillRows = (): void => {
    throw new Error("no such row");
  };
  const failing = read(scheduler, job(1, 3, { fillRows }));
  const other = read(scheduler, job(2, 2));
  await expect(failing).rejects.toThrow("no such row");
  expect([...(await other)]).toEqual([2, 2001, 0]);
  await expect(read(scheduler, job(1, 3, { fillRows }))).rejects.toThrow("no such row");
  expect([...(await read(scheduler, job(3, 1)))]).toEqual([3, 3000, 0]);
  expect(steps.map((runs) => runs.map(({ slot }) => slot))).toEqual([[2], [3]]);
});

test("jobs that wait together share a step, and each gets its own logits", async () => {
  const { program, steps } = recordingProgram(16);
  const scheduler = new Scheduler(program, N_VOCAB, [1]);
  const all = await Promise.all([
    read(scheduler, job(1, 3)),
    read(scheduler, job(2, 1)),
    read(scheduler, job(3, 2, { logits: "all" })),
  ]);
  expect(steps).toHaveLength(1);
  expect(all.map((logits) => [...logits])).toEqual([
    [1, 1002, 0],
    [2, 2000, 0],
    [3, 3000, 0, 3, 3001, 0],
  ]);
});

test("a long prompt does not hold up one token: it gives way to an equal share", async () => {
  const { program, steps } = recordingProgram(8);
  const scheduler = new Scheduler(program, N_VOCAB, [1]);
  const order: string[] = [];
  await Promise.all([
    scheduler.submit(job(1, 50)).then(() => order.push("long")),
    scheduler.submit(job(2, 1)).then(() => order.push("short")),
    scheduler.submit(job(3, 6)).then(() => order.push("medium")),
  ]);
  expect(order).toEqual(["short", "medium", "long"]);
  expect(steps[0]!.map(({ slot, nRows }) => [slot, nRows])).toEqual([
    [2, 1],
    [3, 3],
    [1, 4],
  ]);
  expect(steps.every((runs) => runs.reduce((sum, { nRows }) => sum + nRows, 0) <= 8)).toBe(true);
});

test("more sequences than rows take turns", async () => {
  const { program, steps } = recordingProgram(4);
  const scheduler = new Scheduler(program, N_VOCAB, [1]);
  const jobs = Array.from({ length: 10 }, (_, slot) => scheduler.submit(job(slot, 3)));
  await Promise.all(jobs);
  const served = new Set(steps.slice(0, 3).flatMap((runs) => runs.map(({ slot }) => slot)));
  expect(served.size).toBe(10);
});

test("logits of unfinished prompts are not asked for", async () => {
  const { program, steps } = recordingProgram(4);
  const scheduler = new Scheduler(program, N_VOCAB, [1]);
  await read(scheduler, job(1, 10));
  expect(steps.map((runs) => runs[0]!.logits)).toEqual(["none", "none", "last"]);
});

test("an aborted job leaves the queue, the others go on", async () => {
  const { program } = recordingProgram(4);
  const scheduler = new Scheduler(program, N_VOCAB, [1]);
  const controller = new AbortController();
  const reason = new Error("enough");
  const aborted = scheduler.submit(
    job(1, 100, {
      signal: controller.signal,
      onRows: (rows) => {
        if (rows >= 8) controller.abort(reason);
      },
    }),
  );
  const other = read(scheduler, job(2, 20));
  await expect(aborted).rejects.toBe(reason);
  expect([...(await other)]).toEqual([2, 2019, 0]);
});

test("a failed step fails its jobs only, and a closed scheduler all", async () => {
  const boom = new Error("boom");
  const { program } = recordingProgram(4);
  let isBroken = true;
  const step: Program["step"] = (runs, inputs) =>
    isBroken ? Promise.reject(boom) : program.step(runs, inputs);
  const scheduler = new Scheduler({ ...program, step }, N_VOCAB, [1]);
  await expect(read(scheduler, job(1, 2))).rejects.toBe(boom);
  isBroken = false;
  expect(await read(scheduler, job(1, 2))).toHaveLength(N_VOCAB);
  scheduler.close(boom);
  await expect(read(scheduler, job(1, 2))).rejects.toBe(boom);
});
