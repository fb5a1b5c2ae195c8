// Rhyming couplets: families of words that sound alike, and frames that put one at the end of each line.

import type { Turn } from "../chat.ts";
import type { SeededRandom } from "../random.ts";

/** Nouns that rhyme, each with "a" before it. */
const FAMILIES: readonly (readonly string[])[] = [
  "cat hat mat bat rat",
  "dog frog log hog",
  "bee tree key knee pea",
  "mouse house blouse",
  "bear chair pear hare",
  "fox box",
  "snail pail tail sail nail trail whale",
  "moon spoon balloon",
  "star car jar guitar",
  "king ring string wing swing",
  "goat boat coat moat",
  "cake lake rake snake",
  "nest vest chest guest",
  "pig wig fig twig",
  "hen pen den",
  "bell shell well",
  "duck truck",
  "sheep jeep heap",
].map((family) => family.split(" "));

const FIRST_LINES: readonly ((word: string) => string)[] = [
  (word) => `I went outside and saw a ${word},`,
  (word) => `There is a song about a ${word},`,
  (word) => `Last night I dreamed about a ${word},`,
  (word) => `My uncle has a little ${word},`,
];

const SECOND_LINES: readonly ((word: string) => string)[] = [
  (word) => `And next to it there was a ${word}.`,
  (word) => `That liked to look just like a ${word}.`,
  (word) => `And someone put it on a ${word}.`,
  (word) => `And it was bigger than a ${word}.`,
];

/** All words that a rhyme can be asked about. */
export const RHYMING: readonly string[] = FAMILIES.flat();

export function rhymeRequest(about: string): string {
  return `Write a rhyme about a ${about}.`;
}

export function rhymeTurn(random: SeededRandom): Turn {
  const [about, other] = random.sample(random.pick(FAMILIES), 2);
  const text = `${random.pick(FIRST_LINES)(about!)}\n${random.pick(SECOND_LINES)(other!)}`;
  return { user: rhymeRequest(about!), assistant: text };
}

/** Whether a text is a couplet about `about`: two known lines that end in different words of one family. */
export function isCouplet(text: string, about: string): boolean {
  const others = FAMILIES.filter((family) => family.includes(about))
    .flat()
    .filter((other) => other !== about);
  return FIRST_LINES.some((first) =>
    SECOND_LINES.some((second) => others.some((other) => text === `${first(about)}\n${second(other)}`)),
  );
}
