// A session at a point, as a value: what it takes to go on from there, in any session of the model, to the bit.

import { encodeSessionFile, type SessionDType, type SessionFile } from "../formats/session-file.ts";

/** How a session is saved. */
export interface SaveOptions {
  /** Of the state. `f16` halves the bytes and rounds: what follows is then close to, not equal to, going on. Default `f32`. */
  readonly dtype?: SessionDType | undefined;
}

/**
 * What a session had read and would do next, at one moment. Made by `session.snapshot`, taken by `session.rewind` and
 * `model.createSession`. It never changes, lies in ordinary memory and outlives the session and the model; dropping it
 * frees it.
 */
export class Snapshot {
  /** @internal Not to be changed. */
  readonly contents: SessionFile;

  /** @internal Use `session.snapshot`. */
  constructor(contents: SessionFile) {
    this.contents = contents;
    Object.freeze(this);
  }

  /** SHA-256 of the model whose sessions can take it, as `model.info.fingerprint`. */
  get fingerprint(): string {
    return this.contents.header.fingerprint;
  }

  /** Tokens (or embedding rows) read since the empty state. */
  get nTokens(): number {
    return this.contents.header.nTokens;
  }

  /** The last ids read or generated, oldest first, at most 1,024. */
  get recentTokens(): readonly number[] {
    return this.contents.header.recentTokens;
  }

  /**
   * The bytes that `session.save` gave at that moment, for `model.restore` in any process.
   * @throws UsageError if a number of the state is too large for f16
   */
  save({ dtype = "f32" }: SaveOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    return encodeSessionFile(this.contents, dtype);
  }
}
