import { expect, test } from "vitest";
import { groupPasted, LineJoiner } from "./lines.ts";

function messagesOf(...lines: readonly string[]): string[] {
  const joiner = new LineJoiner();
  const messages = lines.map((line) => joiner.push(line)).filter((message) => message !== null);
  return joiner.isOpen ? [...messages, `open: ${joiner.flush()}`] : messages;
}

test.each([
  [
    ["a", "b"],
    ["a", "b"],
  ],
  [
    ["a\\", "b", "c"],
    ["a\nb", "c"],
  ],
  [["a\\", "\\", "b"], ["a\n\nb"]],
  [
    ['"""a', "b\\", '"""', "c"],
    ["a\nb\\\n", "c"],
  ],
  [
    ['  """one"""', "c"],
    ["one", "c"],
  ],
  [['"""', 'say """'], ["\nsay "]],
  [
    ['say """', "b"],
    ['say """', "b"],
  ],
  [["a\\"], ["open: a"]],
  [['"""a', ""], ["open: a\n"]],
  [[""], [""]],
])("%j are the messages %j", (lines, messages) => {
  expect(messagesOf(...lines)).toEqual(messages);
});

test("lines pasted at once are one message, commands stand alone", () => {
  expect(groupPasted(["a", "b"])).toEqual(["a\nb"]);
  expect(groupPasted(["/retry", "a", "", "b", "/undo", "/help", "c"])).toEqual([
    "/retry",
    "a\n\nb",
    "/undo",
    "/help",
    "c",
  ]);
  expect(groupPasted([])).toEqual([]);
});
