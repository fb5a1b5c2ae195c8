// node examples/browser/serve.js [PORT]: serves this page, the library as one module and the demo model, with the headers
// that let the page share memory among threads. Any static server will do that sends them and answers range requests.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../..");

const FILES = {
  "/": join(here, "index.html"),
  "/page.css": join(here, "page.css"),
  "/page.js": join(here, "page.js"),
  "/rwkv.js": join(root, "packages/rwkv/dist/bundle/rwkv.js"),
  "/demo/model.safetensors": join(root, "models/demo/model.safetensors"),
  "/demo/vocab.txt": join(root, "models/demo/vocab.txt"),
};

const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
};

const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  const file = Object.hasOwn(FILES, pathname) ? FILES[pathname] : undefined;
  const size = file === undefined ? undefined : statSync(file, { throwIfNoEntry: false })?.size;
  if (size === undefined) {
    response.writeHead(404, ISOLATION).end();
    return;
  }
  const headers = {
    ...ISOLATION,
    "Content-Type": TYPES[extname(file)] ?? "application/octet-stream",
    "Cache-Control": "no-cache",
    "Accept-Ranges": "bytes",
  };
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  if (range === null) {
    response.writeHead(200, { ...headers, "Content-Length": size });
    createReadStream(file).pipe(response);
    return;
  }
  const start = Number(range[1]);
  const end = Math.min(range[2] === "" ? Infinity : Number(range[2]), size - 1);
  if (start > end) {
    response.writeHead(416, { ...headers, "Content-Range": `bytes */${size}` }).end();
    return;
  }
  const partial = { "Content-Range": `bytes ${start}-${end}/${size}`, "Content-Length": end - start + 1 };
  response.writeHead(206, { ...headers, ...partial });
  createReadStream(file, { start, end }).pipe(response);
});

const port = Number(process.argv[2] ?? 8080);
if (!Number.isInteger(port) || port < 0 || port > 65535) {
  console.error(`The port is "${process.argv[2]}"; expected a whole number from 0 to 65535.`);
  process.exit(2);
}
server.on("error", (error) => {
  console.error(error.code === "EADDRINUSE" ? `Port ${port} is taken; name another one.` : error.message);
  process.exit(1);
});
server.listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/`));
