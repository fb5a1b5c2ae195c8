// A file on a web server, read piece by piece with range requests (RFC 9110, section 14). Hides redirects, broken
// connections, and servers without ranges. Nothing is fetched but what is asked for, and the first 64 KiB.

import { checkRange, type ByteSource } from "../core/byte-source.ts";
import {
  DeviceError,
  FormatError,
  RwkvError,
  systemError,
  UnsupportedError,
  UsageError,
} from "../core/errors.ts";

export interface HttpSourceOptions {
  /** Makes the requests. Default: the global `fetch`. */
  readonly fetch?: typeof fetch | undefined;
  /** Sent with every request, such as `Authorization`. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Ends the opening; each later read has its own signal. */
  readonly signal?: AbortSignal | undefined;
}

/** Fetched on opening, because every format begins with its header. */
const HEAD_BYTES = 64 * 1024;
/** A server without ranges gives everything or nothing; so much is taken. */
const MAX_WHOLE_BYTES = 64 * 2 ** 20;
/** Requests in a row that bring less than PROGRESS_BYTES before a read is given up. */
const MAX_ATTEMPTS = 5;
const PROGRESS_BYTES = 2 ** 20;
/** Doubled after every attempt that brought nothing. */
const FIRST_DELAY_MS = 100;

/**
 * Opens a file on a web server. Its length and its first bytes are fetched now, everything else by `read`.
 * @throws UsageError if the address is wrong, unknown to the server, or needs credentials
 * @throws UnsupportedError if the server does not answer range requests and the file is larger than 64 MB
 * @throws DeviceError if the server cannot be reached or fails, also after several attempts
 * @throws the signal's reason if aborted
 */
export async function httpSource(url: string | URL, options: HttpSourceOptions = {}): Promise<ByteSource> {
  const file = new HttpFile(parseAddress(url), options);
  await file.start(options.signal);
  return file;
}

class HttpFile implements ByteSource {
  readonly name: string;
  byteLength = 0;
  readonly #url: URL;
  readonly #fetch: typeof fetch;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #closing = new AbortController();
  /** The first bytes of the file; all of them if the server has no ranges. */
  #head: Uint8Array = new Uint8Array(0);
  #etag: string | null = null;

  constructor(url: URL, options: HttpSourceOptions) {
    this.#url = url;
    // What follows the path may be a signature or a token: it has no place in messages.
    this.name = url.origin + url.pathname;
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#headers = options.headers ?? {};
  }

  async start(signal: AbortSignal | undefined): Promise<void> {
    this.#head = await this.#withRetries(signal, () => this.#readHead(signal));
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this, offset, target.byteLength);
    if (this.#closing.signal.aborted)
      throw new UsageError(`${this.name} was closed and cannot be read any more.`);
    const end = offset + target.byteLength;
    if (end <= this.#head.byteLength) {
      target.set(this.#head.subarray(offset, end));
      return;
    }
    const progress = { bytesDone: 0 };
    await this.#withRetries(signal, () => this.#readRange(offset, target, progress, signal), progress);
  }

  close(): Promise<void> {
    this.#closing.abort(new UsageError(`${this.name} was closed while it was being read.`));
    return Promise.resolve();
  }

  /** Learns length and etag from the answer to the first range; returns the bytes it brought. */
  async #readHead(signal: AbortSignal | undefined): Promise<Uint8Array> {
    const response = await this.#request(0, HEAD_BYTES, signal);
    this.#etag = response.headers.get("etag");
    if (response.status === 416) {
      await cancel(response);
      // The only file without a first byte is the empty one; its Content-Range says so, but need not be readable.
      return new Uint8Array(0);
    }
    if (response.status === 200) return this.#readWhole(response);
    const range = await this.#contentRange(response, 0, HEAD_BYTES);
    const head = new Uint8Array(range.end);
    await this.#fill(response, head, { bytesDone: 0 });
    this.byteLength = range.total;
    return head;
  }

  /** The body of a server that answers a range with everything. */
  async #readWhole(response: Response): Promise<Uint8Array> {
    const announced = Number(response.headers.get("content-length") ?? "0");
    const pieces: Uint8Array[] = [];
    let byteLength = 0;
    if (announced <= MAX_WHOLE_BYTES) {
      for await (const piece of piecesOf(response)) {
        byteLength += piece.byteLength;
        if (byteLength > MAX_WHOLE_BYTES) break;
        pieces.push(piece);
      }
    }
    if (announced > MAX_WHOLE_BYTES || byteLength > MAX_WHOLE_BYTES) {
      await cancel(response);
      throw new UnsupportedError(
        `${this.name}: the server does not answer range requests, and the file has more than ${MAX_WHOLE_BYTES} bytes. ` +
          `Download the file and open it from disk, or use a server that sends "Accept-Ranges: bytes".`,
      );
    }
    // A compressed body has another length than the header announces; its own checksum guards it.
    if (announced > byteLength && response.headers.get("content-encoding") === null) {
      throw new Interrupted(`the body ended after ${byteLength} of ${announced} bytes`);
    }
    const whole = new Uint8Array(byteLength);
    let at = 0;
    for (const piece of pieces) {
      whole.set(piece, at);
      at += piece.byteLength;
    }
    this.byteLength = byteLength;
    return whole;
  }

  /** Asks for what is missing of `target`; what arrives before a broken connection stays. */
  async #readRange(
    offset: number,
    target: Uint8Array,
    progress: Progress,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const from = offset + progress.bytesDone;
    const to = offset + target.byteLength;
    const response = await this.#request(from, to, signal);
    const etag = response.headers.get("etag");
    if (this.#etag !== null && etag !== null && withoutWeakness(etag) !== withoutWeakness(this.#etag)) {
      await cancel(response);
      throw this.#changed(`its ETag was ${this.#etag} and is now ${etag}`);
    }
    if (response.status === 416) {
      await cancel(response);
      throw this.#changed(`bytes ${from} to ${to} no longer exist`);
    }
    if (response.status === 200) {
      await cancel(response);
      throw new Interrupted("the server answered a range request with the whole file");
    }
    const range = await this.#contentRange(response, from, to);
    if (range.total !== this.byteLength) {
      await cancel(response);
      throw this.#changed(`it had ${this.byteLength} bytes and now has ${range.total}`);
    }
    await this.#fill(response, target.subarray(progress.bytesDone, range.end - offset), progress);
    if (range.end < to) throw new Interrupted(`the server gave bytes ${from} to ${range.end} only`);
  }

  /** @returns an answer of status 200, 206 or 416; any other is an error */
  async #request(from: number, to: number, signal: AbortSignal | undefined): Promise<Response> {
    const signals = signal === undefined ? [this.#closing.signal] : [this.#closing.signal, signal];
    const response = await this.#fetch(this.#url, {
      headers: { ...this.#headers, Range: `bytes=${from}-${to - 1}` },
      signal: AbortSignal.any(signals),
    });
    if (response.status === 200 || response.status === 206 || response.status === 416) return response;
    await cancel(response);
    const answer = `${response.status} ${response.statusText}`.trim();
    switch (response.status) {
      case 401:
      case 403:
        throw new UsageError(
          `${this.name}: the server refuses access (${answer}). Check the address, and pass credentials as headers if ` +
            `the file needs them.`,
        );
      case 404:
      case 410:
        throw new UsageError(`${this.name}: the server knows no such file (${answer}). Check the address.`, {
          cause: systemError("ENOENT", answer),
        });
      case 408:
      case 429:
        throw new Interrupted(`the server answered ${answer}`);
      default:
        if (response.status >= 500) throw new Interrupted(`the server answered ${answer}`);
        throw new DeviceError(
          `${this.name}: expected the answer 206 to a range request, but the server gave ${answer}. Check the address.`,
        );
    }
  }

  /** The range that a 206 brings: from `from` as asked, to at most `to`. */
  async #contentRange(response: Response, from: number, to: number): Promise<{ end: number; total: number }> {
    const header = response.headers.get("content-range");
    const fields = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(header ?? "");
    const encoding = response.headers.get("content-encoding") ?? "identity";
    if (fields === null || encoding !== "identity") {
      await cancel(response);
      throw new UnsupportedError(
        `${this.name}: a part of the file needs a header "Content-Range: bytes first-last/total" and no compression, ` +
          `but the server gave ${header === null ? "none that can be seen" : `"${header.slice(0, 80)}"`}, encoding ${encoding}. ` +
          `Have it send "Access-Control-Expose-Headers: Content-Range, ETag" if it is another site's, or download the file.`,
      );
    }
    const [first, last, total] = fields.slice(1).map(Number) as [number, number, number];
    if (first !== from || last < first || last >= to || last >= total) {
      await cancel(response);
      throw new FormatError(
        `${this.name}: bytes ${from} to ${to} were asked for, but the server gave "${header ?? ""}". ` +
          `The server is at fault: download the file by other means.`,
      );
    }
    return { end: last + 1, total };
  }

  /** Moves the body into `target`, counting in `progress` so that a later request can go on from there. */
  async #fill(response: Response, target: Uint8Array, progress: Progress): Promise<void> {
    let done = 0;
    for await (const piece of piecesOf(response)) {
      if (done + piece.byteLength > target.byteLength) {
        throw new FormatError(
          `${this.name}: the server announced ${target.byteLength} bytes but gave more. ` +
            `The server is at fault: download the file by other means.`,
        );
      }
      target.set(piece, done);
      done += piece.byteLength;
      progress.bytesDone += piece.byteLength;
    }
    if (done < target.byteLength) {
      throw new Interrupted(`the connection ended after ${done} of ${target.byteLength} bytes`);
    }
  }

  #changed(how: string): FormatError {
    return new FormatError(
      `${this.name} changed on the server while it was being read: ${how}. Open it again.`,
    );
  }

  /** Repeats `attempt` while it brings bytes; gives up after MAX_ATTEMPTS in a row that bring next to none. */
  async #withRetries<Result>(
    signal: AbortSignal | undefined,
    attempt: () => Promise<Result>,
    progress: Progress = { bytesDone: 0 },
  ): Promise<Result> {
    let nFutile = 0;
    let bytesCounted = 0;
    for (;;) {
      const bytesBefore = progress.bytesDone;
      try {
        return await attempt();
      } catch (cause) {
        signal?.throwIfAborted();
        this.#closing.signal.throwIfAborted();
        if (cause instanceof RwkvError) throw cause;
        if (progress.bytesDone - bytesCounted >= PROGRESS_BYTES) {
          nFutile = 0;
          bytesCounted = progress.bytesDone;
        }
        nFutile++;
        if (nFutile === MAX_ATTEMPTS) {
          throw new DeviceError(
            `${this.name}: reading failed ${MAX_ATTEMPTS} times, at last because ${reasonOf(cause)}. ` +
              `Check the connection and try again, or download the file first.`,
            { cause },
          );
        }
        if (progress.bytesDone === bytesBefore) await delay(FIRST_DELAY_MS * 2 ** (nFutile - 1), signal);
      }
    }
  }
}

/** Bytes of a read that have arrived, over all its requests. */
interface Progress {
  bytesDone: number;
}

/** What may go better the next time. */
class Interrupted extends Error {}

async function* piecesOf(response: Response): AsyncGenerator<Uint8Array> {
  if (response.body === null) return;
  // By hand, not `for await` over the body: Safari's streams cannot be iterated.
  const reader = response.body.getReader();
  let isWhole = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      yield value;
    }
    isWhole = true;
  } finally {
    // Whoever stops half-way wants no more; a stream that has failed rejects this too, and has said why already.
    if (!isWhole) await reader.cancel().catch(() => undefined);
    reader.releaseLock();
  }
}

/** Ends a body that is not wanted, so that its connection does not linger. */
async function cancel(response: Response): Promise<void> {
  if (response.body === null || response.bodyUsed) return;
  await response.body.cancel().catch(() => undefined);
}

function withoutWeakness(etag: string): string {
  return etag.startsWith("W/") ? etag.slice(2) : etag;
}

/** fetch says "fetch failed" and keeps what happened in `cause`. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

/** @throws UsageError if this is no address, or of another protocol */
export function parseAddress(url: string | URL): URL {
  const page = (globalThis as { readonly location?: { readonly href: string } }).location?.href;
  let address: URL;
  try {
    address = new URL(url, page);
  } catch (cause) {
    throw new UsageError(
      `"${String(url)}" is not an address. Give one that begins with http:// or https://.`,
      { cause },
    );
  }
  if (address.protocol !== "http:" && address.protocol !== "https:") {
    throw new UsageError(
      `${address.protocol}// addresses cannot be opened. Give one of http:// or https://, or the bytes.`,
    );
  }
  if (address.username !== "" || address.password !== "") {
    throw new UsageError(
      `${address.host}: the address holds a password. Pass it as a header "Authorization" instead.`,
    );
  }
  return address;
}

function delay(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- the reason is the caller's own
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
