// The tokens before the one to be drawn, as the steps that avoid repetition see them.

/** Tokens that are remembered, as many as a session keeps. */
export const MAX_HISTORY = 1024;

/** The last tokens read or generated. */
export class History {
  /** Tokens remembered, at most `MAX_HISTORY`. */
  count = 0;
  /** Tokens of the answer so far: those drawn since the last prompt. May exceed `count`. */
  nGenerated = 0;
  /** The last `count` before `#end`; moved to the front when the end is reached. */
  readonly #tokens = new Int32Array(2 * MAX_HISTORY);
  #end = 0;

  /** The token that many places back; 0 is the last one. */
  recent(age: number): number {
    return this.#tokens[this.#end - 1 - age]!;
  }

  /** Adds the last `n` tokens, or as many as are remembered. */
  addRecent(ids: Set<number>, n: number): void {
    for (let age = Math.min(n, this.count) - 1; age >= 0; age--) ids.add(this.recent(age));
  }

  /** Starts over with tokens that were read, the last of them drawn in the answer that goes on. */
  begin(tokens: readonly number[], nGenerated: number): void {
    this.count = 0;
    this.#end = 0;
    for (let i = Math.max(0, tokens.length - MAX_HISTORY); i < tokens.length; i++) this.push(tokens[i]!);
    this.nGenerated = nGenerated;
  }

  /** A token was drawn. */
  push(token: number): void {
    if (this.#end === this.#tokens.length) {
      this.#tokens.copyWithin(0, this.#end - MAX_HISTORY, this.#end);
      this.#end = MAX_HISTORY;
    }
    this.#tokens[this.#end++] = token;
    if (this.count < MAX_HISTORY) this.count++;
    this.nGenerated++;
  }
}

/** A number for each of a few tokens: scratch of the steps that look back, empty between them. */
export class TokenValues {
  /** The tokens that have a number. Only the first `count` count. */
  readonly tokens = new Int32Array(MAX_HISTORY);
  count = 0;
  /** By token id; 0 for those that have none. */
  #values = new Float64Array(0);
  #isSet = new Uint8Array(0);

  /** What was set for the token, else 0. */
  get(token: number): number {
    return token < this.#values.length ? this.#values[token]! : 0;
  }

  /** Of at most `MAX_HISTORY` different tokens until they are cleared. */
  set(token: number, value: number): void {
    if (token >= this.#values.length) this.#grow(token + 1);
    if (this.#isSet[token] === 0) {
      this.#isSet[token] = 1;
      this.tokens[this.count++] = token;
    }
    this.#values[token] = value;
  }

  /** Forgets all values. */
  clear(): void {
    for (let i = 0; i < this.count; i++) {
      const token = this.tokens[i]!;
      this.#values[token] = 0;
      this.#isSet[token] = 0;
    }
    this.count = 0;
  }

  #grow(least: number): void {
    const length = Math.max(least, 2 * this.#values.length);
    const values = new Float64Array(length);
    values.set(this.#values);
    this.#values = values;
    const isSet = new Uint8Array(length);
    isSet.set(this.#isSet);
    this.#isSet = isSet;
  }
}
