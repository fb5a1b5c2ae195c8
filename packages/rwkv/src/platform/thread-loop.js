// What a thread does in Node and in browsers alike. Plain JavaScript that imports nothing, since a thread begins with
// this file itself: there is nobody before it to strip types.

/** Looks at the gate before sleeping: few, since between steps the caller computes, and may need the core. */
const GATE_SPINS = 2000;

/**
 * Runs a task (core/platform.ts) and does not return.
 * @param task - the ThreadTask
 * @param post - sends "ready" or "finish" to whoever has started the thread
 */
export function runThread({ module, parts, gate, thread }, post) {
  const steps = parts.map(({ memory, context }) => {
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
    return () => exports.step(context, thread);
  });
  post("ready");
  let seen = 0;
  while (true) {
    seen = nextGate(gate, seen);
    steps[Atomics.load(gate, 1)]();
  }
}

/** Waits until the gate's first word is not `seen`. Returns what it is then. */
function nextGate(gate, seen) {
  for (let i = 0; i < GATE_SPINS; i++) {
    const now = Atomics.load(gate, 0);
    if (now !== seen) return now;
  }
  while (Atomics.load(gate, 0) === seen) Atomics.wait(gate, 0, seen);
  return Atomics.load(gate, 0);
}
