// The first file of a thread in a browser; its task is the first message.

import { runThread } from "./thread-loop.js";

addEventListener("message", ({ data }) => runThread(data, (word) => postMessage(word)), { once: true });
