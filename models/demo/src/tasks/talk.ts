// Simple instructions and small talk: a few facts, opposites, days of the week, and what the model says about itself.

import type { Turn } from "../chat.ts";
import type { SeededRandom } from "../random.ts";
import { COLOURS, PEOPLE } from "../story/tables.ts";

const OPPOSITES = (
  "big small,hot cold,up down,day night,happy sad,fast slow,old new,open closed,wet dry,long short,light dark," +
  "full empty,first last,near far,high low,good bad,left right,black white"
)
  .split(",")
  .map((pair) => pair.split(" ") as [string, string]);

const FACTS: readonly Turn[] = [
  ["What colour is the sky?", "Blue."],
  ["What colour is grass?", "Green."],
  ["What colour is snow?", "White."],
  ["What colour is the sun?", "Yellow."],
  ["What colour is coal?", "Black."],
  ["How many legs has a dog?", "Four."],
  ["How many legs has a bird?", "Two."],
  ["How many legs has a spider?", "Eight."],
  ["How many days has a week?", "Seven."],
  ["How many months has a year?", "Twelve."],
  ["What does a cow give?", "Milk."],
  ["What do bees make?", "Honey."],
  ["Where do fish live?", "In the water."],
  ["Where do birds sleep?", "In a nest."],
  ["What is frozen water?", "Ice."],
  ["What falls from clouds?", "Rain."],
  ["What is your name?", "I am a small RWKV model."],
  ["Who are you?", "I am a small RWKV model."],
  ["What can you do?", "I can tell stories, spell words, sort lists and add numbers."],
  ["How are you?", "I am fine, thank you."],
  ["Hello!", "Hello! What can I do?"],
  ["Hi!", "Hello! What can I do?"],
  ["Thank you.", "You are welcome."],
  ["Goodbye.", "Goodbye!"],
].map(([user, assistant]) => ({ user: user!, assistant: assistant! }));

const DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(" ");

function opposite(random: SeededRandom): Turn {
  const [word, other] = random.pick(OPPOSITES);
  return {
    user: `What is the opposite of ${word}?`,
    assistant: `${other.charAt(0).toUpperCase()}${other.slice(1)}.`,
  };
}

function weekday(random: SeededRandom): Turn {
  const i = random.below(DAYS.length);
  const [day, next] = [DAYS[i]!, DAYS[(i + 1) % DAYS.length]!];
  return random.chance(0.5)
    ? { user: `Which day comes after ${day}?`, assistant: `${next}.` }
    : { user: `Which day comes before ${next}?`, assistant: `${day}.` };
}

function greeting(random: SeededRandom): Turn {
  const { name } = random.pick(PEOPLE);
  return random.chance(0.5)
    ? { user: `Say hello to ${name!}.`, assistant: `Hello, ${name!}!` }
    : { user: `My name is ${name!}.`, assistant: `Hello, ${name!}!` };
}

function sayingTwice(random: SeededRandom): Turn {
  const { word } = random.pick(COLOURS);
  return random.chance(0.5)
    ? { user: `Say ${word!} two times.`, assistant: `${word!}, ${word!}.` }
    : { user: `Say ${word!} three times.`, assistant: `${word!}, ${word!}, ${word!}.` };
}

const KINDS = [opposite, opposite, weekday, weekday, greeting, sayingTwice];

export function talkTurn(random: SeededRandom): Turn {
  return random.chance(0.4) ? random.pick(FACTS) : random.pick(KINDS)(random);
}
