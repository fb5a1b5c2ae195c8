// Tasks about the letters of a word. Words stand in quotes, where the vocabulary has no token longer than a letter: the
// model sees what it is asked about.

import type { Turn } from "../chat.ts";
import type { SeededRandom, Split } from "../random.ts";
import { drawWord, PLAIN } from "./words.ts";

export const quoted = (text: string): string => `"${text}"`;

export const reversed = (word: string): string => word.split("").reverse().join("");

export function backwardsTurn(random: SeededRandom, split: Split): Turn {
  const word = drawWord(random, split);
  const user = random.pick([
    `Spell ${quoted(word)} backwards.`,
    `Spell ${quoted(word)} backwards.`,
    `Write ${quoted(word)} backwards.`,
  ]);
  return { user, assistant: quoted(reversed(word)) };
}

export function copyTurn(random: SeededRandom, split: Split): Turn {
  const word = drawWord(random, split);
  return { user: `${random.pick(["Repeat", "Copy", "Say"])} ${quoted(word)}.`, assistant: quoted(word) };
}

/** Repeating whole words, which are single tokens. */
export function copyWordsTurn(random: SeededRandom): Turn {
  const words = random.sample(PLAIN, random.between(2, 5)).join(" ");
  return { user: `Repeat these words: ${words}.`, assistant: `${words}.` };
}

export function copyNumberTurn(random: SeededRandom): Turn {
  const number = random.between(10, 99999);
  return { user: `Repeat ${number}.`, assistant: String(number) };
}

export function letterByLetterTurn(random: SeededRandom, split: Split): Turn {
  const word = drawWord(random, split);
  return { user: `Spell ${quoted(word)}.`, assistant: quoted(word.split("").join("-")) };
}

export function capitalsTurn(random: SeededRandom, split: Split): Turn {
  const word = drawWord(random, split);
  return { user: `Write ${quoted(word)} in capital letters.`, assistant: quoted(word.toUpperCase()) };
}

export function letterCountTurn(random: SeededRandom, split: Split): Turn {
  const word = drawWord(random, split);
  return { user: `How many letters are in ${quoted(word)}?`, assistant: String(word.length) };
}

export function oneLetterTurn(random: SeededRandom, split: Split): Turn {
  const word = drawWord(random, split);
  return random.chance(0.5)
    ? { user: `What is the first letter of ${quoted(word)}?`, assistant: quoted(word.charAt(0)) }
    : { user: `What is the last letter of ${quoted(word)}?`, assistant: quoted(word.slice(-1)) };
}
