// The commands of a chat, as a table: `/name ARGUMENT`.

import { CHAT_FORMATS, chatFormat, jsonTranscript, markdownTranscript, THINK_MODES, UsageError } from "rwkv";
import { parseCount } from "../options.ts";
import { writeOut } from "../output.ts";
import { megabytes } from "../progress.ts";
import { writeFileAtomically } from "../write-file.ts";
import type { Chat, ChatSettings } from "./chat.ts";
import { writeText } from "./files.ts";
import type { ChatInput } from "./input.ts";
import { note } from "./output.ts";
import { parsed, SETTINGS, withSetting, type Setting } from "./settings.ts";

/** What stands on the next line for a start; null to leave. */
type Outcome = string | null;
const DONE: Outcome = "";

interface ChatCommand {
  readonly name: string;
  readonly alias?: string;
  /** How the argument is named in the help; brackets where it may be left out, nothing where there is none. */
  readonly argument?: string;
  readonly about: string;
  readonly run: (chat: Chat, argument: string, input: ChatInput) => Promise<Outcome>;
}

const COMMANDS: readonly ChatCommand[] = [
  {
    name: "retry",
    about: "another answer to the last message; + does it too",
    async run(chat, _, { isTerminal }) {
      await chat.answer((options) => chat.conversation.retry(options), isTerminal);
      return DONE;
    },
  },
  {
    name: "undo",
    about: "take the last message and its answer back",
    async run(chat) {
      return noted(`Taken back: ${await chat.conversation.undo()}`);
    },
  },
  {
    name: "edit",
    argument: "[TEXT]",
    about: "say the last message in other words; without TEXT it is put on the line",
    async run(chat, argument, { isTerminal }) {
      if (argument === "") return draftOfLastMessage(chat, isTerminal);
      await chat.answer((options) => chat.conversation.edit(argument, options), isTerminal);
      return DONE;
    },
  },
  {
    name: "system",
    argument: "[TEXT]",
    about: "show or set the system message; - removes it",
    run(chat, argument) {
      const { conversation } = chat;
      if (argument !== "") conversation.system = argument === "-" ? null : argument;
      return Promise.resolve(
        noted(conversation.system === null ? "No system message." : `System message: ${conversation.system}`),
      );
    },
  },
  {
    name: "think",
    argument: "[off|on|fast]",
    about: "show or set whether the model thinks before it answers (format g1)",
    run(chat, argument) {
      const { conversation } = chat;
      if (argument !== "") conversation.think = oneOf(argument, THINK_MODES, "think");
      return Promise.resolve(noted(`Think mode: ${conversation.think}`));
    },
  },
  {
    name: "thoughts",
    argument: "[fold|show]",
    about: "fold thoughts away or show them",
    run({ settings }, argument) {
      if (argument !== "") settings.showsThoughts = oneOf(argument, ["fold", "show"], "thoughts") === "show";
      return Promise.resolve(noted(`Thoughts: ${settings.showsThoughts ? "shown" : "folded away"}`));
    },
  },
  {
    name: "format",
    argument: "[NAME]",
    about: "show or set the prompt format",
    async run({ conversation, model }, argument) {
      if (argument !== "") conversation.format = await chatFormat(model, argument);
      return noted(`Format: ${conversation.format.name}, of ${CHAT_FORMATS.join(", ")}`);
    },
  },
  {
    name: "set",
    about: "show all settings",
    run({ settings }) {
      return Promise.resolve(
        noted(SETTINGS.map(({ name, key }) => `${name}: ${shownValue(settings, key)}`).join("\n")),
      );
    },
  },
  {
    name: "seed",
    argument: "N",
    about: "draw the answers from here on with this seed",
    run({ conversation }, argument) {
      conversation.seed = parsed("seed", required(argument, "seed", "N"), parseCount);
      return Promise.resolve(noted(`Seed: ${argument}`));
    },
  },
  {
    name: "history",
    about: "show what was said",
    async run({ conversation }) {
      await writeOut(markdownTranscript(conversation.messages));
      return DONE;
    },
  },
  {
    name: "state",
    argument: "[FILE]",
    about: "tell about the state, or save it for generate --state",
    async run({ conversation, model, branch }, argument) {
      const { session, messages, isRead, format } = conversation;
      const behind = isRead ? "" : ", which will be read anew where they changed";
      note(
        `${session.nTokens} tokens in a state of ${megabytes(model.info.stateByteLength)}; ` +
          `branch ${branch}, ${messages.length} messages${behind}; format ${format.name}`,
      );
      if (argument === "") return DONE;
      await writeFileAtomically(argument, await session.save());
      return noted(`State saved to ${argument}`);
    },
  },
  {
    name: "save",
    argument: "FILE",
    about: "save messages and state",
    async run({ conversation }, argument) {
      const path = required(argument, "save", "FILE");
      await writeFileAtomically(path, await conversation.save());
      return noted(`Saved to ${path}`);
    },
  },
  {
    name: "load",
    argument: "FILE",
    about: "go on from what /save or /export wrote, or from a file of messages",
    async run(chat, argument) {
      await chat.load(required(argument, "load", "FILE"));
      return noted(`Loaded, with ${chat.conversation.messages.length} messages`);
    },
  },
  {
    name: "export",
    argument: "FILE",
    about: "write what was said as Markdown, or as JSON if FILE ends with .json",
    async run({ conversation: { messages, format }, model }, argument) {
      const path = required(argument, "export", "FILE");
      const details = { model: model.info.name, format: format.name };
      const isJson = path.toLowerCase().endsWith(".json");
      await writeText(path, isJson ? jsonTranscript(messages, details) : markdownTranscript(messages));
      return noted(`Exported to ${path}`);
    },
  },
  {
    name: "fork",
    argument: "NAME",
    about: "go on with a copy of the chat, under this name",
    async run(chat, argument) {
      await chat.fork(required(argument, "fork", "NAME"));
      return noted(`On branch ${chat.branch}`);
    },
  },
  {
    name: "switch",
    argument: "[NAME]",
    about: "go to another branch; without NAME list them",
    run(chat, argument) {
      if (argument !== "") chat.switchTo(argument);
      const others = [...chat.branches].map(
        ([name, { messages }]) => `${name} (${messages.length} messages)`,
      );
      return Promise.resolve(noted(`On branch ${chat.branch}, of ${others.join(", ")}`));
    },
  },
  {
    name: "clear",
    about: "begin anew",
    async run(chat) {
      await chat.clear();
      return noted("Begun anew");
    },
  },
  ...SETTINGS.map(settingCommand),
  {
    name: "help",
    about: "show this",
    run() {
      return Promise.resolve(noted(helpText()));
    },
  },
  { name: "quit", alias: "exit", about: "leave; so does Ctrl-D", run: () => Promise.resolve(null) },
];

const HELP_END = `
A line that ends with \\ goes on in the next; """ encloses several lines. A message that begins with / is written //.
Ctrl-C stops an answer and keeps what there is of it.`;

/**
 * Runs what begins with `/`.
 * @returns what stands on the next line for a start; null to leave
 * @throws UsageError if there is no such command
 */
export async function runCommand(chat: Chat, message: string, input: ChatInput): Promise<Outcome> {
  const [, name, argument] = /^\/(\S*)\s*([^]*)$/.exec(message)!;
  const command = COMMANDS.find((one) => one.name === name || one.alias === name);
  if (command === undefined) {
    throw new UsageError(
      `There is no command /${name!}; /help lists them. A message that begins with / is written //.`,
    );
  }
  if (command.argument === undefined && argument !== "") {
    throw new UsageError(`/${command.name} takes no argument, but "${argument!}" follows it.`);
  }
  return command.run(chat, argument!, input);
}

function settingCommand(setting: Setting): ChatCommand {
  const { name, alias, key, about, fallback } = setting;
  return {
    name,
    ...(alias === undefined ? {} : { alias }),
    argument: "[VALUE]",
    about: `show or set: ${about}${fallback === undefined ? "" : ` (default: ${fallback})`}`,
    run({ settings }, argument) {
      if (argument !== "") settings.values = withSetting(settings.values, setting, argument);
      return Promise.resolve(noted(`${name}: ${shownValue(settings, key)}`));
    },
  };
}

function shownValue({ values }: ChatSettings, key: Setting["key"]): string {
  return String(values[key] ?? "default");
}

function helpText(): string {
  const rows = COMMANDS.map(({ name, alias, argument, about }) => {
    const names = alias === undefined ? `/${name}` : `/${name}, /${alias}`;
    return [argument === undefined ? names : `${names} ${argument}`, about] as const;
  });
  const width = Math.max(...rows.map(([usage]) => usage.length));
  return rows.map(([usage, about]) => `${usage.padEnd(width)}  ${about}`).join("\n") + HELP_END;
}

function draftOfLastMessage({ conversation }: Chat, isTerminal: boolean): string {
  const last = conversation.messages.findLast(({ role }) => role === "user")?.content;
  if (last === undefined) throw new UsageError("Nothing has been said yet that could be edited.");
  if (isTerminal && !last.includes("\n")) return `/edit ${last}`;
  throw new UsageError("Say what the message shall be: /edit TEXT.");
}

function required(argument: string, command: string, name: string): string {
  if (argument !== "") return argument;
  throw new UsageError(`/${command} needs an argument: /${command} ${name}.`);
}

function oneOf<Choice extends string>(text: string, choices: readonly Choice[], command: string): Choice {
  const choice = choices.find((one) => one === text);
  if (choice !== undefined) return choice;
  throw new UsageError(`/${command} ${text}: expected ${choices.join(", ")}.`);
}

function noted(text: string): Outcome {
  note(text);
  return DONE;
}
