import fc from "fast-check";
import { expect, test } from "vitest";
import { splitThoughts, ThoughtSplitter, type WrittenPiece } from "./thoughts.ts";

test.each([
  ["Just an answer.", null, "Just an answer."],
  [" <think>\nLet me see.\n</think>\n\nFour.", "Let me see.", "Four."],
  [" <think></think> Four.", null, "Four."],
  ["<think>Not done", "Not done", ""],
  ["<think>a </thin b</think>c", "a </thin b", "c"],
  ["<think>a</think>b</think>c <think>d", "a", "b</think>c <think>d"],
  ["A <think> in the middle", null, "A <think> in the middle"],
  ["<thin", null, "<thin"],
  ["", null, ""],
])("%j is thoughts %j and answer %j", (written, thoughts, answer) => {
  expect(splitThoughts(written)).toEqual({ thoughts, answer });
});

test("pieces are the same text however it was cut, and none is empty", () => {
  const unit = fc.constantFrom("<think>", "</think>", "<", "/", "think", ">", " ", "\n", "word");
  const joined = (pieces: readonly WrittenPiece[], isThought: boolean): string =>
    pieces
      .filter((piece) => piece.isThought === isThought)
      .map(({ text }) => text)
      .join("");
  fc.assert(
    fc.property(fc.array(unit), fc.array(fc.nat(20)), (units, cuts) => {
      const text = units.join("");
      const whole = new ThoughtSplitter();
      const want = [...whole.push(text), ...whole.flush()];
      const cut = new ThoughtSplitter();
      const got: WrittenPiece[] = [];
      let rest = text;
      for (const n of cuts) {
        got.push(...cut.push(rest.slice(0, n)));
        rest = rest.slice(n);
      }
      got.push(...cut.push(rest), ...cut.flush());
      expect(got.every((piece) => piece.text !== "")).toBe(true);
      for (const isThought of [true, false]) {
        expect(joined(got, isThought)).toBe(joined(want, isThought));
      }
    }),
  );
});

test("an answer comes out at once, a thought but for what may end it", () => {
  const splitter = new ThoughtSplitter();
  expect(splitter.push(" <thi")).toEqual([]);
  expect(splitter.push("nk>one </")).toEqual([{ text: "one ", isThought: true }]);
  expect(splitter.push("b>")).toEqual([{ text: "</b>", isThought: true }]);
  expect(splitter.push("</think>two")).toEqual([{ text: "two", isThought: false }]);
  expect(splitter.push("<")).toEqual([{ text: "<", isThought: false }]);
});
