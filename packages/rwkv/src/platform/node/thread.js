// The first file of a thread in Node.

import { parentPort, workerData } from "node:worker_threads";
import { runThread } from "../thread-loop.js";

runThread(workerData, (word) => parentPort.postMessage(word));
