// What a thread does in Node and in browsers alike. Plain JavaScript that imports nothing, since a thread begins with
// this file itself: there is nobody before it to strip types.

/**
 * Runs a task (core/platform.ts) and does not return.
 * @param task - the ThreadTask
 * @param post - sends "ready" or "finish" to whoever has started the thread
 */
export function runThread({ module, memory, context, thread }, post) {
  // Later growth leaves this view valid, and the words that threads sleep on are there already.
  const words = new Int32Array(memory.buffer);
  const { exports } = new WebAssembly.Instance(module, {
    env: { memory },
    thread: {
      // Addresses come as signed numbers.
      sleep: (address, value) => void Atomics.wait(words, address >>> 2, value),
      wake: (address) => void Atomics.notify(words, address >>> 2),
      finish: () => post("finish"),
    },
  });
  post("ready");
  exports.work(context, thread);
}
