// Tells a model's thoughts from its answer: `<think>`, thoughts, `</think>`, answer, as the G1 models write them.

const OPENING = "<think>";
const CLOSING = "</think>";

/** A piece of what a model wrote. */
export interface WrittenPiece {
  readonly text: string;
  readonly isThought: boolean;
}

/** Splits a stream; tags, and white space before a thought, belong to neither side. */
export class ThoughtSplitter {
  #place: "before" | "inside" | "behind" = "before";
  /** What may still turn out to be a tag, or part of one. */
  #held = "";

  /** @returns what can be told for sure, in order; no piece is empty */
  push(text: string): WrittenPiece[] {
    this.#held += text;
    const pieces: WrittenPiece[] = [];
    if (this.#place === "before") {
      const begun = this.#held.trimStart();
      if (begun.startsWith(OPENING)) {
        this.#place = "inside";
        this.#held = begun.slice(OPENING.length);
      } else if (!OPENING.startsWith(begun)) {
        this.#place = "behind";
      }
    }
    if (this.#place === "inside") {
      const end = this.#held.indexOf(CLOSING);
      const sure = end === -1 ? this.#held.length - nHeldBack(this.#held) : end;
      add(pieces, this.#held.slice(0, sure), true);
      this.#held = this.#held.slice(sure);
      if (end !== -1) {
        this.#place = "behind";
        this.#held = this.#held.slice(CLOSING.length);
      }
    }
    if (this.#place === "behind") {
      add(pieces, this.#held, false);
      this.#held = "";
    }
    return pieces;
  }

  /** What was held back, at the end of the stream. */
  flush(): WrittenPiece[] {
    const pieces: WrittenPiece[] = [];
    add(pieces, this.#held, this.#place === "inside");
    this.#held = "";
    return pieces;
  }
}

/**
 * What a model wrote, taken apart.
 * @returns both without white space at the ends; `thoughts` is null if there are none
 */
export function splitThoughts(written: string): {
  readonly thoughts: string | null;
  readonly answer: string;
} {
  const splitter = new ThoughtSplitter();
  const pieces = [...splitter.push(written), ...splitter.flush()];
  const textOf = (isThought: boolean): string =>
    pieces
      .filter((piece) => piece.isThought === isThought)
      .map(({ text }) => text)
      .join("")
      .trim();
  const thoughts = textOf(true);
  return { thoughts: thoughts === "" ? null : thoughts, answer: textOf(false) };
}

/** The longest end of `text` that the closing tag may begin with. */
function nHeldBack(text: string): number {
  for (let n = Math.min(CLOSING.length - 1, text.length); n > 0; n--) {
    if (text.endsWith(CLOSING.slice(0, n))) return n;
  }
  return 0;
}

function add(pieces: WrittenPiece[], text: string, isThought: boolean): void {
  if (text !== "") pieces.push({ text, isThought });
}
