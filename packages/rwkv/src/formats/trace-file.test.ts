import fc from "fast-check";
import { expect, test } from "vitest";
import { bytesSource } from "../core/byte-source.ts";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import { readSafetensors, writeSafetensors } from "./safetensors/safetensors.ts";
import { MemorySink } from "./safetensors/testing.ts";
import { isTraceJson, parseTraceJson, readTraceTensors, writeTrace, type Trace } from "./trace-file.ts";

const ORIGIN = { model: "m.pth", modelVersion: "7", fingerprint: "ab", backend: "cpu", device: "cpu: x" };

async function write(trace: Trace, format: "safetensors" | "json"): Promise<Uint8Array> {
  const sink = new MemorySink();
  await writeTrace(sink, trace, format);
  return sink.bytes();
}

async function read(bytes: Uint8Array): Promise<Trace> {
  if (isTraceJson(bytes.subarray(0, 8))) return parseTraceJson(new TextDecoder().decode(bytes), "t.json");
  return readTraceTensors(await readSafetensors(bytesSource(bytes, "t.safetensors")));
}

const traces = fc.record({
  origin: fc.option(fc.constant(ORIGIN)),
  tokens: fc.option(fc.array(fc.nat(65535))),
  tensors: fc
    .uniqueArray(
      fc.tuple(
        fc.string({ unit: "grapheme", minLength: 1 }).filter((name) => name !== "__metadata__"),
        fc.tuple(fc.nat(3), fc.nat(4)),
        fc.array(fc.float(), { minLength: 12, maxLength: 12 }),
      ),
      { selector: ([name]) => name, maxLength: 6 },
    )
    .map(
      (list) =>
        new Map(
          list.map(([name, shape, values]) => [
            name,
            { shape, values: Float32Array.from(values.slice(0, shape[0] * shape[1])) },
          ]),
        ),
    ),
});

test.each(["safetensors", "json"] as const)("%s gives back every bit, and the order", async (format) => {
  await fc.assert(
    fc.asyncProperty(traces, async (trace) => {
      const back = await read(await write(trace, format));
      expect(back).toEqual(trace);
      expect([...back.tensors.keys()]).toEqual([...trace.tensors.keys()]);
      for (const [name, { values }] of trace.tensors) {
        const want = new Uint32Array(values.buffer, 0, values.length);
        const got = new Uint32Array(back.tensors.get(name)!.values.buffer, 0, values.length);
        values.forEach((value, i) => Number.isNaN(value) || expect(got[i]).toBe(want[i]));
      }
    }),
  );
});

test("JSON of many values is written in pieces that join", async () => {
  const values = Float32Array.from({ length: 40_000 }, (_, i) => i / 3);
  const trace: Trace = { origin: null, tokens: null, tensors: new Map([["x", { shape: [40_000], values }]]) };
  expect(await read(await write(trace, "json"))).toEqual(trace);
});

test("a checkpoint of another program is a trace of unknown origin, whatever its float types", async () => {
  const sink = new MemorySink();
  const bytes = Uint8Array.of(0x80, 0x3f, 0x00, 0xc0); // 1 and -2 in bf16
  const tensor = {
    name: "blocks.0.att.k",
    dtype: "bf16" as const,
    shape: [1, 2],
    byteLength: 4,
    read(target: Uint8Array) {
      target.set(bytes);
      return Promise.resolve();
    },
  };
  await writeSafetensors(sink, [tensor], new Map());
  expect(await read(sink.bytes())).toEqual({
    origin: null,
    tokens: null,
    tensors: new Map([["blocks.0.att.k", { shape: [1, 2], values: Float32Array.of(1, -2) }]]),
  });
  const whole = new MemorySink();
  await writeSafetensors(whole, [{ ...tensor, dtype: "i16" }], new Map());
  await expect(read(whole.bytes())).rejects.toThrow(UnsupportedError);
  await expect(read(whole.bytes())).rejects.toThrow('t.safetensors: tensor "blocks.0.att.k" is i16');
});

const GOOD = {
  format: "rwkv-trace",
  version: 1,
  origin: ORIGIN,
  tokens: [1, 2],
  tensors: [{ name: "x", shape: [2], values: [1, "NaN"] }],
};

test("the good one of the damaged files below is read", () => {
  expect(parseTraceJson(JSON.stringify(GOOD), "t.json").tensors.get("x")!.values).toEqual(
    Float32Array.of(1, NaN),
  );
});

test.each([
  ["{", "is no JSON"],
  ["null", "expected a trace"],
  ["[]", "expected a trace"],
  [JSON.stringify({ ...GOOD, format: "x" }), 'with "format": "rwkv-trace"'],
  [JSON.stringify({ ...GOOD, tokens: [1.5] }), 'has "tokens" that are no list of ids'],
  [JSON.stringify({ ...GOOD, tokens: "1" }), 'has "tokens" that are no list of ids'],
  [JSON.stringify({ ...GOOD, origin: {} }), 'has an "origin" that lacks fields'],
  [JSON.stringify({ ...GOOD, origin: 1 }), 'has an "origin" that lacks fields'],
  [JSON.stringify({ ...GOOD, tensors: {} }), 'has no list "tensors"'],
  [JSON.stringify({ ...GOOD, tensors: [null] }), "has a tensor without a name"],
  [JSON.stringify({ ...GOOD, tensors: [...GOOD.tensors, ...GOOD.tensors] }), 'has tensor "x" twice'],
  [JSON.stringify({ ...GOOD, tensors: [{ name: "x", shape: [-2], values: [1, 2] }] }), "has a shape"],
  [JSON.stringify({ ...GOOD, tensors: [{ name: "x", shape: [2] }] }), 'has no list "values"'],
  [JSON.stringify({ ...GOOD, tensors: [{ name: "x", shape: [3], values: [1, 2] }] }), "3 numbers, but has 2"],
  [JSON.stringify({ ...GOOD, tensors: [{ name: "x", shape: [1], values: [null] }] }), "has the value null"],
  [JSON.stringify({ ...GOOD, tensors: [{ name: "x", shape: [1], values: ["1"] }] }), 'has the value "1"'],
])("%s is refused", (text, message) => {
  expect(() => parseTraceJson(text, "t.json")).toThrow(FormatError);
  expect(() => parseTraceJson(text, "t.json")).toThrow(message);
  expect(() => parseTraceJson(text, "t.json")).toThrow(/^t\.json/);
});

test.each([2, "1", undefined])("version %s is refused", (version) => {
  const text = JSON.stringify({ ...GOOD, version });
  expect(() => parseTraceJson(text, "t.json")).toThrow(UnsupportedError);
});

test("metadata that are no JSON are refused", async () => {
  const sink = new MemorySink();
  await writeSafetensors(sink, [], new Map([["rwkv_trace", "null"]]));
  await expect(read(sink.bytes())).rejects.toThrow("t.safetensors does not say what was traced");
});
