// A grammar of stories as data, and the two things done with it: telling a story (here) and judging one (parser.ts).
// A template names a field of a slot as {hero.his}; a slot stands for one row of its table through the whole story, so that
// whatever was said first stays true.

import type { SeededRandom } from "../random.ts";

/** What a slot may stand for: words by field. */
export type Row = Readonly<Record<string, string>>;

export interface Slot {
  readonly table: readonly Row[];
  /** Another slot, whose row this one may not share. */
  readonly differsFrom?: string;
}

/** A question that the sentence beside it answers; both are templates. */
export interface Question {
  readonly ask: string;
  readonly answer: string;
}

/** One way to tell a section: whole sentences, and what may be asked about them. An empty text leaves the section out. */
export interface Telling {
  readonly text: string;
  readonly questions?: readonly Question[];
}

export type Section = readonly Telling[];

export interface Plot {
  readonly name: string;
  readonly sections: readonly Section[];
}

export interface StoryGrammar {
  readonly slots: Readonly<Record<string, Slot>>;
  readonly plots: readonly Plot[];
}

/** The row of each slot. */
export type Cast = Readonly<Record<string, Row>>;

export interface Story {
  readonly plot: string;
  readonly text: string;
  readonly cast: Cast;
  /** Slots that the text mentions. */
  readonly mentioned: ReadonlySet<string>;
  /** In order; the text is made of them. */
  readonly passages: readonly Passage[];
}

/** Sentences that belong together, and all that may be asked about them; answers are made of their words. */
export interface Passage {
  readonly text: string;
  readonly questions: readonly Question[];
}

/** A template in pieces: fixed text, or a field of a slot. */
export type Piece = string | { readonly slot: string; readonly field: string };

const pieces = new Map<string, readonly Piece[]>();

/** The pieces of a template, remembered: the same few hundred are read for every story. */
export function piecesOf(template: string): readonly Piece[] {
  let found = pieces.get(template);
  if (found === undefined) {
    found = template
      .split(/(\{\w+\.\w+\})/)
      .filter((part) => part !== "")
      .map((part) => {
        const reference = /^\{(\w+)\.(\w+)\}$/.exec(part);
        return reference === null ? part : { slot: reference[1]!, field: reference[2]! };
      });
    pieces.set(template, found);
  }
  return found;
}

/** A field of a row; a capital first letter asks for the field in small letters, capitalised. */
export function fieldOf(row: Row, field: string): string {
  const exact = row[field];
  if (exact !== undefined) return exact;
  const small = row[field.charAt(0).toLowerCase() + field.slice(1)]!;
  return small.charAt(0).toUpperCase() + small.slice(1);
}

function fill(template: string, cast: Cast): string {
  return piecesOf(template)
    .map((piece) => (typeof piece === "string" ? piece : fieldOf(cast[piece.slot]!, piece.field)))
    .join("");
}

/** A row for every slot. */
function drawCast(grammar: StoryGrammar, random: SeededRandom): Cast {
  const cast: Record<string, Row> = {};
  for (const [name, { table, differsFrom }] of Object.entries(grammar.slots)) {
    const taken = differsFrom === undefined ? undefined : cast[differsFrom];
    do cast[name] = random.pick(table);
    while (cast[name] === taken);
  }
  return cast;
}

/** Tells a story. The same state of `random` gives the same story. */
export function tellStory(grammar: StoryGrammar, random: SeededRandom): Story {
  const cast = drawCast(grammar, random);
  const plot = random.pick(grammar.plots);
  const tellings = plot.sections
    .map((section) => random.pick(section))
    .filter((telling) => telling.text !== "");
  const mentioned = new Set<string>();
  for (const { text } of tellings) {
    for (const piece of piecesOf(text)) if (typeof piece !== "string") mentioned.add(piece.slot);
  }
  const passages = tellings.map(({ text, questions = [] }) => ({
    text: fill(text, cast),
    questions: questions.map(({ ask, answer }) => ({ ask: fill(ask, cast), answer: fill(answer, cast) })),
  }));
  return { plot: plot.name, text: passages.map(({ text }) => text).join(" "), cast, mentioned, passages };
}
