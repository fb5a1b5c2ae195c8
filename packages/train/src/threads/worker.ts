// A worker of a training: opens the shared memory and answers requests until it is ended.

import { parentPort, workerData } from "node:worker_threads";
import { loadKernels } from "../kernels/load.ts";
import { answer, type Reply, type Request, type WorkerStart } from "./protocol.ts";
import { openBlocks, planTraining } from "./setup.ts";
import { createShare } from "./share.ts";

const { setup, kernels: name, memory, thread } = workerData as WorkerStart;
const port = parentPort!;

const kernels = await loadKernels(name);
const plan = planTraining(setup);
const share = createShare(plan, openBlocks(plan, kernels, memory), kernels, thread);
port.on("message", (request: Request) => {
  let reply: Reply;
  try {
    reply = { kind: "done", value: answer(share, request) };
  } catch (error) {
    reply = { kind: "failed", error };
  }
  port.postMessage(reply);
});
port.postMessage({ kind: "done", value: null } satisfies Reply);
