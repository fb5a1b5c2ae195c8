// A step on one thread of a pool: runs its part of every record, meets the others where a record asks for it. The entry
// of the module for several threads; what a thread does between steps is in platform/thread-loop.js.
//
// A thread that waits spins for a while and then sleeps, outside, in `Atomics.wait`: the baseline compiler of Node 20
// loses local variables over the instruction memory.atomic.wait32.

import {
  CONTEXT_CONTROL,
  CONTEXT_N_RECORDS,
  CONTEXT_N_THREADS,
  CONTEXT_RECORDS,
  CONTROL_ABORT,
  CONTROL_ARRIVED,
  CONTROL_PHASE,
  CONTROL_SLEEPERS,
  RECORD_BARRIER,
  RECORD_BYTES,
} from "../abi.ts";
import { isFiniteColumns, isFinitePanels, pack, packColumns, run } from "./run.ts";

/**
 * Looks at a word before sleeping, some hundred microseconds of them at a barrier: threads with equal work arrive that
 * far apart, and waking takes as long again. With a tenth of it, decode on two threads took a third longer.
 */
const BARRIER_SPINS: i32 = 200000;

/** Sleeps until the word at `address` is woken; returns at once if it is not `value`. */
@external("thread", "sleep")
declare function sleep(address: usize, value: i32): void;

/** Wakes all that sleep on the word at `address`. */
@external("thread", "wake")
declare function wake(address: usize): void;

/** Tells the caller of the step that it has ended. */
@external("thread", "finish")
declare function finish(): void;

/** Waits until the word at `address` is not `old`. @returns what it is then */
function awaitChange(control: usize, address: usize, old: i32): i32 {
  for (let i = 0; i < BARRIER_SPINS; i++) {
    const now = atomic.load<i32>(address);
    if (now != old) return now;
  }
  // Counted before the last look: whoever changes the word after it sees that somebody is to be woken.
  atomic.add<i32>(control, 1, CONTROL_SLEEPERS);
  let now = atomic.load<i32>(address);
  while (now == old) {
    sleep(address, old);
    now = atomic.load<i32>(address);
  }
  atomic.sub<i32>(control, 1, CONTROL_SLEEPERS);
  return now;
}

/**
 * Waits for all threads; whoever comes last lets the others go on, or ends the step.
 * @returns true if the step is given up; all threads return the same
 */
function meet(control: usize, nThreads: i32, isEnd: bool): bool {
  const phase = atomic.load<i32>(control, CONTROL_PHASE);
  if (atomic.add<i32>(control, 1, CONTROL_ARRIVED) + 1 < nThreads) {
    return (awaitChange(control, control + CONTROL_PHASE, phase) & 1) != 0;
  }
  // Only the last one decides, so that no thread goes on alone. Any thread that saw the word set had not arrived yet.
  const isAborted = atomic.load<i32>(control, CONTROL_ABORT);
  atomic.store<i32>(control, 0, CONTROL_ARRIVED);
  atomic.store<i32>(control, ((phase | 1) + 1) | isAborted, CONTROL_PHASE);
  if (atomic.load<i32>(control, CONTROL_SLEEPERS) > 0) wake(control + CONTROL_PHASE);
  if (isEnd || isAborted) finish();
  return isAborted != 0;
}

/** Runs all records once, together with the other threads; returns when the last of them ends or gives up. */
export function step(context: usize, thread: i32): void {
  const control = load<usize>(context, CONTEXT_CONTROL);
  const nThreads = load<i32>(context, CONTEXT_N_THREADS);
  const records = load<usize>(context, CONTEXT_RECORDS);
  const nRecords = load<i32>(context, CONTEXT_N_RECORDS);
  for (let i = 0; i < nRecords; i++) {
    if (load<i32>(records + <usize>i * RECORD_BYTES, RECORD_BARRIER)) {
      if (meet(control, nThreads, false)) return;
    }
    // What is left out here is noticed at the next barrier, where the step ends.
    if (!atomic.load<i32>(control, CONTROL_ABORT)) run(context, i, i + 1, thread, nThreads, thread);
  }
  meet(control, nThreads, true);
}

// For the calling thread, which keeps the weights and runs short steps alone.
export { isFiniteColumns, isFinitePanels, pack, packColumns, run };
