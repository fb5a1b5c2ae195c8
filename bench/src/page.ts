// Measurements in a page of Chromium, each in a browser of its own, so that neither memory nor compiled code passes from one
// to the next. The page is cross-origin isolated: without that there are no threads.

import { spawn } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, statSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { DeviceError, UsageError } from "rwkv";
import { PEERS_FOLDER, ROOT, type Work } from "./engines.ts";

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const WLLAMA_FOLDER = join(PEERS_FOLDER, "node_modules", "@wllama", "wllama", "esm");
/** A page that has not answered by then never will. */
const TIMEOUT_MS = 10 * 60 * 1000;

export type PageEngine = "rwkv" | "wllama";

/** What one page measured. */
export interface PageSample {
  /** Fetching the model from this machine is part of it. */
  readonly loadMs: number;
  /** Kernels or version, and threads. */
  readonly description: string;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

type Answer = { readonly sample: PageSample } | { readonly error: string };

const PAGE = `<!doctype html><link rel="icon" href="data:," /><script type="module" src="/page.js"></script>`;

const TYPES: Readonly<Record<string, string>> = { ".js": "text/javascript", ".wasm": "application/wasm" };

const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/** @throws UsageError if the browser or the other engine is missing */
export function checkPages(): void {
  if (!existsSync(CHROMIUM)) {
    throw new UsageError(
      `There is no ${CHROMIUM}. Install Chromium, or name one with the variable CHROMIUM.`,
    );
  }
  if (!existsSync(WLLAMA_FOLDER)) {
    throw new UsageError(
      `@wllama/wllama is not installed in ${PEERS_FOLDER}. Install it there, and there only: ` +
        `npm ci --ignore-scripts --prefix bench/peers`,
    );
  }
}

/**
 * Opens a page that loads the model, warms up and measures once.
 * @param model - path of a GGUF file
 * @throws DeviceError if the page fails, or does not answer
 */
export async function measurePage(
  engine: PageEngine,
  model: string,
  threads: number,
  { promptTokens, decodeTokens }: Work,
): Promise<PageSample> {
  let resolve: (answer: Answer) => void = () => undefined;
  const answered = new Promise<Answer>((settle) => (resolve = settle));
  const server = await serve(model, resolve);
  const profile = mkdtempSync(join(tmpdir(), "rwkv-bench-"));
  const { port } = server.address() as AddressInfo;
  const query = new URLSearchParams({
    engine,
    threads: String(threads),
    "prompt-tokens": String(promptTokens),
    "decode-tokens": String(decodeTokens),
  });
  const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", `--user-data-dir=${profile}`];
  const browser = spawn(CHROMIUM, [...flags, `http://127.0.0.1:${port}/?${query.toString()}`], {
    stdio: "ignore",
  });
  const closed = new Promise((done) => browser.on("close", done));
  browser.on("error", (error) => resolve({ error: error.message }));
  browser.on("exit", (code) => resolve({ error: `The browser ended with code ${String(code)}.` }));
  const timer = setTimeout(
    () => resolve({ error: `The page gave no answer in ${TIMEOUT_MS / 1000} s.` }),
    TIMEOUT_MS,
  );
  try {
    const answer = await answered;
    if ("error" in answer) throw new DeviceError(`${engine} on ${model}: ${answer.error}`);
    return answer.sample;
  } finally {
    clearTimeout(timer);
    browser.kill();
    await closed;
    server.closeAllConnections();
    server.close();
    // Processes of the browser may still write there for a moment.
    await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

async function serve(model: string, onAnswer: (answer: Answer) => void): Promise<Server> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url!, "http://localhost");
    if (pathname === "/answer") {
      void bodyOf(request).then((body) => onAnswer(JSON.parse(body) as Answer));
      response.writeHead(204).end();
    } else if (pathname === "/") {
      response.writeHead(200, { ...ISOLATION, "Content-Type": "text/html" }).end(PAGE);
    } else sendFile(request, response, fileOf(pathname, model));
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return server;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString("utf8");
}

/** `pathname` is normalised: it has no `..` that could lead out of a folder. */
function fileOf(pathname: string, model: string): string {
  if (pathname === "/model.gguf") return model;
  if (pathname.startsWith("/wllama/")) return join(WLLAMA_FOLDER, pathname.slice("/wllama/".length));
  if (pathname.startsWith("/rwkv/")) {
    return join(ROOT, "packages", "rwkv", "dist", pathname.slice("/rwkv/".length));
  }
  return join(PEERS_FOLDER, pathname);
}

/** All of it, or the range that was asked for. */
function sendFile({ headers }: IncomingMessage, response: ServerResponse, file: string): void {
  const byteLength = statSync(file, { throwIfNoEntry: false })?.size;
  if (byteLength === undefined) {
    response.writeHead(404, ISOLATION).end();
    return;
  }
  const common = { ...ISOLATION, "Content-Type": TYPES[extname(file)] ?? "application/octet-stream" };
  const range = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "");
  if (range === null) {
    response.writeHead(200, { ...common, "Content-Length": byteLength });
    createReadStream(file).pipe(response);
    return;
  }
  const start = Number(range[1]);
  const end = Math.min(Number(range[2]), byteLength - 1);
  response.writeHead(206, {
    ...common,
    "Content-Length": end - start + 1,
    "Content-Range": `bytes ${start}-${end}/${byteLength}`,
  });
  createReadStream(file, { start, end }).pipe(response);
}
