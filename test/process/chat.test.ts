// `rwkv chat` as people and scripts use it: on a pseudo-terminal, and with pipes for stdin and stdout.

import { existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import {
  Conversation,
  loadModel,
  parseChatPrompt,
  type AnswerResult,
  type ChatMessage,
  type ConversationOptions,
  type SayOptions,
} from "../../packages/rwkv/src/node.ts";
import { HAS_DEMO_MODEL, rwkv, temporaryFolder, type Finished } from "../support/cli.ts";
import { CTRL_C, CTRL_D, ENTER, NO_TERMINAL, Terminal, UP } from "../support/terminal.ts";
import { tinyModel, type TinyModelOptions } from "../support/tiny-model.ts";

// Each case starts processes that load a model, one after the other.
vi.setConfig({ testTimeout: 180_000 });

const folder = temporaryFolder();
const at = (name: string): string => join(folder.path, name);
const MODEL = at("tiny.safetensors");
/** Writes `>` for ever, which completes whichever tag it finds open. */
const THINKER = at("thinker.safetensors");
const FLAGS = ["--model", MODEL, "--max-tokens", "8", "--seed", "1"];
/** What these flags and the defaults of the command are in the library. */
const SAY: SayOptions = { maxTokens: 8, topP: 0.3 };

beforeAll(() => {
  writeFileSync(MODEL, tinyModel());
  writeFileSync(THINKER, tinyModel({ edit: writesOnly(">") }));
});
afterAll(() => folder.remove());

/** Makes a model write this one character, whatever it has read. */
function writesOnly(character: string): NonNullable<TinyModelOptions["edit"]> {
  return (tensors) => {
    tensors.get("ln_out.weight")!.values.fill(0);
    tensors.get("ln_out.bias")!.values.fill(0).set([1]);
    const head = tensors.get("head.weight")!;
    head.values.fill(0);
    head.values[character.charCodeAt(0) * head.shape[1]!] = 100;
  };
}

function messagesIn(name: string): readonly ChatMessage[] {
  return parseChatPrompt(readFileSync(at(name), "utf8"), name).messages;
}

/** The same talk, straight from the library. */
async function talk(texts: readonly string[], options: ConversationOptions = {}): Promise<AnswerResult[]> {
  await using model = await loadModel(MODEL);
  await using conversation = await Conversation.create(model, { seed: 1, ...options });
  const results: AnswerResult[] = [];
  for (const text of texts) results.push(await conversation.say(text, SAY));
  return results;
}

describe("piped", () => {
  const chat = (lines: readonly string[], ...flags: string[]): Promise<Finished> =>
    rwkv(["chat", ...FLAGS, ...flags], { stdin: lines.map((line) => `${line}\n`).join("") });

  test("each line is a message, answers go to stdout, and the end of input is a success", async () => {
    const { code, stdout, stderr } = await chat(["Hello", "", "And you?"]);
    expect(code).toBe(0);
    expect(stderr).toBe("");
    const want = await talk(["Hello", "And you?"]);
    expect(stdout).toBe(want.map(({ message }) => `${message!.content}\n`).join(""));
  });

  test("lines that go on, and messages that begin with a slash", async () => {
    await chat(["One\\", "two", '"""three', '"""', "//four", `/export ${at("lines.json")}`]);
    const said = messagesIn("lines.json").filter(({ role }) => role === "user");
    expect(said.map(({ content }) => content)).toEqual(["One\ntwo", "three", "/four"]);
  });

  test("what goes wrong is reported, and the chat goes on", async () => {
    const { code, stdout, stderr } = await chat([
      "Hello",
      "/nonsense",
      "/save /nonexistent/chat",
      "/load /nonexistent/chat",
      `/load ${MODEL}`,
      "/temp hot",
      "/temp -1",
      "/top-k 1.5",
      "/think on",
      "/thoughts loud",
      "/format worlds",
      "/switch other",
      "/fork main",
      "/fork",
      "/edit",
      "/seed x",
      "/retry now",
      "And you?",
    ]);
    expect(code).toBe(0);
    const want = await talk(["Hello", "And you?"]);
    expect(stdout).toBe(want.map(({ message }) => `${message!.content}\n`).join(""));
    expect(stderr.trimEnd().split("\n")).toEqual(
      [
        /no command \/nonsense; \/help lists them/,
        /\/nonexistent is not a folder, so \/nonexistent\/chat cannot be written/,
        /\/nonexistent\/chat does not exist/,
        /tiny\.safetensors: expected JSON/,
        /\/temperature hot: Expected a number/,
        /temperature is -1; expected a number of at least 0/,
        /\/top-k 1\.5: Expected a whole number/,
        /Think mode "on" is not in the format "world"/,
        /\/thoughts loud: expected fold, show/,
        /Unknown prompt format "worlds"/,
        /no branch "other", only main/,
        /There is a branch "main" already/,
        /\/fork needs an argument: \/fork NAME/,
        /Say what the message shall be: \/edit TEXT/,
        /\/seed x: Expected a whole number/,
        /\/retry takes no argument, but "now" follows it/,
      ].map((pattern) => expect.stringMatching(pattern) as string),
    );
    expect(stderr).not.toContain("unexpected error");
  });

  test("retry, undo, edit, fork and switch do what the library does", async () => {
    const { stdout, stderr, code } = await chat([
      "/temp 0",
      "One",
      "/fork side",
      "Two",
      "/undo",
      "Three",
      "/edit Four",
      "+",
      `/export ${at("side.json")}`,
      "/switch main",
      `/export ${at("main.json")}`,
    ]);
    expect(code).toBe(0);
    expect(stdout.split("\n").length).toBeGreaterThan(5);
    expect(stderr).toContain("Taken back: Two\n");
    expect(stderr).toContain("On branch main, of main (2 messages), side (4 messages)\n");
    const side = messagesIn("side.json");
    expect(side.map(({ content }) => content).filter((_, i) => i % 2 === 0)).toEqual(["One", "Four"]);
    expect(messagesIn("main.json")).toEqual(side.slice(0, 2));
  });

  test("saved, a chat goes on in another process to the letter", async () => {
    const file = at("half.chat");
    await chat(["One", `/save ${file}`]);
    const { stdout, stderr } = await chat(["Two", `/export ${at("whole.json")}`], "--load", file);
    const want = await talk(["One", "Two"]);
    expect(stdout).toBe(`${want[1]!.message!.content}\n`);
    expect(stderr).toBe(`Exported to ${at("whole.json")}\n`);
    expect(messagesIn("whole.json").map(({ content }) => content)).toEqual([
      "One",
      want[0]!.message!.content,
      "Two",
      want[1]!.message!.content,
    ]);
  });

  test("begins with a system message, a file of messages in web-rwkv's form, or a state", async () => {
    const prompt = { user: "Bob", bot: "Eve", intro: "{bot} helps {user}.", text: [["Hi", "Hello {user}"]] };
    writeFileSync(at("prompt.json"), JSON.stringify(prompt));
    await chat(["One", `/export ${at("prompted.json")}`], "--prompt", at("prompt.json"));
    expect(messagesIn("prompted.json").slice(0, 4)).toEqual([
      { role: "system", content: "Eve helps Bob." },
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Hello Bob" },
      { role: "user", content: "One" },
    ]);

    const { stdout } = await chat(["One"], "--system", "Be brief.");
    const [want] = await talk(["One"], { messages: [{ role: "system", content: "Be brief." }] });
    expect(stdout).toBe(`${want!.message!.content}\n`);

    const state = at("end.state");
    const first = await chat(["One"], "--save-state", state);
    expect(first.code).toBe(0);
    const second = await chat(["/state"], "--state", state);
    const nRead = "User: One\n\nAssistant:".length + 8;
    expect(second.stderr).toMatch(
      new RegExp(`^${nRead} tokens in a state of 0\\.0\\d MB; branch main, 0 messages`),
    );
  });

  test("a template in Jinja, and formats by name", async () => {
    writeFileSync(at("t.jinja"), "{% for m in messages %}[{{ m.content }}]{% endfor %}");
    const { stderr } = await chat(["/state", "Hi", "/state"], "--chat-template", at("t.jinja"));
    expect(stderr).toMatch(/^0 tokens .* format jinja\n12 tokens in /);
    const { stderr: named } = await chat(["/format", "/think"], "--format", "g1", "--think", "fast");
    expect(named).toBe(
      "Format: g1, of auto, world, g1, raven, raven-instruct, pile, pile-qa, jinja\nThink mode: fast\n",
    );
  });

  test("thoughts are folded away unless they are asked for", async () => {
    const think = ["--model", THINKER, "--format", "g1", "--think"];
    expect((await chat(["Hi"], ...think, "on")).stdout).toBe("");
    expect((await chat(["Hi"], ...think, "on", "--show-thoughts")).stdout).toBe(">>>>>>>\n");
    const { stdout } = await chat(["Hi", "/thoughts show", "/retry", `/history`], ...think, "fast");
    expect(stdout).toBe(">>>>>>>\n>>>>>>>\n## User\n\nHi\n\n## Assistant\n\n>>>>>>>\n");
    const shown = await chat(["/thoughts show", "Hi", "/history"], ...think, "on");
    expect(shown.stdout).toBe(">>>>>>>\n## User\n\nHi\n\n## Assistant\n\n> >>>>>>>\n\n\n");
  });

  test("/help names every command, and --help every option", async () => {
    const { stderr } = await chat(["/help"]);
    const commands = [
      "retry",
      "undo",
      "edit",
      "save",
      "load",
      "fork",
      "state",
      "temp",
      "system",
      "export",
      "quit",
    ];
    for (const command of commands) expect(stderr).toContain(`/${command}`);
    const { stdout } = await rwkv(["chat", "--help"]);
    for (const flag of ["--prompt", "--top-p", "--backend", "--lora", "--threads"])
      expect(stdout).toContain(flag);
  });

  test("wrong flags and files end it before anything is read", async () => {
    for (const flags of [
      ["--format", "worlds"],
      ["--think", "on"],
      ["--prompt", MODEL],
      ["--load", at("nothing.chat")],
      ["--temperature", "hot"],
    ]) {
      const { code, stdout, stderr } = await chat(["Hi"], ...flags);
      expect(code, flags[0]).toBeGreaterThan(0);
      expect(stdout).toBe("");
      expect(stderr).not.toBe("");
    }
  });

  test("SIGINT in mid-answer hands out what there is and ends it with 130", async () => {
    const { code, stdout } = await rwkv(["chat", ...FLAGS, "--max-tokens", "100000000"], {
      stdin: "Hi\nAgain\n",
      onStart: (child) => child.stdout!.once("data", () => child.kill("SIGINT")),
    });
    expect(code).toBe(130);
    expect(stdout.length).toBeGreaterThan(0);
  });

  if (!HAS_DEMO_MODEL) console.log("skipped: the demo model has no weights yet (npm run train:demo)");
  test.skipIf(!HAS_DEMO_MODEL)("without a model the demo model answers", async () => {
    const { code, stdout, stderr } = await rwkv(["chat", "--temperature", "0"], {
      stdin: "What is 2 + 3?\n",
    });
    expect(stderr).toMatch(/^rwkv: No model was named, so the small demo model is used\./);
    expect(code).toBe(0);
    expect(stdout.trim()).not.toBe("");
  });
});

if (NO_TERMINAL !== null) console.log(`skipped: chat on a terminal: ${NO_TERMINAL}`);
describe.skipIf(NO_TERMINAL !== null)("on a terminal", () => {
  const PROMPT = "> ";
  /** Before it is shown again, the terminal is not the chat's, and Ctrl-D would be lost. */
  const AT_PROMPT = /Exported to [^]*\n> $/;
  let terminal: Terminal;
  let nOpened = 0;

  function open(...flags: string[]): Terminal {
    terminal = new Terminal(["chat", ...FLAGS, ...flags], at(`tty${nOpened++}`));
    return terminal;
  }
  afterEach(() => terminal.kill());

  test("from start to transcript", async () => {
    const file = at("talk.md");
    open("--temperature", "0");
    await terminal.see(/format world\. \/help lists the commands\.\n> $/);
    terminal.send(`Hello${ENTER}`);
    await terminal.see(/\[cut at 8 tokens, \d+\.\d tokens\/s\]\n> $/);
    // The arrow key brings back what was said, to be said again.
    terminal.send(`${UP} there${ENTER}`);
    await terminal.see(/> Hello there\n[^]*tokens\/s\]\n> $/);
    // Pasted lines are one message.
    terminal.send(`One\nTwo${ENTER}`);
    await terminal.see(/tokens\/s\]\n> $/);
    terminal.send(`/edit${ENTER}`);
    await terminal.see("Say what the message shall be");
    terminal.send(`/undo${ENTER}`);
    await terminal.see("Taken back: One\nTwo");
    terminal.send(`/edit${ENTER}`);
    await terminal.see("> /edit Hello there");
    terminal.send(`!${ENTER}`);
    await terminal.see(/tokens\/s\]\n> $/);
    terminal.send(`/export ${file}${ENTER}`);
    await terminal.see(AT_PROMPT);
    terminal.send(CTRL_D);
    expect(await terminal.ended).toBe(0);

    const transcript = readFileSync(file, "utf8");
    expect(transcript.split(/^## (\w+)$/m).filter((_, i) => i % 2 === 1)).toEqual([
      "User",
      "Assistant",
      "User",
      "Assistant",
    ]);
    expect(transcript).toMatch(/^## User\n\nHello\n\n## Assistant\n\n/);
    expect(transcript).toContain("\n## User\n\nHello there!\n\n## Assistant\n\n");
  });

  test("Ctrl-C stops the answer and not the chat, a window may change its size, and twice at the prompt leaves", async () => {
    const file = at("stopped.json");
    open("--max-tokens", "100000000");
    await terminal.see(PROMPT);
    terminal.send(`Tell me everything${ENTER}`);
    await terminal.see(/everything\n[^]{40}/);
    terminal.resize(40, 10);
    await terminal.see(/[^]{40}/);
    terminal.send(CTRL_C);
    await terminal.see(/\[stopped after \d+ tokens, [^]*\n> $/);
    // Longer than the window is wide now, and resized while it stands there.
    const words = "a rather long message that needs more than one line of this window";
    terminal.send(words);
    await terminal.see("this window");
    terminal.resize(100, 30);
    await terminal.see("this window");
    terminal.send(CTRL_C);
    await terminal.see(/\n> $/);
    terminal.send(`/max-tokens 3${ENTER}`);
    await terminal.see("max-tokens: 3");
    terminal.send(`And now?${ENTER}`);
    await terminal.see(/\[cut at 3 tokens, [^]*\n> $/);
    terminal.send(`/export ${file}${ENTER}`);
    await terminal.see("Exported");
    terminal.send(CTRL_C);
    await terminal.see(/\(Ctrl-C once more, Ctrl-D or \/quit leaves\)\n> $/);
    terminal.send(CTRL_C);
    expect(await terminal.ended).toBe(0);
    const messages = messagesIn("stopped.json");
    expect(messages.map(({ role }) => role)).toEqual(["user", "assistant", "user", "assistant"]);
    expect(messages[0]!.content).toBe("Tell me everything");
    expect(messages[1]!.content.length).toBeGreaterThan(40);
    expect(messages[2]!.content).toBe("And now?");
  });

  test("Ctrl-C while a command runs is kept for the prompt behind it", async () => {
    // Nothing but zeros, of which no chat can be made, but it takes a while to find out.
    writeFileSync(at("zeros.chat"), "");
    truncateSync(at("zeros.chat"), 100_000_000);
    open();
    await terminal.see(PROMPT);
    terminal.send(`/load ${at("zeros.chat")}${ENTER}`);
    await terminal.see("zeros.chat\n");
    terminal.send(CTRL_C);
    await terminal.see(/rwkv: [^]*zeros\.chat[^]*\n> \n\(Ctrl-C once more, [^]*\n> $/);
    // The line goes first, and with it its own Ctrl-C.
    terminal.send(`/seed 2${ENTER}${CTRL_C}`);
    await terminal.see(/Seed: 2\n> \n\(Ctrl-C once more, [^]*\n> $/);
    terminal.send(CTRL_C);
    expect(await terminal.ended).toBe(0);
  });

  test("folded thoughts leave a line behind", async () => {
    open("--model", THINKER, "--format", "g1", "--think", "on");
    await terminal.see(PROMPT);
    terminal.send(`Hi${ENTER}`);
    await terminal.see(/thinking, \d+ tokens[^]*\(thought for 8 tokens\)\n\[cut at 8 tokens/);
    terminal.send(`/think fast${ENTER}`);
    await terminal.see("Think mode: fast");
    terminal.send(`/retry${ENTER}`);
    await terminal.see(/\n>>>>>>>\n\[cut at 8 tokens[^]*\n> $/);
    terminal.send(CTRL_D);
    expect(await terminal.ended).toBe(0);
  });

  test("a path that cannot be written is an error in one line, and the chat is still there", async () => {
    const file = at("kept.chat");
    open();
    await terminal.see(PROMPT);
    terminal.send(`Hello${ENTER}`);
    await terminal.see(/tokens\/s\]\n> $/);
    terminal.send(`/save /nonexistent/chat${ENTER}`);
    await terminal.see("rwkv: /nonexistent is not a folder");
    terminal.send(`/save ${file}${ENTER}`);
    await terminal.see(`Saved to ${file}`);
    terminal.send(`/quit${ENTER}`);
    expect(await terminal.ended).toBe(0);
    expect(existsSync(file)).toBe(true);
    await using model = await loadModel(MODEL);
    await using conversation = await Conversation.restore(model, readFileSync(file));
    expect(conversation.messages[0]!.content).toBe("Hello");
  });

  test("Ctrl-D in the middle of a message of several lines sends what there is", async () => {
    const file = at("end.json");
    open();
    await terminal.see(PROMPT);
    terminal.send(`One\\${ENTER}`);
    await terminal.see("... ");
    terminal.send(CTRL_C);
    await terminal.see(PROMPT);
    terminal.send(`Two\\${ENTER}`);
    await terminal.see("... ");
    terminal.send(CTRL_D);
    await terminal.see(/tokens\/s\]\n> $/);
    terminal.send(`/export ${file}${ENTER}`);
    await terminal.see(AT_PROMPT);
    terminal.send(CTRL_D);
    expect(await terminal.ended).toBe(0);
    expect(messagesIn("end.json")[0]!.content).toBe("Two");
  });
});
