import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesSource } from "../core/byte-source.ts";
import { FormatError, RwkvError, UnsupportedError, UsageError } from "../core/errors.ts";
import { openCheckpoint } from "./open.ts";
import { zip } from "./pth/testing.ts";
import { rwkvCppBytes } from "./rwkv-cpp/testing.ts";
import { safetensorsBytes } from "./safetensors/testing.ts";

const N_RUNS = process.env["RWKV_TEST_LONG"] ? 10_000 : 500;

function bytesOf(content: string | Uint8Array): Uint8Array {
  // One byte per character, so that signatures can be written as strings.
  return typeof content === "string"
    ? Uint8Array.from(content, (character) => character.charCodeAt(0))
    : content;
}

function open(content: string | Uint8Array, ...rest: readonly Parameters<typeof openCheckpoint>[1][]) {
  return openCheckpoint(bytesSource(bytesOf(content), "model.pth"), ...rest);
}

const safetensors = safetensorsBytes({ a: { dtype: "U8", shape: [2], data_offsets: [0, 2] } }, 2);
const rwkvCpp = rwkvCppBytes([101, 4, 32, 1, 0], [{ name: "a", type: 0, dims: [1], data: 4 }]);

describe("recognised by content, whatever the file is called", () => {
  test("safetensors and rwkv.cpp", async () => {
    expect((await open(safetensors)).format).toBe("safetensors");
    expect((await open(rwkvCpp)).format).toBe("rwkv.cpp");
  });

  test("the index of several safetensors files, if its folder is known", async () => {
    const index = '\n{"weight_map": {"a": "one.safetensors"}}';
    const checkpoint = await open(index, (fileName) => Promise.resolve(bytesSource(safetensors, fileName)));
    expect([...checkpoint.tensors.keys()]).toEqual(["a"]);
    await expect(open(index)).rejects.toThrow(UsageError);
    await expect(open(index)).rejects.toThrow("cannot be found without its folder");
  });

  // What follows the signature is missing, so each reader has to say that its own format is damaged.
  test.each([
    ["GGUF", "GGUF\x03\x00\x00\x00"],
    ["a PyTorch archive", "PK\x03\x04"],
    ["a bare pickle", "\x80\x02\x8a\x0a"],
    ["rwkv.cpp", "fmgg\x65\x00\x00\x00"],
    ["rwkv.cpp, cut inside the signature", "fmgg"],
    ["safetensors", "\xff\x00\x00\x00\x00\x00\x00\x00{"],
  ])("%s, cut short after the signature", async (_, content) => {
    await expect(open(content)).rejects.toThrow(FormatError);
    await expect(open(content)).rejects.not.toThrow("is in no known format");
    await expect(open(content)).rejects.toThrow(/model\.pth/);
  });
});

describe("refused, saying what it is", () => {
  test.each<[string, string | Uint8Array, string]>([
    ["an empty file", "", "model.pth is empty"],
    ["an empty zip", "PK\x05\x06" + "\x00".repeat(18), "an empty zip archive"],
    ["gzip", "\x1f\x8b\x08\x00", "compressed with gzip. Unpack it"],
    ["zstd", "\x28\xb5\x2f\xfd", "compressed with zstd"],
    ["xz", "\xfd7zXZ\x00", "compressed with xz"],
    ["bzip2", "BZh91AY", "compressed with bzip2"],
    ["7-Zip", "7z\xbc\xaf\x27\x1c", "a 7-Zip archive"],
    ["NumPy", "\x93NUMPY\x01", "a NumPy array"],
    ["HDF5", "\x89HDF\r\n\x1a\n", "an HDF5 file"],
    ["a web page", " \n<!DOCTYPE html><html>", "is a web page"],
    ["a web page without a type", "<HTML lang=en>", "is a web page"],
    ["an XML error", '<?xml version="1.0"?><Error>', "is a web page"],
    ["a saved session", "RWKVSESS\x01\x00\x00\x00", "is a saved session, not a model"],
    ["zeros", new Uint8Array(4096), "a download that never finished"],
    [
      "anything else",
      "hello, world, here I am",
      'begins with 68 65 6c 6c 6f 2c 20 77 6f 72 6c 64 2c 20 68 65 ("hello, world, he")',
    ],
    ["a few bytes", "\x01\x02", 'begins with 01 02 ("..")'],
  ])("%s", async (_, content, message) => {
    await expect(open(content)).rejects.toThrow(FormatError);
    await expect(open(content)).rejects.toThrow(message);
  });

  test.each([
    ["ONNX", "\x08\x09\x12\x07pytorch", "looks like an ONNX model"],
    ["llama.cpp before GGUF", "fmgg\x01\x00\x00\x00", "formats from before GGUF"],
    ["whisper.cpp", "lmgg", "formats from before GGUF"],
    ["ggjt", "tjgg\x03\x00\x00\x00", "formats from before GGUF"],
  ])("%s, as unsupported", async (_, content, message) => {
    await expect(open(content)).rejects.toThrow(UnsupportedError);
    await expect(open(content)).rejects.toThrow(message);
  });

  test("a git-lfs pointer, with the size of the real file", async () => {
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 382115328\n`;
    await expect(open(pointer)).rejects.toThrow(FormatError);
    await expect(open(pointer)).rejects.toThrow(
      "git-lfs pointer, not the model itself, which has 382115328 bytes",
    );
    await expect(open(pointer.slice(0, 60))).rejects.toThrow("git-lfs pointer, not the model itself. Run");
  });

  test("a zip archive that is no model", async () => {
    const { bytes } = zip([{ name: "readme.txt", bytes: bytesOf("hello") }]);
    await expect(open(bytes)).rejects.toThrow(FormatError);
    await expect(open(bytes)).rejects.toThrow("if it is an archive around a model, unpack it");
  });

  test("JSON that is no index", async () => {
    const openSibling = () => Promise.reject(new UsageError("not reached"));
    await expect(open('{"hidden_size": 768}', openSibling)).rejects.toThrow(
      "may be the configuration or tokenizer",
    );
  });
});

test("any bytes, also behind the start of a known format, are refused or harmless", async () => {
  const starts = [
    "",
    "PK\x03\x04",
    "\x80\x02",
    "GGUF\x03\x00\x00\x00",
    "fmgg\x65\x00\x00\x00",
    "{",
    "\x20\x00\x00\x00\x00\x00\x00\x00{",
  ];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...starts), fc.uint8Array({ maxLength: 200 }), async (start, noise) => {
      try {
        await open(Uint8Array.of(...bytesOf(start), ...noise), () => Promise.reject(new UsageError("none")));
      } catch (error) {
        if (!(error instanceof RwkvError)) throw error;
      }
    }),
    { seed: 7, numRuns: N_RUNS },
  );
});

const FIXTURES = new URL("../../../../../shared/fixtures/", import.meta.url);
const hasFixtures = existsSync(FIXTURES);
if (!hasFixtures) console.warn("skipped: ../shared/fixtures is not there");

test.skipIf(!hasFixtures).each([
  ["golden/v7/model.pth", "pth"],
  ["golden/v6-web-rwkv/model.st", "safetensors"],
  ["gguf/v7-q4_0.gguf", "gguf"],
  ["rwkv.cpp/tiny-rwkv-7v0-834K-FP16.bin", "rwkv.cpp"],
])("%s opens as %s under any name", async (path, format) => {
  const checkpoint = await openCheckpoint(bytesSource(readFileSync(new URL(path, FIXTURES)), "model"));
  expect(checkpoint.format).toBe(format);
  expect(checkpoint.tensors.size).toBeGreaterThan(10);
});
