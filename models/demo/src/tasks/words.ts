// Words to spell, copy and sort: those of the stories, a list of everyday words, and words that do not exist, made of
// syllables or of any letters. Words that do not exist are too many to remember, which is why they are here.

import { drawFrom, type SeededRandom, type Split } from "../random.ts";

/** Everyday words of 3 to 8 letters that most readers know. */
export const EVERYDAY: readonly string[] = (
  "apple arm baby bag ball banana bank barn bath beach bean bear bed bee bell bench bike bird boat body bone book boot " +
  "bottle bowl box branch bread bridge broom brush bucket bus butter button cake camel camp candle cap car card carpet " +
  "castle cat chair cheese cherry chin circle city clock cloud coat coin cold comb corn cow crown cup curtain day deer " +
  "desk dinner dish dog doll door dragon dream dress drum duck eagle ear earth egg elbow evening eye face family farm " +
  "feather fence field finger fire fish flag floor flower foot forest fork fox friend frog fruit garden gate giant gift " +
  "girl glass glove goat gold grape grass hair hammer hand hat head heart hill hole honey horse house ice island jacket " +
  "jam jar jewel juice key king kite kitten knee knife ladder lake lamp leaf leg lemon letter light lion lip lock log " +
  "map mask meadow melon milk mirror money monkey moon morning mouse mouth music nail neck needle nest night nose nut " +
  "ocean oil onion orange owl page paint paper parrot path peach pear pebble pen pencil pepper piano picture pig pillow " +
  "pin plant plate pocket pond potato prince puppy queen rabbit rain ribbon ring river road robe rock roof room root " +
  "rope rose sail salt sand school scissors sea seed sheep shelf shell ship shirt shoe shop silver sister sky sleep " +
  "snail snow soap sock soup spider spoon spring square squirrel stair star steam stick stone storm story street string " +
  "sugar summer sun swan sweet table tail tea tent ticket tiger toast tomato tooth tower town toy train tree trumpet " +
  "turtle uncle valley violin wagon wall water whale wheel window wing winter wolf wood wool yard zebra"
).split(" ");

/** Those that also stand outside quotes, as single tokens; few, so that a small model can learn their order. */
export const PLAIN: readonly string[] = EVERYDAY.filter((_, i) => i % 5 === 0);

const ONSETS =
  "b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl fr gl gr pl pr sh sl sn sp st th tr".split(" ");
const VOWELS = "a e i o u a e i o u ai ea ee oa oo ou".split(" ");
const CODAS = ["", "", "", ..."b d g k l m n p r s t ck ll mp nd nk nt rk rn sh sk st th".split(" ")];
const LETTERS = "abcdefghijklmnopqrstuvwxyz".split("");

const MIN_LETTERS = 3;
const MAX_LETTERS = 8;

/** A word that does not exist, 3 to 8 letters. */
function inventedWord(random: SeededRandom): string {
  for (;;) {
    const nSyllables = random.between(1, 3);
    const word = Array.from(
      { length: nSyllables },
      () => random.pick(ONSETS) + random.pick(VOWELS) + random.pick(CODAS),
    ).join("");
    if (word.length >= MIN_LETTERS && word.length <= MAX_LETTERS) return word;
  }
}

/** Any letters, 3 to 8. */
function letters(random: SeededRandom): string {
  return Array.from({ length: random.between(MIN_LETTERS, MAX_LETTERS) }, () => random.pick(LETTERS)).join(
    "",
  );
}

/** A word to take apart, of any of the three sorts. A word is held out whatever the task. */
export function drawWord(random: SeededRandom, split: Split): string {
  return drawFrom(
    split,
    () => {
      const sort = random.below(10);
      if (sort < 3) return random.pick(EVERYDAY);
      return sort < 8 ? inventedWord(random) : letters(random);
    },
    (word) => word,
  );
}
