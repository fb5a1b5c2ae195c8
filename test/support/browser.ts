// Pages in a real browser: a server of the built library, of sources by their paths and of some files, and a page whose script
// gives back a value.

import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { ROOT, temporaryFolder } from "./cli.ts";
import { DISABLED_DAWN_FEATURES } from "./dawn.ts";
import { javascriptOf } from "./sources.ts";

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const DIST = join(ROOT, "packages/rwkv/dist");

export const HAS_BROWSER = existsSync(CHROMIUM);
if (!HAS_BROWSER) process.stderr.write(`skipped: there is no ${CHROMIUM}; CHROMIUM can name another\n`);

/** Of Chromium, for WebGPU on the processor. */
export const SOFTWARE_GPU = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  `--${DISABLED_DAWN_FEATURES}`,
];

/** Over ten seconds. */
const MOST_REMOVALS = 50;

export interface PageOptions {
  /** Body of an async function; what it returns is the page's answer, as JSON. */
  readonly script: string;
  /** Whether the page is cross-origin isolated, so that threads can share memory. Default false. */
  readonly isIsolated?: boolean;
  /** Files by path, beside the library below /dist/; a path without an extension is a page. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
  /** Further arguments of the browser. Default: without a GPU. */
  readonly flags?: readonly string[];
}

const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/**
 * Opens a page in a browser of its own.
 * @returns what its script returns
 * @throws what the script throws, as an Error with its stack
 */
export async function openPage({
  script,
  isIsolated = false,
  files = {},
  flags = ["--disable-gpu"],
}: PageOptions): Promise<unknown> {
  const folder = temporaryFolder();
  const { server, answer } = await servePage(script, files, isIsolated ? ISOLATION : {});
  const { port } = server.address() as AddressInfo;
  const browser = spawn(
    CHROMIUM,
    [
      "--headless=new",
      "--no-sandbox",
      ...flags,
      `--user-data-dir=${folder.path}`,
      `http://127.0.0.1:${port}/`,
    ],
    { stdio: "ignore" },
  );
  try {
    const ended = new Promise((_resolve, reject) => {
      browser.on("exit", (code) => reject(new Error(`the browser ended with code ${String(code)}`)));
      browser.on("error", reject);
    });
    return await Promise.race([answer, ended]);
  } finally {
    const closed = new Promise((resolve) => browser.on("exit", resolve));
    browser.kill();
    await closed;
    server.closeAllConnections();
    server.close();
    await removeSoon(folder);
  }
}

/** The children of a browser that was ended write a little longer. */
async function removeSoon(folder: { remove(): void }): Promise<void> {
  for (let nTries = 1; ; nTries++) {
    try {
      folder.remove();
      return;
    } catch (error) {
      if (nTries === MOST_REMOVALS) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

async function servePage(
  script: string,
  files: Readonly<Record<string, Uint8Array>>,
  headers: Readonly<Record<string, string>>,
): Promise<{ server: Server; answer: Promise<unknown> }> {
  const send = (response: ServerResponse, type: string, body: string | Uint8Array): void => {
    response.writeHead(200, { "Content-Type": type, ...headers }).end(body);
  };
  let settle: (answer: { value?: unknown; error?: string }) => void;
  const answer = new Promise<unknown>((resolve, reject) => {
    settle = ({ value, error }) => (error === undefined ? resolve(value) : reject(new Error(error)));
  });
  const server = createServer((request, response) => {
    const path = request.url!;
    const file = files[path];
    if (path === "/answer") {
      void bodyOf(request).then((body) => settle(JSON.parse(body) as object));
      response.writeHead(204).end();
    } else if (path === "/") send(response, "text/html", page(script));
    else if (file !== undefined) sendFile(request, response, file, headers);
    else if (path.startsWith("/dist/") && path.endsWith(".js") && existsSync(join(DIST, path.slice(5)))) {
      send(response, "text/javascript", readFileSync(join(DIST, path.slice(5))));
    } else if (path.endsWith(".ts") && existsSync(join(ROOT, path))) {
      send(response, "text/javascript", javascriptOf(join(ROOT, path)));
    } else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, answer };
}

function page(script: string): string {
  return `<!doctype html>
<link rel="icon" href="data:," />
<script type="module">
  const answer = (body) => fetch("/answer", { method: "POST", body: JSON.stringify(body) });
  try {
    await answer({ value: await (async () => {${script}})() });
  } catch (error) {
    await answer({ error: String(error?.stack ?? error) });
  }
</script>`;
}

const TYPES: Readonly<Record<string, string>> = {
  "": "text/html",
  ".css": "text/css",
  ".js": "text/javascript",
};

/** All of it, or the range that was asked for. */
function sendFile(
  { headers, url }: IncomingMessage,
  response: ServerResponse,
  file: Uint8Array,
  isolation: Readonly<Record<string, string>>,
): void {
  const range = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? "");
  if (range === null) {
    const type = TYPES[extname(url!)] ?? "application/octet-stream";
    response.writeHead(200, { "Content-Type": type, ...isolation }).end(file);
    return;
  }
  const first = Number(range[1]);
  const last = Math.min(Number(range[2]), file.byteLength - 1);
  const contentRange = `bytes ${first}-${last}/${file.byteLength}`;
  response
    .writeHead(206, { "Content-Range": contentRange, ...isolation })
    .end(file.subarray(first, last + 1));
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString("utf8");
}
