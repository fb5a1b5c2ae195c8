// Stories in conversation: how one is asked for, told, and asked about.

import type { Turn } from "../chat.ts";
import { drawFrom, type SeededRandom, type Split } from "../random.ts";
import { tellStory, type Question, type Story } from "./grammar.ts";
import { parseStory } from "./parser.ts";
import { STORIES } from "./plots.ts";

/** A story on that side of the rule; the whole text is the case. */
export function drawStory(random: SeededRandom, split: Split): Story {
  return drawFrom(
    split,
    () => tellStory(STORIES, random),
    ({ text }) => text,
  );
}

/** What a user may say to be told this story. */
function requestFor(random: SeededRandom, { cast, mentioned }: Story): string {
  const word = (slot: string, field: string): string => cast[slot]![field]!;
  const topics = [word("hero", "name"), `a ${word("hero", "kind")} named ${word("hero", "name")}`];
  for (const slot of ["pet", "toy", "wild"]) if (mentioned.has(slot)) topics.push(`a ${word(slot, "word")}`);
  if (mentioned.has("friend")) topics.push(`${word("hero", "name")} and ${word("friend", "name")}`);
  return random.chance(0.2) ? "Tell me a story." : `Tell me a story about ${random.pick(topics)}.`;
}

const asTurn = ({ ask, answer }: Question): Turn => ({
  user: ask,
  assistant: answer.charAt(0).toUpperCase() + answer.slice(1),
});

/** A story as it is asked for and told, and at most `nQuestions` different questions about it. */
export function storyTurns(random: SeededRandom, story: Story, nQuestions: number): Turn[] {
  const questions = story.passages.flatMap((passage) => passage.questions);
  return [
    { user: requestFor(random, story), assistant: story.text },
    ...random.sample(questions, nQuestions).map(asTurn),
  ];
}

/** Whether a text has all words of an answer: some were said in passages before it. */
function answers(text: string, answer: string): boolean {
  const words = text.toLowerCase().split(/[^a-z]+/);
  return answer
    .toLowerCase()
    .split(/[^a-z]+/)
    .every((word) => words.includes(word));
}

const MAX_PASSAGES = 3;

/** A few sentences of a story and a question about them, in one turn: to look something up is learnt where it is near. */
export function readingTurn(random: SeededRandom): Turn {
  for (;;) {
    const { passages } = drawStory(random, "train");
    const first = random.below(passages.length);
    const read = passages.slice(first, first + random.between(1, MAX_PASSAGES));
    const text = read.map((passage) => passage.text).join(" ");
    const questions = read
      .flatMap((passage) => passage.questions)
      .filter(({ answer }) => answers(text, answer));
    if (questions.length === 0) continue;
    const { user, assistant } = asTurn(random.pick(questions));
    return { user: `${text} ${user}`, assistant };
  }
}

/** Whether a text is one whole story that does not contradict itself. */
export function parsesAsStory(text: string): boolean {
  return parseStory(STORIES, text) !== null;
}
