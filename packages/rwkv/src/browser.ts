// The entry point for browsers and bundlers.

import { browserPlatform } from "./platform/browser.ts";
import { enginePort, startEngine } from "./platform/engine-worker.ts";
import { createApi } from "./runtime/api.ts";
import { serveEngine } from "./runtime/worker/serve.ts";

export * from "./index.ts";
export { httpSource } from "./platform/http.ts";

// A worker for the engine runs this same module, so that a bundle stays one file.
const api = createApi({ ...browserPlatform, startEngine: () => startEngine(import.meta.url) });
const port = enginePort();
if (port !== null) serveEngine(browserPlatform, port);

/**
 * Loads an RWKV model of any generation.
 * @param file - an address, a `File`, a handle of one, bytes, or any `ByteSource`; the format is recognised by content
 * @throws FormatError if the file is damaged, UnsupportedError if it holds something else, UsageError for a wrong
 * option, DeviceError if the weights do not fit, the signal's reason if aborted; nothing stays in memory then
 */
export const loadModel = api.loadModel;

/** What there is to run models on here, what `device: "auto"` takes first, and why what is missing is. */
export const listDevices = api.listDevices;

/**
 * Reads a World vocabulary (.txt or JSON) or a Hugging Face `tokenizer.json`, told apart by content.
 * @throws FormatError if it is neither
 */
export const loadTokenizer = api.loadTokenizer;

/**
 * Finds the tokenizer that belongs to a model, inside the file or beside it; no tensor is read.
 * @throws UsageError if there is none
 */
export const modelTokenizer = api.modelTokenizer;

/**
 * Reads the header of a checkpoint and detects the model; no tensor is read.
 * @throws FormatError if the header is damaged, UnsupportedError if it holds no known RWKV model
 */
export const inspect = api.inspect;

/**
 * Writes the model in `file` to `sink` as safetensors, .pth or GGUF, one tensor in memory at a time.
 * @throws UsageError for a dtype that the format lacks, UnsupportedError for a generation that GGUF lacks
 */
export const convert = api.convert;

/**
 * Writes the model in `file` to `sink` as a packed file, which loads with no further work, one tensor in memory at a time.
 * @throws UsageError for a policy that does not fit the model, or a value that a type cannot hold
 */
export const quantize = api.quantize;

/**
 * What `quantize` would write with these options: type, size and rounding error of each matrix. Nothing is written.
 * @throws UsageError for a policy that does not fit the model, or a value that a type cannot hold
 */
export const previewQuantize = api.previewQuantize;

/**
 * Compares two models with the same vocabulary: weight by weight, and in what they predict for a text.
 * @throws UsageError if the vocabularies differ, there is no tokenizer for a text, or it has fewer than two tokens
 */
export const compare = api.compare;

/**
 * Reads a trace into memory: a file of `writeTrace`, or a checkpoint of any format with values that another program kept.
 * @throws FormatError if the file is damaged or no trace
 * @throws UnsupportedError for a trace of a later version, or tensors of whole numbers
 */
export const readTrace = api.readTrace;
