// All threads of a training behind one interface: one thread is the caller's own, several are workers. Hides messages,
// and adds what the threads return in their order.

import { createRequire } from "node:module";
import { Worker } from "node:worker_threads";
import { DeviceError } from "rwkv";
import type { KernelName } from "../kernels/load.ts";
import type { KernelModule, Numbers } from "../kernels/kernels.ts";
import { answer, type Answer, type Reply, type Request, type WorkerStart } from "./protocol.ts";
import type { TrainBlocks, TrainPlan } from "./setup.ts";
import { createShare, type Sequence, type UpdateOptions } from "./share.ts";

export interface Crew {
  /**
   * One batch forward and backward; a slot always belongs to the same thread.
   * @returns the weighted sum of losses
   */
  accumulate(sequences: readonly Sequence[], weight: number): Promise<number>;
  /** @returns the sum of the losses */
  evaluate(sequences: readonly Sequence[]): Promise<number>;
  /** Sums the gradients of the threads. @returns the sum of squares of all of them */
  reduce(): Promise<number>;
  update(options: UpdateOptions): Promise<void>;
  readStates(): Promise<ReadonlyMap<number, Numbers>>;
  writeStates(states: ReadonlyMap<number, Numbers>): Promise<void>;
  close(): Promise<void>;
}

export interface CrewOptions {
  readonly plan: TrainPlan;
  readonly blocks: TrainBlocks;
  readonly kernels: KernelModule;
  /** By which workers load the same kernels. */
  readonly kernelName: KernelName;
}

/** One thread's end of the conversation. */
interface Member {
  ask(request: Request): Promise<Answer>;
  close(): Promise<void>;
}

/** @throws DeviceError if a worker cannot start */
export async function startCrew(options: CrewOptions): Promise<Crew> {
  const { nThreads } = options.plan.setup;
  const members = nThreads === 1 ? [ownThread(options)] : await startWorkers(options, nThreads);

  const askAll = (request: (thread: number) => Request): Promise<unknown[]> =>
    Promise.all(members.map((member, thread) => member.ask(request(thread))));
  const sum = (values: readonly unknown[]): number =>
    (values as number[]).reduce((total, value) => total + value, 0);
  const sharesOf = (sequences: readonly Sequence[]): Sequence[][] =>
    members.map((_, thread) => sequences.filter(({ slot }) => slot % nThreads === thread));

  return {
    async accumulate(sequences, weight) {
      const shares = sharesOf(sequences);
      return sum(await askAll((thread) => ({ kind: "accumulate", sequences: shares[thread]!, weight })));
    },
    async evaluate(sequences) {
      const shares = sharesOf(sequences);
      return sum(await askAll((thread) => ({ kind: "evaluate", sequences: shares[thread]! })));
    },
    reduce: async () => sum(await askAll(() => ({ kind: "reduce" }))),
    async update(update) {
      await askAll(() => ({ kind: "update", options: update }));
    },
    async readStates() {
      const parts = (await askAll(() => ({ kind: "readStates" }))) as ReadonlyMap<number, Numbers>[];
      return new Map(parts.flatMap((part) => [...part]).sort(([a], [b]) => a - b));
    },
    async writeStates(states) {
      const partOf = (thread: number): ReadonlyMap<number, Numbers> =>
        new Map([...states].filter(([slot]) => slot % nThreads === thread));
      await askAll((thread) => ({ kind: "writeStates", states: partOf(thread) }));
    },
    async close() {
      await Promise.all(members.map((member) => member.close()));
    },
  };
}

function ownThread({ plan, blocks, kernels }: CrewOptions): Member {
  const share = createShare(plan, blocks, kernels, 0);
  return {
    // a turn of the event loop, so that signals and timers are heard between two requests
    ask: (request) => new Promise((resolve) => setImmediate(resolve)).then(() => answer(share, request)),
    close: () => Promise.resolve(),
  };
}

async function startWorkers(options: CrewOptions, nThreads: number): Promise<Member[]> {
  const members = Array.from({ length: nThreads }, (_, thread) => startWorker(options, thread));
  try {
    return await Promise.all(members);
  } catch (error) {
    for (const started of await Promise.allSettled(members)) {
      if (started.status === "fulfilled") await started.value.close();
    }
    throw error;
  }
}

async function startWorker({ plan, blocks, kernelName }: CrewOptions, thread: number): Promise<Member> {
  const start: WorkerStart = { setup: plan.setup, kernels: kernelName, memory: blocks.memory, thread };
  const path = createRequire(import.meta.url).resolve("rwkv-train/worker");
  const worker = new Worker(path, { workerData: start, name: `train ${thread}` });
  let waiting: { resolve: (reply: Reply) => void; reject: (cause: unknown) => void } | null = null;
  const fail = (cause: unknown): void => {
    const error = new DeviceError(
      `thread ${thread} of the training has ended. If memory is short, use fewer threads or fewer rows at a time.`,
      { cause },
    );
    waiting?.reject(error);
    waiting = null;
  };
  worker.on("message", (reply: Reply) => {
    waiting?.resolve(reply);
    waiting = null;
  });
  worker.on("error", fail);
  worker.on("exit", (code) => fail(new Error(`exit code ${code}`)));
  const receive = (): Promise<Reply> =>
    new Promise((resolve, reject) => {
      waiting = { resolve, reject };
    });
  const value = (reply: Reply): Answer => {
    if (reply.kind === "failed") throw reply.error;
    return reply.value;
  };
  value(await receive());
  return {
    async ask(request) {
      const reply = receive();
      worker.postMessage(request);
      return value(await reply);
    },
    async close() {
      await worker.terminate();
    },
  };
}
