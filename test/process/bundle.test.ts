// The library as one module: its size, and the example page that imports it, in a real browser.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { HAS_BROWSER, openPage } from "../support/browser.ts";
import { ROOT } from "../support/cli.ts";

const BUNDLE = readFileSync(join(ROOT, "packages/rwkv/dist/bundle/rwkv.js"));
const MAX_BYTES = 1_000_000;
const MAX_GZIPPED_BYTES = 300_000;

const EXAMPLE = {
  "/example/": readFileSync(join(ROOT, "examples/browser/index.html")),
  "/example/page.css": readFileSync(join(ROOT, "examples/browser/page.css")),
  "/example/page.js": readFileSync(join(ROOT, "examples/browser/page.js")),
  "/example/rwkv.js": BUNDLE,
  "/example/demo/model.safetensors": readFileSync(join(ROOT, "models/demo/model.safetensors")),
  "/example/demo/vocab.txt": readFileSync(join(ROOT, "models/demo/vocab.txt")),
};

/** Drives the page in a frame, as a reader would. */
const DRIVE = `
  const frame = document.createElement("iframe");
  frame.src = "/example/";
  frame.width = 1000;
  document.body.append(frame);
  await new Promise((resolve) => frame.addEventListener("load", resolve));
  const page = frame.contentDocument;
  const element = (id) => page.getElementById(id);
  const until = async (holds) => {
    while (!holds()) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const isIdle = () => element("stop").disabled && element("stop-streams").disabled;
  const error = () => (element("error").hidden ? null : element("error").textContent);
  const textsOf = (selector) => [...page.querySelectorAll(selector)].map(({ textContent }) => textContent);
  const load = async () => {
    element("load-form").requestSubmit();
    await until(() => !element("load-button").disabled);
  };
  const say = async (text) => {
    element("message").value = text;
    const options = { key: "Enter", bubbles: true, cancelable: true };
    element("message").dispatchEvent(new frame.contentWindow.KeyboardEvent("keydown", options));
    await until(isIdle);
  };
  const results = {};

  await load();
  results.loaded = { error: error(), facts: textsOf("#facts dd"), status: element("status").textContent };
  await say("What is 47 + 38?");
  await say('Spell "garden" backwards.');
  results.messages = textsOf("#messages li");
  results.speed = element("chat-speed").textContent;

  element("streams-tab").click();
  element("streams-form").requestSubmit();
  await until(isIdle);
  results.streams = textsOf("#outputs p");
  element("streams-form").requestSubmit();
  await until(() => textsOf("#outputs p").every((text) => text.length > 10));
  page.dispatchEvent(new frame.contentWindow.KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  await until(isIdle);
  results.stopped = { error: error(), texts: textsOf("#outputs p") };

  element("address").value = "page.css";
  await load();
  results.broken = { error: error(), status: element("status").textContent };
  await say("What is 20 + 30?");
  results.after = { error: error(), message: textsOf("#messages li").at(-1) };
  return results;`;

interface Results {
  readonly loaded: { error: string | null; facts: string[]; status: string };
  readonly messages: string[];
  readonly speed: string;
  readonly streams: string[];
  readonly stopped: { error: string | null; texts: string[] };
  readonly broken: { error: string | null; status: string };
  readonly after: { error: string | null; message: string };
}

test("engine, kernels and threads are one file of less than 1 MB, 300 kB compressed", () => {
  const gzipped = gzipSync(BUNDLE, { level: 9 }).byteLength;
  console.log(`dist/bundle/rwkv.js: ${BUNDLE.byteLength} bytes, ${gzipped} compressed`);
  expect(BUNDLE.byteLength).toBeLessThan(MAX_BYTES);
  expect(gzipped).toBeLessThan(MAX_GZIPPED_BYTES);
  expect(BUNDLE.toString("utf8")).not.toMatch(/\bfrom\s*["'][^"']+["']/);
});

describe.skipIf(!HAS_BROWSER)("the example page", () => {
  let results: Results;
  beforeAll(async () => {
    results = (await openPage({ script: DRIVE, files: EXAMPLE, isIsolated: true })) as Results;
  }, 120_000);

  test("loads the demo model into a worker with threads", () => {
    expect(results.loaded.error).toBeNull();
    expect(results.loaded.status).toMatch(/^model\.safetensors is ready/);
    expect(results.loaded.facts.join("\n")).toMatch(
      /RWKV 7, 6 layers.*\n.*WebAssembly relaxed SIMD, \d+ threads/,
    );
  });

  test("answers, as the demo model does", () => {
    expect(results.messages).toEqual(["What is 47 + 38?", "85", 'Spell "garden" backwards.', '"nedrag"']);
    expect(results.speed).toMatch(/^\d+ tokens, [\d.]+ a second$/);
  });

  test("writes four different streams at once, and stops them when Escape is pressed", () => {
    expect(new Set(results.streams).size).toBe(4);
    results.stopped.texts.forEach((text, i) => expect(results.streams[i]!.startsWith(text)).toBe(true));
    expect(results.stopped.texts).not.toEqual(results.streams);
    expect(results.stopped.error).toBeNull();
  });

  test("says what is wrong with a file, and goes on with the model that it has", () => {
    expect(results.broken.error).toMatch(/page\.css is in no known format/);
    expect(results.broken.status).toBe("Still model.safetensors.");
    expect(results.after).toEqual({ error: null, message: "50" });
  });
});
