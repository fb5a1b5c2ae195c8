// Where writers of checkpoint formats put their bytes, in order and once.

/** An append-only destination. `write` may be called again only after the previous call has settled. */
export interface ByteSink {
  /** Takes the bytes; they may be reused by the caller once the promise has settled. */
  write(bytes: Uint8Array): Promise<void>;
}
