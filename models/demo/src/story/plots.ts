// The plots. Each is a row of sections, each section some ways to tell it with the questions that way answers. A question
// stands beside the sentence that answers it, so it can only be asked of a story that tells it so.

import type { Plot, Question, Section, StoryGrammar, Telling } from "./grammar.ts";
import * as tables from "./tables.ts";

const ask = (question: string, answer: string): Question => ({ ask: question, answer });
const tell = (text: string, ...questions: Question[]): Telling => ({ text, questions });
const LEFT_OUT: Telling = { text: "" };

const NAME = ask("Who is the story about?", "{hero.name}.");
const HOME = ask("Where did {hero.name} live?", "{home.At}.");

const OPENING: Section = [
  tell("Once upon a time there was a {trait.word} {hero.kind} named {hero.name}.", NAME),
  tell("Once upon a time there was a {hero.kind} named {hero.name} who lived {home.at}.", NAME, HOME),
  tell("Once upon a time a {trait.word} {hero.kind} named {hero.name} lived {home.at}.", NAME, HOME),
  tell("There once was a {trait.word} {hero.kind} named {hero.name} who lived {home.at}.", NAME, HOME),
];

const PET_NAME = ask("What was the name of the {pet.word}?", "{petName.word}.");
const PET_KIND = ask("What kind of animal was {petName.word}?", "A {pet.word}.");

const PET: Section = [
  tell(
    "{hero.He} had a {colour.word} {pet.word} named {petName.word}.",
    PET_NAME,
    PET_KIND,
    ask("What colour was the {pet.word}?", "{colour.Word}."),
  ),
  tell("{hero.His} best friend was a {pet.word} named {petName.word}.", PET_NAME, PET_KIND),
  tell("{hero.He} went everywhere with a little {pet.word} named {petName.word}.", PET_NAME, PET_KIND),
];

const TOY_COLOUR = ask("What colour was the {toy.word}?", "{paint.Word}.");

const TOY: Section = [
  tell(
    "{hero.His} favourite thing was a {paint.word} {toy.word}.",
    TOY_COLOUR,
    ask("What was the favourite thing of {hero.name}?", "A {paint.word} {toy.word}."),
  ),
  tell(
    "{hero.He} had a {paint.word} {toy.word} from {hero.his} {relative.word}.",
    TOY_COLOUR,
    ask("Who gave {hero.name} the {toy.word}?", "{hero.His} {relative.word}."),
  ),
  tell("{hero.He} loved {hero.his} {paint.word} {toy.word} very much.", TOY_COLOUR),
];

const WALK_WHERE = ask("Where did {hero.name} go?", "{place.To}.");

const WALK: Section = [
  tell("One {weather.word} {time.word} {hero.he} went {place.to}.", WALK_WHERE),
  tell("One {time.word} {hero.name} walked {place.to}.", WALK_WHERE),
];

const ENDING: Section = [
  tell("They were happy all day long."),
  tell("That night {hero.name} fell asleep with a smile."),
  tell("From that day on they were the best of friends."),
  tell("It was the best {time.word} of the year."),
];

/** For stories with nobody else in them. */
const ENDING_ALONE: Section = [
  tell("That night {hero.name} fell asleep with a smile."),
  tell("It was the best {time.word} of the year."),
  tell("{hero.Name} never forgot that {time.word}."),
];

const FRIEND_HELPED = ask("Who helped {hero.name}?", "{friend.name}.");

const lost: Plot = {
  name: "lost",
  sections: [
    OPENING,
    TOY,
    [
      tell("One {weather.word} {time.word} {hero.he} took the {toy.word} {place.to}.", WALK_WHERE),
      tell("One {time.word} {hero.name} carried it {place.to}.", WALK_WHERE),
    ],
    [tell("Then {mishap.what}."), tell("But {mishap.what}, and {hero.name} could not see it any more.")],
    [
      tell("{hero.Name} was sad and asked {friend.name} for help.", FRIEND_HELPED),
      tell("A {friend.kind} named {friend.name} saw {hero.him} cry and came to help.", FRIEND_HELPED),
    ],
    [tell("First they looked {other.at}, but it was not there."), LEFT_OUT],
    [
      tell(
        "At last {friend.name} found the {toy.word} {spot.at}.",
        ask("Where was the {toy.word}?", "{spot.At}."),
        ask("Who found the {toy.word}?", "{friend.name}."),
      ),
      tell(
        "In the end {hero.he} found the {toy.word} {spot.at}.",
        ask("Where was the {toy.word}?", "{spot.At}."),
        ask("Who found the {toy.word}?", "{hero.name}."),
      ),
    ],
    [
      tell("{hero.Name} thanked {friend.name}, and {friend.he} laughed."),
      tell("{hero.He} thanked {friend.name} and shared some {food.word} with {friend.him}."),
    ],
    ENDING,
  ],
};

const runaway: Plot = {
  name: "runaway",
  sections: [
    OPENING,
    PET,
    [
      tell("One {weather.word} {time.word} {petName.word} {pet.moved} away."),
      tell("One {time.word} the door was open, and {petName.word} {pet.moved} away."),
    ],
    [
      tell("{hero.Name} looked {spot.at}, but there was no {pet.word}."),
      tell("{hero.He} called and called, but no {pet.word} came."),
    ],
    [
      tell("Then {hero.he} went {place.to} with {friend.name}.", WALK_WHERE),
      tell("{hero.His} {relative.word} said that {hero.he} should look {place.at}."),
    ],
    [
      tell(
        "Something {pet.called} {other.at}, and it was {petName.word}!",
        ask("Where was {petName.word}?", "{other.At}."),
      ),
      tell(
        "There sat {petName.word} {other.at} and {pet.called}.",
        ask("Where was {petName.word}?", "{other.At}."),
      ),
    ],
    [
      tell("{hero.Name} hugged the {pet.word} and carried it home."),
      tell(
        "{hero.He} gave {petName.word} some {food.word}, and they went home.",
        ask("What did {petName.word} eat?", "Some {food.word}."),
      ),
    ],
    ENDING,
  ],
};

const HOW_MANY = ask("How many {thing.word} did {hero.name} find?", "{share.Had}.");
const GAVE = ask("How many {thing.word} did {hero.name} give away?", "{share.Gave}.");
const TO_WHOM = ask("Who got some {thing.word}?", "{friend.name}.");

const sharing: Plot = {
  name: "sharing",
  sections: [
    OPENING,
    [PET[0]!, PET[1]!, LEFT_OUT, LEFT_OUT],
    [
      tell("One {weather.word} {time.word} {hero.he} went {place.to} to look for {thing.word}.", WALK_WHERE),
      tell("{hero.He} liked to look for {thing.word} {place.at}."),
    ],
    [
      tell("{hero.He} found {share.had} {thing.word} {spot.at}.", HOW_MANY),
      tell(
        "Soon {hero.he} had {share.had} {thing.word} in a {paint.word} bag.",
        HOW_MANY,
        ask("What colour was the bag?", "{paint.Word}."),
      ),
    ],
    [
      tell(
        "On the way home {hero.he} met {friend.name}, who had none.",
        ask("Whom did {hero.name} meet?", "{friend.Name}."),
      ),
      tell("Then {friend.name} came by, and {friend.he} had nothing."),
    ],
    [
      tell("{hero.Name} gave {friend.him} {share.gave} and kept {share.left}.", GAVE, TO_WHOM),
      tell(
        "So {hero.name} gave {share.gave} to {friend.name}, and {share.left} were left.",
        GAVE,
        TO_WHOM,
        ask("How many {thing.word} were left?", "{share.Left}."),
      ),
    ],
    [
      tell("{friend.Name} was so glad that {friend.he} sang a song."),
      tell("{friend.He} thanked {hero.him} and gave {hero.him} some {food.word}."),
    ],
    ENDING,
  ],
};

const BAKED = ask("What did they make?", "Some {food.word}.");
const HELPER = ask("Who made it with {hero.name}?", "{hero.His} {relative.word}.");

const cooking: Plot = {
  name: "cooking",
  sections: [
    OPENING,
    [
      tell(
        "One {weather.word} {time.word} {hero.his} {relative.word} wanted to make some {food.word}.",
        BAKED,
        HELPER,
      ),
      tell("One {time.word} {hero.he} made some {food.word} with {hero.his} {relative.word}.", BAKED, HELPER),
    ],
    [
      tell(
        "They needed {number.word} {ingredient.word}, but there were none in the house.",
        ask("How many {ingredient.word} did they need?", "{number.Word}."),
        ask("What did they need?", "{number.Word} {ingredient.word}."),
      ),
    ],
    [
      tell("So {hero.name} took a {paint.word} {toy.word} and went {place.to}.", WALK_WHERE, TOY_COLOUR),
      tell("So {hero.he} ran {place.to} as fast as {hero.he} could.", WALK_WHERE),
    ],
    [
      tell(
        "There {friend.name} gave {hero.him} all the {ingredient.word} that {hero.he} needed.",
        ask("Who gave {hero.name} the {ingredient.word}?", "{friend.name}."),
      ),
      tell(
        "{hero.He} found the {ingredient.word} {spot.at}.",
        ask("Where were the {ingredient.word}?", "{spot.At}."),
      ),
    ],
    [
      tell("When {hero.he} came home, {hero.his} {relative.word} was very glad."),
      tell("{hero.His} {relative.word} smiled when {hero.he} came back."),
    ],
    [
      tell("The {food.word} was warm and sweet, and they ate it all."),
      tell("They gave some {food.word} to the {pet.word}, and it {pet.called}."),
    ],
    ENDING,
  ],
};

const SHELTER = ask("Where did they wait?", "{shelter.At}.");

const storm: Plot = {
  name: "storm",
  sections: [
    OPENING,
    PET,
    [
      tell("One {time.word} they went {place.to} to play.", ask("Where did they go?", "{place.To}.")),
      tell(
        "One {weather.word} {time.word} they went {place.to} with {friend.name}.",
        ask("Where did they go?", "{place.To}."),
        ask("Who went with them?", "{friend.name}."),
      ),
    ],
    [
      tell("Soon there were {storm.sky} in the sky, and {storm.came}."),
      tell("But {storm.came}, and they were far from home."),
    ],
    [
      tell("{petName.Word} {pet.called} and {pet.moved} ahead, and {hero.name} went after the {pet.word}."),
      tell("{hero.Name} was afraid, but {petName.word} knew the way."),
    ],
    [
      tell("They waited {shelter.at} until it was over.", SHELTER),
      tell(
        "There they sat {shelter.at} and ate some {food.word}.",
        ask("What did they eat?", "Some {food.word}."),
      ),
    ],
    [
      tell("Then the sun came out again, and they walked home."),
      tell(
        "Then {hero.his} {relative.word} came and took them home.",
        ask("Who took them home?", "{hero.His} {relative.word}."),
      ),
    ],
    ENDING,
  ],
};

const HURT = ask("What was wrong with the {wild.word}?", "Its {hurt.part} was hurt.");

const helping: Plot = {
  name: "helping",
  sections: [
    OPENING,
    WALK,
    [
      tell(
        "There {hero.he} saw a {colour.word} {wild.word} {spot.at}.",
        ask("What did {hero.name} see?", "A {colour.word} {wild.word}."),
        ask("Where was the {wild.word}?", "{spot.At}."),
        ask("What colour was the {wild.word}?", "{colour.Word}."),
      ),
      tell(
        "A little {wild.word} sat {spot.at} and could not move.",
        ask("Where was the {wild.word}?", "{spot.At}."),
      ),
    ],
    [
      tell("Its {hurt.part} was hurt, and it looked at {hero.him} with big eyes.", HURT),
      tell("It was hungry, and its {hurt.part} was hurt.", HURT),
    ],
    [
      tell("{hero.Name} helped it with {hurt.cure}.", ask("What did {hero.name} use?", "{hurt.Cure}.")),
      tell(
        "{hero.He} ran home, and {hero.his} {relative.word} gave {hero.him} {hurt.cure}.",
        ask("Who gave {hero.name} {hurt.cure}?", "{hero.His} {relative.word}."),
      ),
    ],
    [
      tell(
        "After {number.word} days the {wild.word} was well again.",
        ask("How many days did it take?", "{number.Word}."),
      ),
      tell(
        "The {wild.word} stayed for {number.word} days.",
        ask("How many days did the {wild.word} stay?", "{number.Word}."),
      ),
    ],
    [
      tell(
        "One {time.word} it came back and brought {hero.him} some {thing.word}.",
        ask("What did the {wild.word} bring?", "Some {thing.word}."),
      ),
      tell("Before it left, it gave {hero.name} a {paint.word} feather."),
    ],
    ENDING_ALONE,
  ],
};

const WINNER_HERO = ask("Who won?", "{hero.name}.");
const PRIZE = ask("What was the prize?", "A {paint.word} {prize.word}.");

const race: Plot = {
  name: "race",
  sections: [
    OPENING,
    [
      tell(
        "One {weather.word} {time.word} there was a race {place.at}.",
        ask("Where was the race?", "{place.At}."),
      ),
      tell("Every year there was a big race {place.at}.", ask("Where was the race?", "{place.At}.")),
    ],
    [tell("The prize was a {paint.word} {prize.word}.", PRIZE)],
    [
      tell(
        "{hero.Name} ran against {friend.name} and {number.word} other children.",
        ask("How many other children were there?", "{number.Word}."),
      ),
      tell("{hero.Name} wanted to win, but {friend.name} was fast too."),
    ],
    [
      tell(
        "Half way {friend.he} fell and hurt {friend.his} {hurt.part}.",
        ask("What did {friend.name} hurt?", "{friend.His} {hurt.part}."),
      ),
      tell("Near the end {friend.name} lost a shoe and had to stop."),
    ],
    [
      tell(
        "{hero.Name} stopped to help {friend.him}, and they came in last.",
        ask("Whom did {hero.name} help?", "{friend.name}."),
      ),
      tell("{hero.He} waited for {friend.him}, and they ran on hand in hand."),
    ],
    [
      tell("All the people clapped and gave the {prize.word} to {hero.name}.", WINNER_HERO),
      tell("{friend.Name} said that the {prize.word} should go to {hero.name}.", WINNER_HERO),
    ],
    ENDING,
  ],
};

const planting: Plot = {
  name: "planting",
  sections: [
    OPENING,
    [
      tell(
        "{hero.His} {relative.word} gave {hero.him} {number.word} seeds.",
        ask("How many seeds did {hero.name} get?", "{number.Word}."),
        ask("Who gave {hero.name} the seeds?", "{hero.His} {relative.word}."),
      ),
      tell(
        "One {time.word} {hero.he} found {number.word} seeds {spot.at}.",
        ask("How many seeds did {hero.name} find?", "{number.Word}."),
        ask("Where were the seeds?", "{spot.At}."),
      ),
    ],
    [
      tell(
        "{hero.He} put them into the earth {place.at}.",
        ask("Where did {hero.name} plant the seeds?", "{place.At}."),
      ),
      tell(
        "{hero.He} planted them {place.at} with {friend.name}.",
        ask("Where did {hero.name} plant the seeds?", "{place.At}."),
        FRIEND_HELPED,
      ),
    ],
    [
      tell("Every {time.word} {hero.name} brought water in a {paint.word} {toy.word}.", TOY_COLOUR),
      tell("Every day {hero.he} gave them water and sang to them."),
    ],
    [tell("For a long time nothing came up, but {hero.name} was patient."), LEFT_OUT],
    [
      tell(
        "Then a {colour.word} {plant.word} grew as tall as a house.",
        ask("What grew?", "A {colour.word} {plant.word}."),
        ask("What colour was the {plant.word}?", "{colour.Word}."),
      ),
      tell(
        "In the spring a {plant.word} came up, and it was {colour.word}.",
        ask("What colour was the {plant.word}?", "{colour.Word}."),
      ),
    ],
    [
      tell("{hero.Name} gave it to {hero.his} {relative.word}, who was very proud."),
      tell("{hero.Name} showed it to everyone, and {hero.he} was very proud."),
    ],
    ENDING_ALONE,
  ],
};

const present: Plot = {
  name: "present",
  sections: [
    OPENING,
    [
      tell(
        "One {weather.word} {time.word} it was the birthday of {friend.name}.",
        ask("Whose birthday was it?", "{friend.name}."),
      ),
      tell(
        "{hero.His} friend {friend.name} had a birthday.",
        ask("Whose birthday was it?", "{friend.name}."),
      ),
    ],
    [
      tell("{hero.Name} went {place.to} to look for a present.", WALK_WHERE),
      tell("{hero.Name} did not know what to bring and went {place.to}.", WALK_WHERE),
    ],
    [
      tell(
        "There {hero.he} bought a {paint.word} {toy.word} for {number.word} coins.",
        ask("What did {hero.name} buy?", "A {paint.word} {toy.word}."),
        ask("How many coins did it cost?", "{number.Word}."),
        TOY_COLOUR,
      ),
      tell(
        "{spot.At} {hero.he} found a {paint.word} {toy.word}.",
        TOY_COLOUR,
        ask("Where was the {toy.word}?", "{spot.At}."),
      ),
    ],
    [
      tell("{hero.He} put it into a {colour.word} box.", ask("What colour was the box?", "{colour.Word}.")),
      LEFT_OUT,
    ],
    [
      tell("{friend.Name} opened {friend.his} present and jumped for joy."),
      tell("{friend.Name} loved the {toy.word} and hugged {hero.name}."),
    ],
    [
      tell(
        "Then they ate some {food.word} and played {game.word}.",
        ask("What did they play?", "{game.Word}."),
        ask("What did they eat?", "Some {food.word}."),
      ),
      tell(
        "Then they played {game.word} until the sun went down.",
        ask("What did they play?", "{game.Word}."),
      ),
    ],
    ENDING,
  ],
};

const night: Plot = {
  name: "night",
  sections: [
    OPENING,
    PET,
    [
      tell(
        "One night {hero.name} woke up and heard a {noise.word}.",
        ask("What did {hero.name} hear?", "A {noise.word}."),
      ),
      tell("One night there was a {noise.word} {spot.at}.", ask("Where was the {noise.word}?", "{spot.At}.")),
    ],
    [
      tell(
        "{hero.He} took a {paint.word} lantern and went outside.",
        ask("What colour was the lantern?", "{paint.Word}."),
      ),
      tell("{hero.He} called {hero.his} {relative.word}, but {relative.he} was asleep."),
    ],
    [
      tell("It was dark, but {hero.name} was not afraid."),
      tell("{hero.Name} was afraid, but {hero.he} went on."),
    ],
    [
      tell(
        "It was only a {colour.word} {wild.word} who wanted some {food.word}.",
        ask("What did the {wild.word} want?", "Some {food.word}."),
      ),
      tell(
        "It was {petName.word}, who had a {toy.word} and {pet.called}.",
        ask("What did {petName.word} have?", "A {toy.word}."),
      ),
      tell(
        "It was {friend.name}, who had lost {friend.his} way.",
        ask("Who had lost the way?", "{friend.name}."),
      ),
    ],
    [
      tell("{hero.Name} laughed and went back to bed with {petName.word}."),
      tell("They all went inside and sat by the fire."),
    ],
    ENDING,
  ],
};

export const STORIES: StoryGrammar = {
  slots: {
    hero: { table: tables.PEOPLE },
    friend: { table: tables.PEOPLE, differsFrom: "hero" },
    relative: { table: tables.RELATIVES },
    trait: { table: tables.TRAITS },
    home: { table: tables.HOMES },
    pet: { table: tables.PETS },
    petName: { table: tables.PET_NAMES },
    wild: { table: tables.WILD },
    colour: { table: tables.COLOURS },
    paint: { table: tables.COLOURS, differsFrom: "colour" },
    toy: { table: tables.TOYS },
    place: { table: tables.PLACES },
    spot: { table: tables.SPOTS },
    other: { table: tables.SPOTS, differsFrom: "spot" },
    thing: { table: tables.THINGS },
    ingredient: { table: tables.INGREDIENTS },
    food: { table: tables.FOODS },
    number: { table: tables.NUMBERS },
    share: { table: tables.SHARES },
    weather: { table: tables.WEATHERS },
    time: { table: tables.TIMES },
    mishap: { table: tables.MISHAPS },
    noise: { table: tables.NOISES },
    plant: { table: tables.PLANTS },
    prize: { table: tables.PRIZES },
    hurt: { table: tables.HURTS },
    storm: { table: tables.STORMS },
    shelter: { table: tables.SHELTERS },
    game: { table: tables.GAMES },
  },
  plots: [lost, runaway, sharing, cooking, storm, helping, race, planting, present, night],
};
