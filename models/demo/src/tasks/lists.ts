// Putting numbers and words in order, counting, and comparing numbers.

import type { Turn } from "../chat.ts";
import { drawFrom, type SeededRandom, type Split } from "../random.ts";
import { PLAIN } from "./words.ts";

const listed = (items: readonly (number | string)[]): string => items.join(", ");

/** Held out by the set of items: another order of the same ones would give the answer away. */
const listKey = (items: readonly (number | string)[]): string => `sort ${listed([...items].sort())}`;

export function sortNumbersTurn(random: SeededRandom, split: Split): Turn {
  const numbers = drawFrom(
    split,
    () => {
      const high = random.pick([9, 99, 99]);
      const found = new Set<number>();
      const n = random.between(3, 5);
      while (found.size < n) found.add(random.between(1, high));
      return [...found];
    },
    listKey,
  );
  return { user: `Sort ${listed(numbers)}.`, assistant: listed([...numbers].sort((a, b) => a - b)) };
}

export function sortWordsTurn(random: SeededRandom, split: Split): Turn {
  const words = drawFrom(split, () => random.sample(PLAIN, random.between(3, 5)), listKey);
  return { user: `Sort the words ${listed(words)}.`, assistant: listed([...words].sort()) };
}

export function countTurn(random: SeededRandom, split: Split): Turn {
  const [from, to] = drawFrom(
    split,
    () => {
      const start = random.between(0, random.pick([10, 90]));
      const end = start + random.between(2, 9);
      return random.chance(0.5) ? ([start, end] as const) : ([end, start] as const);
    },
    ([start, end]) => `count ${start} ${end}`,
  );
  const step = Math.sign(to - from);
  const numbers = Array.from({ length: Math.abs(to - from) + 1 }, (_, i) => from + i * step);
  return { user: `Count ${step > 0 ? "" : "down "}from ${from} to ${to}.`, assistant: listed(numbers) };
}

export function compareTurn(random: SeededRandom, split: Split): Turn {
  const [left, right] = drawFrom(
    split,
    () =>
      random.sample(
        Array.from({ length: 100 }, (_, i) => i),
        2,
      ) as [number, number],
    (pair) => `compare ${Math.min(...pair)} ${Math.max(...pair)}`,
  );
  return random.chance(0.5)
    ? { user: `Which is larger, ${left} or ${right}?`, assistant: String(Math.max(left, right)) }
    : { user: `Which is smaller, ${left} or ${right}?`, assistant: String(Math.min(left, right)) };
}

export function neighbourTurn(random: SeededRandom): Turn {
  const number = random.between(1, 99);
  return random.chance(0.5)
    ? { user: `Which number comes after ${number}?`, assistant: String(number + 1) }
    : { user: `Which number comes before ${number}?`, assistant: String(number - 1) };
}
