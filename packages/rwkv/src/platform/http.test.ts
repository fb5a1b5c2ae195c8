import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test, vi } from "vitest";
import { DeviceError, FormatError, UnsupportedError, UsageError } from "../core/errors.ts";
import { httpSource } from "./http.ts";

const FILE = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7) % 251);
const HEAD_BYTES = 65_536;

const servers: Server[] = [];
afterEach(async () => {
  await Promise.all(
    servers.splice(0).map(
      (server) =>
        new Promise((resolve) => {
          server.close(resolve);
          server.closeAllConnections();
        }),
    ),
  );
});

/** Starts a server on any free port; returns the address of a file on it. */
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/models/m.st?token=secret`;
}

interface Range {
  readonly first: number;
  readonly last: number;
}

function rangeOf(request: IncomingMessage): Range {
  const [first, last] = /^bytes=(\d+)-(\d+)$/
    .exec(request.headers.range ?? "")!
    .slice(1)
    .map(Number);
  return { first: first!, last: Math.min(last!, FILE.length - 1) };
}

/** The right answer, with what a test wants otherwise. */
function answer(
  response: ServerResponse,
  { first, last }: Range,
  headers: Record<string, string> = {},
): void {
  response.writeHead(206, {
    "Content-Range": `bytes ${first}-${last}/${FILE.length}`,
    "Content-Length": last + 1 - first,
    ETag: '"one"',
    ...headers,
  });
  response.end(FILE.subarray(first, last + 1));
}

/** Announces a range, gives part of it and breaks the connection. */
function breakOff(response: ServerResponse, { first, last }: Range, nBytes: number): void {
  response.writeHead(206, {
    "Content-Range": `bytes ${first}-${last}/${FILE.length}`,
    "Content-Length": last + 1 - first,
  });
  response.write(FILE.subarray(first, first + nBytes), () => setImmediate(() => response.destroy()));
}

async function readAt(source: Awaited<ReturnType<typeof httpSource>>, offset: number, byteLength: number) {
  const target = new Uint8Array(byteLength);
  await source.read(offset, target);
  return target;
}

const PAUSES_MS: readonly (number | undefined)[] = [100, 200, 400, 800];

/** Spares the tests the pauses between attempts; timers of the HTTP client stay as they are. */
function skipPauses(): void {
  const original = globalThis.setTimeout;
  const quick = (callback: (...args: unknown[]) => void, milliseconds?: number, ...args: unknown[]) =>
    PAUSES_MS.includes(milliseconds)
      ? setImmediate(callback, ...args)
      : original(callback, milliseconds, ...args);
  vi.stubGlobal("setTimeout", quick);
}
afterEach(() => {
  vi.unstubAllGlobals();
});

describe("a server with ranges", () => {
  test("opening costs one request; reads fetch what was asked for, and the first 64 KiB nothing", async () => {
    const ranges: Range[] = [];
    const url = await serve((request, response) => {
      ranges.push(rangeOf(request));
      answer(response, rangeOf(request));
    });
    const source = await httpSource(url);
    expect(source.byteLength).toBe(FILE.length);
    expect(source.name).toBe(url.slice(0, url.indexOf("?")));
    expect(await readAt(source, 10, 1000)).toEqual(FILE.subarray(10, 1010));
    expect(await readAt(source, 0, 0)).toEqual(new Uint8Array(0));
    expect(ranges).toEqual([{ first: 0, last: HEAD_BYTES - 1 }]);
    const [middle, end] = await Promise.all([readAt(source, 60_000, 10_000), readAt(source, 299_990, 10)]);
    expect(middle).toEqual(FILE.subarray(60_000, 70_000));
    expect(end).toEqual(FILE.subarray(299_990));
    expect(ranges.slice(1).sort((a, b) => a.first - b.first)).toEqual([
      { first: 60_000, last: 69_999 },
      { first: 299_990, last: 299_999 },
    ]);
  });

  test("headers go with every request, also behind a redirect on the same server", async () => {
    const seen: (string | undefined)[] = [];
    const url = await serve((request, response) => {
      seen.push(request.headers.authorization);
      if (request.url!.startsWith("/models")) response.writeHead(302, { Location: "/elsewhere" }).end();
      else answer(response, rangeOf(request));
    });
    const source = await httpSource(new URL(url), { headers: { Authorization: "Bearer x" } });
    await readAt(source, 100_000, 10);
    expect(seen).toEqual(["Bearer x", "Bearer x", "Bearer x", "Bearer x"]);
  });

  test("another fetch can make the requests", async () => {
    const url = await serve((request, response) => answer(response, rangeOf(request)));
    const spy = vi.fn((...args: Parameters<typeof fetch>) => fetch(...args));
    const source = await httpSource(url, { fetch: spy });
    await readAt(source, 100_000, 10);
    expect(spy).toHaveBeenCalledTimes(2);
  });

  test("a server that gives less than asked is asked again for the rest", async () => {
    const url = await serve((request, response) => {
      const { first, last } = rangeOf(request);
      answer(response, { first, last: Math.min(last, first + 39_999) });
    });
    const source = await httpSource(url);
    expect(await readAt(source, 100_000, 150_000)).toEqual(FILE.subarray(100_000, 250_000));
  });

  test("an empty file has length 0", async () => {
    const url = await serve((_, response) => response.writeHead(416, { "Content-Range": "bytes */0" }).end());
    const source = await httpSource(url);
    expect(source.byteLength).toBe(0);
    await expect(readAt(source, 0, 1)).rejects.toThrow("bytes 0 to 1 are needed, but the file has 0");
  });
});

describe("a broken connection", () => {
  test("a read goes on from what has arrived", async () => {
    const ranges: Range[] = [];
    const url = await serve((request, response) => {
      const range = rangeOf(request);
      ranges.push(range);
      if (ranges.length === 2 || ranges.length === 3) breakOff(response, range, 30_000);
      else answer(response, range);
    });
    const source = await httpSource(url);
    expect(await readAt(source, 100_000, 100_000)).toEqual(FILE.subarray(100_000, 200_000));
    expect(ranges.slice(1).map(({ first }) => first)).toEqual([100_000, 130_000, 160_000]);
  });

  test("opening is tried again too", async () => {
    let nRequests = 0;
    const url = await serve((request, response) => {
      if (++nRequests === 1) breakOff(response, rangeOf(request), 1000);
      else answer(response, rangeOf(request));
    });
    skipPauses();
    expect((await httpSource(url)).byteLength).toBe(FILE.length);
  });

  test("a server that always breaks off is given up after five attempts", async () => {
    let nRequests = 0;
    const url = await serve((request, response) => {
      nRequests++;
      if (nRequests === 1) answer(response, rangeOf(request));
      else breakOff(response, rangeOf(request), 10);
    });
    const source = await httpSource(url);
    const reading = readAt(source, 100_000, 100_000);
    await expect(reading).rejects.toThrow(DeviceError);
    await expect(reading).rejects.toThrow("reading failed 5 times, at last because ");
    expect(nRequests).toBe(6);
  });

  test("the count starts again after each mebibyte", async () => {
    const total = 8 * 2 ** 20;
    let nRequests = 0;
    const fake = (_: unknown, init?: RequestInit): Promise<Response> => {
      nRequests++;
      const [first, last] = /(\d+)-(\d+)/
        .exec(new Headers(init?.headers).get("range")!)!
        .slice(1)
        .map(Number);
      const end = Math.min(last! + 1, total);
      const body = new Uint8Array(Math.min(end - first!, 2 ** 20)).fill(nRequests);
      return Promise.resolve(
        new Response(body, {
          status: 206,
          headers: { "Content-Range": `bytes ${first!}-${end - 1}/${total}` },
        }),
      );
    };
    const source = await httpSource("http://example.test/x", { fetch: fake });
    await readAt(source, 0, total);
    expect(nRequests).toBe(9);
  });

  test.each([429, 500, 503])("status %d is tried again, five times at most", async (status) => {
    let nRequests = 0;
    const url = await serve((request, response) => {
      if (++nRequests < 3) response.writeHead(status).end("busy");
      else answer(response, rangeOf(request));
    });
    skipPauses();
    expect((await httpSource(url)).byteLength).toBe(FILE.length);
    const always = await serve((_, response) => response.writeHead(status).end("busy"));
    await expect(httpSource(always)).rejects.toThrow(DeviceError);
    await expect(httpSource(always)).rejects.toThrow(
      `failed 5 times, at last because the server answered ${status}`,
    );
  });

  test("nobody at the address is a DeviceError", async () => {
    skipPauses();
    const url = await serve(() => undefined);
    const server = servers.pop()!;
    await new Promise((resolve) => server.close(resolve));
    await expect(httpSource(url)).rejects.toThrow(DeviceError);
    await expect(httpSource(url)).rejects.toThrow("ECONNREFUSED");
  });
});

describe("a server without ranges", () => {
  test("gives a small file whole, with one request", async () => {
    let nRequests = 0;
    const url = await serve((_, response) => {
      nRequests++;
      response.writeHead(200).end(FILE);
    });
    const source = await httpSource(url);
    expect(source.byteLength).toBe(FILE.length);
    expect(await readAt(source, 200_000, 100_000)).toEqual(FILE.subarray(200_000));
    expect(nRequests).toBe(1);
  });

  test("a large file is refused by its announced length, and without one once it is too long", async () => {
    const announced = await serve((_, response) => {
      response.writeHead(200, { "Content-Length": String(64 * 2 ** 20 + 1) });
      response.write(FILE);
    });
    await expect(httpSource(announced)).rejects.toThrow(UnsupportedError);
    await expect(httpSource(announced)).rejects.toThrow("does not answer range requests");
    const endless = await serve((_, response) => {
      const piece = new Uint8Array(2 ** 20);
      const more = (): void => {
        if (!response.destroyed) response.write(piece, more);
      };
      more();
    });
    await expect(httpSource(endless)).rejects.toThrow("the file has more than 67108864 bytes");
  });

  test("a body shorter than announced is fetched again", async () => {
    let nRequests = 0;
    const url = await serve((_, response) => {
      response.writeHead(200, { "Content-Length": String(FILE.length) });
      if (++nRequests > 1) response.end(FILE);
      else response.write(FILE.subarray(0, 10), () => setImmediate(() => response.destroy()));
    });
    skipPauses();
    expect(await readAt(await httpSource(url), 0, FILE.length)).toEqual(FILE);
    const short = () =>
      Promise.resolve(new Response(new Uint8Array(3), { status: 200, headers: { "Content-Length": "4" } }));
    await expect(httpSource("http://example.test/", { fetch: short })).rejects.toThrow("after 3 of 4 bytes");
  });

  test("one that loses its ranges on the way is a DeviceError", async () => {
    let nRequests = 0;
    const url = await serve((request, response) => {
      if (++nRequests === 1) answer(response, rangeOf(request));
      else response.writeHead(200).end(FILE);
    });
    skipPauses();
    const source = await httpSource(url);
    await expect(readAt(source, 100_000, 10)).rejects.toThrow("answered a range request with the whole file");
  });
});

describe("a file that changes on the server is a FormatError", () => {
  async function changing(then: (request: IncomingMessage, response: ServerResponse) => void) {
    let nRequests = 0;
    const url = await serve((request, response) => {
      if (++nRequests === 1) answer(response, rangeOf(request));
      else then(request, response);
    });
    return httpSource(url);
  }

  test("seen by its ETag, of which only the value counts", async () => {
    const changed = await changing((request, response) =>
      answer(response, rangeOf(request), { ETag: '"two"' }),
    );
    await expect(readAt(changed, 100_000, 10)).rejects.toThrow(FormatError);
    await expect(readAt(changed, 100_000, 10)).rejects.toThrow('its ETag was "one" and is now "two"');
    const same = await changing((request, response) =>
      answer(response, rangeOf(request), { ETag: 'W/"one"' }),
    );
    expect(await readAt(same, 100_000, 10)).toEqual(FILE.subarray(100_000, 100_010));
  });

  test("seen by its length", async () => {
    const longer = await changing((request, response) => {
      const { first, last } = rangeOf(request);
      answer(response, { first, last }, { "Content-Range": `bytes ${first}-${last}/300001` });
    });
    await expect(readAt(longer, 100_000, 10)).rejects.toThrow("it had 300000 bytes and now has 300001");
    const shorter = await changing((_, response) => response.writeHead(416).end());
    await expect(readAt(shorter, 100_000, 10)).rejects.toThrow("bytes 100000 to 100010 no longer exist");
  });
});

describe("answers that cannot be trusted", () => {
  test.each([
    ["another range than asked for", "bytes 1-9/300000"],
    ["more than asked for", "bytes 0-99999/300000"],
    ["a range that ends before it begins", "bytes 0-9/5"],
  ])("%s is a FormatError", async (_, contentRange) => {
    const url = await serve((__, response) =>
      response.writeHead(206, { "Content-Range": contentRange }).end("x"),
    );
    await expect(httpSource(url)).rejects.toThrow(FormatError);
    await expect(httpSource(url)).rejects.toThrow(contentRange);
  });

  test("more bytes than announced are a FormatError", async () => {
    const url = await serve((_, response) => {
      response.writeHead(206, { "Content-Range": "bytes 0-4/5" }).end("0123456789");
    });
    await expect(httpSource(url)).rejects.toThrow("announced 5 bytes but gave more");
  });

  test.each([
    ["no Content-Range", {}],
    ["an unknown total", { "Content-Range": "bytes 0-4/*" }],
    ["a compressed part", { "Content-Range": "bytes 0-4/5", "Content-Encoding": "x-none" }],
  ])("%s is unsupported", async (_, headers) => {
    const url = await serve((__, response) =>
      response.writeHead(206, headers as Record<string, string>).end("01234"),
    );
    await expect(httpSource(url)).rejects.toThrow(UnsupportedError);
    await expect(httpSource(url)).rejects.toThrow("Access-Control-Expose-Headers");
  });
});

describe("refused", () => {
  test.each([
    [401, "refuses access (401 Unauthorized)"],
    [403, "refuses access (403 Forbidden)"],
    [404, "knows no such file (404 Not Found)"],
    [410, "knows no such file (410 Gone)"],
  ])(
    "status %d as a UsageError, without another attempt or the token of the address",
    async (status, message) => {
      let nRequests = 0;
      const url = await serve((_, response) => {
        nRequests++;
        response.writeHead(status).end();
      });
      const opening = httpSource(url);
      await expect(opening).rejects.toThrow(UsageError);
      await expect(opening).rejects.toThrow(message);
      await expect(opening).rejects.not.toThrow("secret");
      expect(nRequests).toBe(1);
    },
  );

  test("any other status as a DeviceError", async () => {
    const url = await serve((_, response) => response.writeHead(418).end());
    await expect(httpSource(url)).rejects.toThrow(
      "expected the answer 206 to a range request, but the server gave 418",
    );
  });

  test.each([
    ["models/m.st", "is not an address"],
    ["ftp://example.test/m.st", "ftp:// addresses cannot be opened"],
    ["http://user:secret@example.test/m.st", "example.test: the address holds a password"],
  ])("%s as a UsageError", async (url, message) => {
    await expect(httpSource(url)).rejects.toThrow(UsageError);
    await expect(httpSource(url)).rejects.toThrow(message);
  });

  test("an address relative to a page is found from there", async () => {
    vi.stubGlobal("location", { href: "http://example.test/app/index.html" });
    const fake = () => Promise.resolve(new Response("{}"));
    expect((await httpSource("m.st", { fetch: fake })).name).toBe("http://example.test/app/m.st");
  });
});

describe("ending early", () => {
  test("an aborted opening or read rejects with the reason, also between two attempts", async () => {
    await expect(httpSource("http://127.0.0.1:9/", { signal: AbortSignal.abort("stop") })).rejects.toBe(
      "stop",
    );
    const controller = new AbortController();
    let nRequests = 0;
    const url = await serve((request, response) => {
      if (++nRequests === 1) answer(response, rangeOf(request));
      else controller.abort("enough"); // and never answers
    });
    const source = await httpSource(url);
    await expect(source.read(100_000, new Uint8Array(10), controller.signal)).rejects.toBe("enough");

    const between = new AbortController();
    const busy = await serve((_, response) =>
      response.writeHead(503).end(() => setTimeout(() => between.abort("now"), 20)),
    );
    await expect(httpSource(busy, { signal: between.signal })).rejects.toBe("now");
  });

  test("close ends reads under way with a UsageError, and those that follow", async () => {
    let nRequests = 0;
    let seen = (): void => undefined;
    const asked = new Promise<void>((resolve) => (seen = resolve));
    const url = await serve((request, response) => {
      if (++nRequests === 1) answer(response, rangeOf(request));
      else seen();
    });
    const source = await httpSource(url);
    const reading = readAt(source, 100_000, 10);
    reading.catch(() => undefined); // rejected before it is awaited below
    await asked;
    await source.close();
    await source.close();
    await expect(reading).rejects.toThrow("was closed while it was being read");
    await expect(readAt(source, 0, 10)).rejects.toThrow("was closed and cannot be read any more");
  });

  test("a range past the end is refused without a request", async () => {
    let nRequests = 0;
    const url = await serve((request, response) => {
      nRequests++;
      answer(response, rangeOf(request));
    });
    const source = await httpSource(url);
    await expect(readAt(source, 299_999, 2)).rejects.toThrow(FormatError);
    expect(nRequests).toBe(1);
  });
});
