// Stories in conversation: how one is asked for, told, and asked about.

import type { Turn } from "../chat.ts";
import { drawFrom, type SeededRandom, type Split } from "../random.ts";
import { tellStory, type Story } from "./grammar.ts";
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

/** A story as it is asked for and told, and at most `nQuestions` different questions about it. */
export function storyTurns(random: SeededRandom, story: Story, nQuestions: number): Turn[] {
  return [
    { user: requestFor(random, story), assistant: story.text },
    ...random.sample(story.questions, nQuestions).map(({ ask, answer }) => ({
      user: ask,
      assistant: answer.charAt(0).toUpperCase() + answer.slice(1),
    })),
  ];
}

/** Whether a text is one whole story that does not contradict itself. */
export function parsesAsStory(text: string): boolean {
  return parseStory(STORIES, text) !== null;
}
