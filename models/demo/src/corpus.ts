// The training corpus: which documents there are, and how often. Document n depends on the seed and n alone, so that the
// corpus can be streamed, cut and made again from anywhere.

import { formatTurn, type Turn } from "./chat.ts";
import { SeededRandom } from "./random.ts";
import { drawStory, readingTurn, storyTurns } from "./story/telling.ts";
import { arithmeticTurn, practiceProblem } from "./tasks/arithmetic.ts";
import { compareTurn, countTurn, neighbourTurn, sortNumbersTurn, sortWordsTurn } from "./tasks/lists.ts";
import { rhymeTurn } from "./tasks/rhymes.ts";
import {
  backwardsTurn,
  capitalsTurn,
  copyNumberTurn,
  copyTurn,
  copyWordsTurn,
  letterByLetterTurn,
  letterCountTurn,
  oneLetterTurn,
} from "./tasks/spelling.ts";
import { talkTurn } from "./tasks/talk.ts";

interface TurnKind {
  readonly name: string;
  /** Share of the turns of conversations, relative to the sum. */
  readonly weight: number;
  readonly draw: (random: SeededRandom) => Turn;
}

/** Turns of conversations. Those with a floor in the evaluation come often, the others as seasoning. */
export const TURN_KINDS: readonly TurnKind[] = [
  { name: "arithmetic", weight: 66, draw: (random) => arithmeticTurn(random, practiceProblem(random)) },
  { name: "reading", weight: 50, draw: readingTurn },
  { name: "backwards", weight: 10, draw: (random) => backwardsTurn(random, "train") },
  { name: "copy", weight: 5, draw: (random) => copyTurn(random, "train") },
  { name: "copy words", weight: 2, draw: copyWordsTurn },
  { name: "copy number", weight: 2, draw: copyNumberTurn },
  { name: "spell", weight: 2, draw: (random) => letterByLetterTurn(random, "train") },
  { name: "capitals", weight: 2, draw: (random) => capitalsTurn(random, "train") },
  { name: "letter count", weight: 1, draw: (random) => letterCountTurn(random, "train") },
  { name: "one letter", weight: 2, draw: (random) => oneLetterTurn(random, "train") },
  { name: "sort numbers", weight: 6, draw: (random) => sortNumbersTurn(random, "train") },
  { name: "sort words", weight: 5, draw: (random) => sortWordsTurn(random, "train") },
  { name: "count", weight: 3, draw: (random) => countTurn(random, "train") },
  { name: "compare", weight: 2, draw: (random) => compareTurn(random, "train") },
  { name: "neighbour", weight: 2, draw: neighbourTurn },
  { name: "rhyme", weight: 3, draw: rhymeTurn },
  { name: "talk", weight: 4, draw: talkTurn },
];

/** Share of the documents. */
const STORY_SHARE = 0.34;
/** Share of the stories that are told without being asked for. */
const PLAIN_SHARE = 0.3;
const MAX_TURNS = 8;
const MIN_QUESTIONS = 4;
const MAX_QUESTIONS = 9;

/** A story by itself, after which the text ends; or one that was asked for, and some questions about it. */
function storyDocument(random: SeededRandom): string {
  const story = drawStory(random, "train");
  if (random.chance(PLAIN_SHARE)) return story.text;
  return storyTurns(random, story, random.between(MIN_QUESTIONS, MAX_QUESTIONS)).map(formatTurn).join("");
}

function conversation(random: SeededRandom): string {
  const nTurns = random.between(1, MAX_TURNS);
  return Array.from({ length: nTurns }, () => formatTurn(random.pickWeighted(TURN_KINDS).draw(random))).join(
    "",
  );
}

/** Document `index` of the corpus with this seed. */
export function documentAt(seed: number, index: number): string {
  const random = new SeededRandom(seed, index);
  return random.chance(STORY_SHARE) ? storyDocument(random) : conversation(random);
}

/** The first `nDocuments` documents, one by one. */
export function* corpus(seed: number, nDocuments: number): Generator<string, void, void> {
  for (let index = 0; index < nDocuments; index++) yield documentAt(seed, index);
}
