// The words that stories are made of, as rows of the tables behind the slots. Words after "a" begin with a consonant, so
// that no template needs to choose between "a" and "an".

import type { Row } from "./grammar.ts";

const words = (text: string): Row[] => text.split(" ").map((word) => ({ word }));

/** Rows from lines of fields that are separated by slashes. */
const rows = (fields: readonly string[], lines: readonly string[]): Row[] =>
  lines.map((line) => Object.fromEntries(line.split("/").map((value, i) => [fields[i]!, value])));

const person = (kind: string, he: string, him: string, his: string) => (name: string) => ({
  name,
  kind,
  he,
  him,
  his,
});

export const PEOPLE: readonly Row[] = [
  ..."Mia Lily Anna Ella Rosa Nora Zoe Ivy Ruby Clara Emma Lucy"
    .split(" ")
    .map(person("girl", "she", "her", "her")),
  ..."Tom Ben Max Leo Sam Jack Finn Otto Hugo Theo Paul Noah"
    .split(" ")
    .map(person("boy", "he", "him", "his")),
];

export const RELATIVES = rows(
  ["word", "he", "him", "his"],
  [
    "mother/she/her/her",
    "father/he/him/his",
    "grandmother/she/her/her",
    "grandfather/he/him/his",
    "aunt/she/her/her",
    "uncle/he/him/his",
    "sister/she/her/her",
    "brother/he/him/his",
  ],
);

export const TRAITS = words(
  "kind brave clever cheerful curious gentle patient shy lively quiet proud friendly",
);

export const PETS = rows(
  ["word", "called", "moved"],
  [
    "dog/barked/ran",
    "cat/purred/crept",
    "rabbit/sniffed/hopped",
    "pony/neighed/trotted",
    "duck/quacked/waddled",
    "hen/clucked/strutted",
    "goat/bleated/jumped",
    "parrot/whistled/flew",
    "mouse/squeaked/scurried",
    "frog/croaked/leapt",
  ],
);

export const PET_NAMES = words(
  "Biscuit Pepper Pip Button Socks Honey Shadow Poppy Coco Muffin Clover Pickle",
);

/** Wild animals, and what they bring to those who helped them. */
export const WILD = words("bird fox squirrel deer hedgehog swan badger turtle");

export const COLOURS = words("red blue green yellow white brown purple pink black grey silver golden");

export const TOYS = words(
  "kite ball boat drum hat scarf lantern bell book basket bucket whistle puppet wagon",
);

export const PLACES = rows(
  ["word", "at", "to"],
  [
    "park/in the park/to the park",
    "forest/in the forest/to the forest",
    "garden/in the garden/to the garden",
    "beach/on the beach/to the beach",
    "river/by the river/to the river",
    "hill/on the hill/to the hill",
    "market/at the market/to the market",
    "meadow/in the meadow/to the meadow",
    "lake/by the lake/to the lake",
    "orchard/in the orchard/to the orchard",
    "harbour/at the harbour/to the harbour",
    "castle/at the castle/to the castle",
  ],
);

export const HOMES = rows(
  ["at"],
  [
    "in a small house",
    "in a tall tower",
    "on a quiet farm",
    "in a busy town",
    "in a little village",
    "near the sea",
    "near the woods",
    "at the foot of a mountain",
  ],
);

export const SPOTS = rows(
  ["at"],
  [
    "under a bench",
    "behind a tree",
    "under a leaf",
    "inside a log",
    "behind a rock",
    "under a bridge",
    "behind a bush",
    "between two stones",
    "beside a well",
    "inside a cave",
    "behind a wall",
    "under a ladder",
  ],
);

/** Things that are gathered. */
export const THINGS = words(
  "apples pears plums cherries nuts shells pebbles feathers flowers berries coins acorns",
);

/** Things that food is made of. */
export const INGREDIENTS = words("apples pears plums cherries nuts berries eggs carrots");

export const FOODS = words("bread soup cake honey cheese jam rice pie porridge pudding");

export const NUMBERS = words("three four five six seven eight nine ten");

/** How many there were, how many were given away, how many were left. */
export const SHARES = rows(
  ["had", "gave", "left"],
  [
    "three/one/two",
    "four/one/three",
    "four/two/two",
    "five/one/four",
    "five/two/three",
    "five/three/two",
    "six/two/four",
    "six/three/three",
    "six/four/two",
    "seven/two/five",
    "seven/three/four",
    "seven/four/three",
    "eight/two/six",
    "eight/three/five",
    "eight/four/four",
    "nine/three/six",
    "nine/four/five",
    "nine/five/four",
    "ten/three/seven",
    "ten/five/five",
  ],
);

export const WEATHERS = words("sunny windy cold warm bright fine mild fresh");

export const TIMES = words("morning afternoon day evening");

/** What happens to a toy, and how it feels. */
export const MISHAPS = rows(
  ["what"],
  [
    "a strong wind blew it away",
    "it rolled down a hill",
    "it fell into the tall grass",
    "a cheeky crow carried it off",
    "it slipped out of the bag",
    "it was gone after a short rest",
  ],
);

/** A noise in the night, and what is said about it. */
export const NOISES = rows(
  ["word"],
  ["tapping", "scratching", "rustling", "knocking", "humming", "rattling", "splashing", "creaking"],
);

/** What grows, from which seeds. */
export const PLANTS = words("rose tulip sunflower daisy pumpkin melon bean cabbage lily poppy");

export const PRIZES = words("medal cup ribbon crown trophy badge");

/** What hurts, and what is done about it. */
export const HURTS = rows(
  ["part", "cure"],
  [
    "leg/a soft bandage",
    "foot/some cool water",
    "tail/a clean cloth",
    "ear/a little cream",
    "back/a warm blanket",
  ],
);

/** What goes wrong on the way, and what helps. */
export const STORMS = rows(
  ["came", "sky"],
  [
    "it began to rain/dark clouds",
    "it began to snow/white clouds",
    "a storm came up/black clouds",
    "a thick fog came down/grey mist",
  ],
);

export const SHELTERS = rows(
  ["at"],
  [
    "in an old barn",
    "in a hollow tree",
    "under a stone bridge",
    "in a tiny hut",
    "in a dry cave",
    "in a windmill",
  ],
);

export const GAMES = words("football cards chess marbles tag catch");
