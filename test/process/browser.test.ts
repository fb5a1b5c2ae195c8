// The built engine in a real browser: threads are workers over shared memory in a cross-origin isolated page, and there
// is one thread, which the model's info says, in any other page.

import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ROOT, temporaryFolder } from "../support/cli.ts";
import { tinyModel } from "../support/tiny-model.ts";

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const hasBrowser = existsSync(CHROMIUM);
if (!hasBrowser) process.stderr.write(`skipped: there is no ${CHROMIUM}; CHROMIUM can name another\n`);

const DIST = join(ROOT, "packages/rwkv/dist");

const PAGE = `<!doctype html>
<link rel="icon" href="data:," />
<script type="module">
  const answer = (value) => fetch("/answer", { method: "POST", body: JSON.stringify(value) });
  try {
    const { loadModel } = await import("/dist/browser.js");
    const results = [];
    for (const threads of [1, 3]) {
      const model = await loadModel("/model.safetensors", { threads });
      const session = await model.createSession();
      // Long enough that the step is shared among threads, and short enough that it is not.
      const first = await session.forward(Array.from({ length: 200 }, (_, i) => i));
      const second = await session.forward([6]);
      results.push({ device: model.info.device, logits: [...first, ...second] });
      model.dispose();
    }
    await answer(results);
  } catch (error) {
    await answer(String(error.stack));
  }
</script>`;

interface Result {
  readonly device: string;
  readonly logits: readonly number[];
}

const folder = temporaryFolder();
afterAll(() => folder.remove());

async function bodyOf(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString("utf8");
}

/** Opens the page in a browser of its own. @returns what the page answers */
async function open({ isIsolated }: { isIsolated: boolean }): Promise<unknown> {
  const isolation = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
  };
  const send = (response: ServerResponse, type: string, body: string | Uint8Array): void => {
    response.writeHead(200, { "Content-Type": type, ...(isIsolated ? isolation : {}) }).end(body);
  };
  let answered: (value: unknown) => void;
  const answer = new Promise<unknown>((resolve) => (answered = resolve));
  const server = createServer((request, response) => {
    const path = request.url!;
    if (path === "/answer") void bodyOf(request).then((body) => answered(JSON.parse(body)));
    if (path.startsWith("/dist/") && path.endsWith(".js")) {
      send(response, "text/javascript", readFileSync(join(DIST, path.slice("/dist/".length))));
    } else if (path === "/model.safetensors") send(response, "application/octet-stream", tinyModel());
    else if (path === "/" || path === "/answer") send(response, "text/html", PAGE);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const profile = join(folder.path, isIsolated ? "isolated" : "plain");
  const browser = spawn(
    CHROMIUM,
    [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      `--user-data-dir=${profile}`,
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
  }
}

describe.skipIf(!hasBrowser)("in a browser", () => {
  test("an isolated page computes on as many threads as asked for, with the same bits", async () => {
    const [one, three] = (await open({ isIsolated: true })) as Result[];
    expect(one?.device).toBe("cpu: WebAssembly relaxed SIMD, 1 thread");
    expect(three?.device).toBe("cpu: WebAssembly relaxed SIMD, 3 threads");
    expect(three!.logits).toEqual(one!.logits);
    expect(one!.logits.length).toBe(2 * 256);
  });

  test("a page that is not isolated computes on one, and says why", async () => {
    const [one, three] = (await open({ isIsolated: false })) as Result[];
    expect(three?.device).toBe("cpu: WebAssembly relaxed SIMD, 1 thread (threads cannot share memory here)");
    expect(three!.logits).toEqual(one!.logits);
  });
});
