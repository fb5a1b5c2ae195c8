// Reads the keys of a configuration, one by one, and says which key is wrong and what was expected. Every key must be
// read: one that is left over is an error too, since it was meant to do something.

import { UsageError } from "rwkv";

export class Fields {
  readonly #path: string;
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #known = new Set<string>();

  /** @param path - of these fields in the whole, such as `data`; empty for the whole itself */
  constructor(value: unknown, path = "") {
    this.#path = path;
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new UsageError(
        `${path === "" ? "The configuration" : path} should be an object; found ${shown(value)}.`,
      );
    }
    this.#values = value as Readonly<Record<string, unknown>>;
  }

  has(key: string): boolean {
    this.#known.add(key);
    return this.#values[key] !== undefined;
  }

  raw(key: string): unknown {
    this.#known.add(key);
    return this.#values[key];
  }

  section(key: string, fallback?: object): Fields {
    return new Fields(this.raw(key) ?? fallback, this.name(key));
  }

  text(key: string, fallback?: string): string {
    const value = this.raw(key) ?? fallback;
    if (typeof value === "string" && value !== "") return value;
    throw this.wrong(key, "a text that is not empty");
  }

  texts(key: string): string[] {
    const value = this.raw(key);
    const isList = Array.isArray(value) && value.length > 0;
    if (isList && value.every((each): each is string => typeof each === "string" && each !== ""))
      return value;
    throw this.wrong(key, "a list of one or more texts");
  }

  choice<Name extends string>(key: string, names: readonly Name[], fallback?: Name): Name {
    const value = this.raw(key) ?? fallback;
    const found = names.find((name) => name === value);
    if (found !== undefined) return found;
    throw this.wrong(key, `one of ${names.map((name) => `"${name}"`).join(", ")}`);
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.raw(key) ?? fallback;
    if (typeof value === "boolean") return value;
    throw this.wrong(key, "true or false");
  }

  /** A number in [least, most]. */
  number(key: string, least: number, most: number, fallback?: number): number {
    const value = this.raw(key) ?? fallback;
    if (typeof value === "number" && value >= least && value <= most) return value;
    throw this.wrong(key, `a number from ${least} to ${most}`);
  }

  /** A whole number in [least, most]. */
  whole(key: string, least: number, most: number, fallback?: number): number {
    const value = this.raw(key) ?? fallback;
    if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most) {
      return value as number;
    }
    throw this.wrong(key, `a whole number from ${least} to ${most}`);
  }

  /** @throws UsageError if a key was not asked for */
  end(): void {
    const extra = Object.keys(this.#values).find((key) => !this.#known.has(key));
    if (extra === undefined) return;
    throw new UsageError(
      `${this.name(extra)} is no key of the configuration; expected ${[...this.#known].map((key) => this.name(key)).join(", ")}.`,
    );
  }

  wrong(key: string, expected: string): UsageError {
    return new UsageError(`${this.name(key)} should be ${expected}; found ${shown(this.#values[key])}.`);
  }

  name(key: string): string {
    return this.#path === "" ? key : `${this.#path}.${key}`;
  }
}

function shown(value: unknown): string {
  return value === undefined ? "nothing" : JSON.stringify(value);
}
