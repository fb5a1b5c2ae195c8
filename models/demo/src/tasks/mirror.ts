// A task for tuning that the corpus does not have: a word that stands alone is to be spelled backwards. The model can
// spell backwards when it is asked to, but nobody has told it that a bare word asks for that.

import type { Turn } from "../chat.ts";
import type { SeededRandom, Split } from "../random.ts";
import { quoted, reversed } from "./spelling.ts";
import { drawWord } from "./words.ts";

export function mirrorTurn(random: SeededRandom, split: Split): Turn {
  const word = drawWord(random, split);
  return { user: quoted(word), assistant: quoted(reversed(word)) };
}
