import { expect, test } from "vitest";
import { Pacer } from "./pacer.ts";

test("the speed of the last calls sets the length of the next slice", () => {
  const pacer = new Pacer();
  pacer.record(4e7, 4);
  expect(pacer.workPerSlice).toBe(3e7);
  for (let i = 0; i < 40; i++) pacer.record(1e5, 0.1); // many short calls count like a long one
  expect(pacer.workPerSlice).toBeCloseTo(3e6);
});

test("a thread that was kept from running during a call without work goes on in slices of a useful length", () => {
  const pacer = new Pacer();
  pacer.record(0, 1000);
  expect(pacer.workPerSlice).toBe(3e5);
  expect(pacer.partsOf(0)).toBe(1);
  expect(pacer.partsOf(1e6)).toBe(4);
  expect(pacer.partsOf(1e15)).toBe(1024);
});

test("a pause is due some ms after the last one, and lets what is waiting run", async () => {
  const pacer = new Pacer();
  expect(pacer.isPauseDue(performance.now())).toBe(false);
  expect(pacer.isPauseDue(performance.now() + 10)).toBe(true);
  let hasRun = false;
  setImmediate(() => (hasRun = true));
  await pacer.pause();
  expect(hasRun).toBe(true);
  expect(pacer.isPauseDue(performance.now())).toBe(false);
});

test("where there is no setImmediate, as in browsers, a pause is a message to oneself", async () => {
  const { setImmediate: original } = globalThis;
  Reflect.deleteProperty(globalThis, "setImmediate");
  try {
    let hasRun = false;
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      hasRun = true;
      port1.close();
    };
    port2.postMessage(null);
    await new Pacer().pause();
    await new Pacer().pause();
    expect(hasRun).toBe(true);
  } finally {
    globalThis.setImmediate = original;
  }
});
