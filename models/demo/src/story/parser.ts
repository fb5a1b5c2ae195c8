// Judges a text by the grammar that stories are told with: is it a whole story, and does it stay true to itself? A slot
// keeps the rows that all mentions so far allow; a name, pronoun or thing that contradicts them ends that reading.

import { fieldOf, piecesOf, type Piece, type Row, type StoryGrammar } from "./grammar.ts";

/** What the text was found to be. */
export interface ParsedStory {
  readonly plot: string;
  /** Rows that each mentioned slot may still stand for, at least one. */
  readonly rows: ReadonlyMap<string, readonly Row[]>;
}

type Rows = ReadonlyMap<string, readonly Row[]>;

/** Where a reading of the text has got to. */
type Continue = (position: number, rows: Rows) => Rows | null;

/**
 * Reads `text` as one whole story.
 * @returns null if it is none, or contradicts itself
 */
export function parseStory(grammar: StoryGrammar, text: string): ParsedStory | null {
  const atEnd: Continue = (position, rows) =>
    position === text.length && keepsApart(grammar, rows) ? rows : null;

  for (const plot of grammar.plots) {
    const readSection = (index: number, position: number, rows: Rows): Rows | null => {
      const section = plot.sections[index];
      if (section === undefined) return atEnd(position, rows);
      for (const { text: template } of section) {
        if (template === "") {
          const found = readSection(index + 1, position, rows);
          if (found !== null) return found;
          continue;
        }
        const start = position === 0 ? 0 : position + 1;
        if (position > 0 && text.charAt(position) !== " ") continue;
        const found = readPieces(grammar, text, piecesOf(template), 0, start, rows, (end, bound) =>
          readSection(index + 1, end, bound),
        );
        if (found !== null) return found;
      }
      return null;
    };
    const rows = readSection(0, 0, new Map());
    if (rows !== null) return { plot: plot.name, rows };
  }
  return null;
}

/** Reads the pieces from `index` on, then goes on with `next`; tries every value of a slot that fits the text. */
function readPieces(
  grammar: StoryGrammar,
  text: string,
  pieces: readonly Piece[],
  index: number,
  position: number,
  rows: Rows,
  next: Continue,
): Rows | null {
  const piece = pieces[index];
  if (piece === undefined) return next(position, rows);
  if (typeof piece === "string") {
    if (!text.startsWith(piece, position)) return null;
    return readPieces(grammar, text, pieces, index + 1, position + piece.length, rows, next);
  }
  const { slot, field } = piece;
  const candidates = rows.get(slot) ?? grammar.slots[slot]!.table;
  const values = new Set(candidates.map((row) => fieldOf(row, field)));
  for (const value of values) {
    if (!text.startsWith(value, position)) continue;
    const left = candidates.filter((row) => fieldOf(row, field) === value);
    const bound = new Map(rows).set(slot, left);
    const found = readPieces(grammar, text, pieces, index + 1, position + value.length, bound, next);
    if (found !== null) return found;
  }
  return null;
}

/** Whether slots that must differ can. */
function keepsApart(grammar: StoryGrammar, rows: Rows): boolean {
  return Object.entries(grammar.slots).every(([name, { differsFrom }]) => {
    const own = rows.get(name);
    const other = differsFrom === undefined ? undefined : rows.get(differsFrom);
    if (own === undefined || other === undefined) return true;
    return own.length > 1 || other.length > 1 || own[0] !== other[0];
  });
}
