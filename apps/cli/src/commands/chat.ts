// rwkv chat: talk to a model.

import { Option, type Command } from "commander";
import { CHAT_FORMATS, THINK_MODES } from "rwkv";
import { Chat, type ChatStart } from "../chat/chat.ts";
import { openInput } from "../chat/input.ts";
import { note } from "../chat/output.ts";
import { addSettingFlags, settingsOf } from "../chat/settings.ts";
import { withInterrupt } from "../interrupt.ts";
import { addModelFlags, collect, loadFromFlags, parseCount, type ModelFlags } from "../options.ts";
import { addStateFlags, saveFromFlags, sessionFromFlags, type StateFlags } from "../state-flags.ts";

interface ChatFlags extends ModelFlags, StateFlags, Pick<ChatStart, "format" | "think" | "system" | "seed"> {
  readonly stop?: string[];
  readonly chatTemplate?: string;
  readonly startToken?: boolean;
  readonly prompt?: string;
  readonly load?: string;
  readonly showThoughts?: boolean;
}

export function addChat(program: Command): void {
  const command = program
    .command("chat")
    .description(
      "Talk to a model. /help lists the commands of the chat. Piped, each line of stdin is a message, and the answers go to stdout.",
    )
    .addOption(
      new Option("--format <name>", "prompt format; auto goes by the model")
        .choices(CHAT_FORMATS)
        .default("auto"),
    )
    .option("--chat-template <file>", "a prompt format as a template in Jinja")
    .addOption(
      new Option("--think <mode>", "whether the model thinks before it answers (format g1)")
        .choices(THINK_MODES)
        .default("off"),
    )
    .option("--show-thoughts", "show thoughts instead of folding them away")
    .option("--system <text>", "system message")
    .option("--prompt <file>", "JSON of messages to begin with, also in web-rwkv's form")
    .option("--load <file>", "go on from what /save wrote")
    .option("--start-token", "read the end-of-text token first")
    .option("--stop <text>", "end answers before this text too; may be given more than once", collect)
    .option("-s, --seed <n>", "the same seed gives the same answers (default: random)", parseCount)
    .action((flags: ChatFlags) => run(flags));
  addStateFlags(addSettingFlags(command), "at the end, also when interrupted in an answer");
  addModelFlags(command).addHelpText(
    "after",
    `
Examples:
  $ rwkv chat --model rwkv7-g1d-0.4b.pth
  $ rwkv chat --model rwkv7-g1d-0.4b.pth --think on --system "Answer in French."
  $ rwkv chat --model model.pth --prompt friends.json --save-state friends.state
  $ echo "What is the sea made of?" | rwkv chat --model model.pth --max-tokens 50`,
  );
}

async function run(flags: ChatFlags): Promise<void> {
  const settings = {
    values: settingsOf(flags),
    stop: flags.stop ?? [],
    showsThoughts: flags.showThoughts === true,
  };
  await using model = await withInterrupt(({ signal }) => loadFromFlags(flags, signal));
  const start: ChatStart = {
    format: flags.format,
    templateFile: flags.chatTemplate,
    think: flags.think,
    startToken: flags.startToken === true,
    system: flags.system,
    promptFile: flags.prompt,
    createSession: flags.state === undefined ? null : () => sessionFromFlags(model, flags),
    seed: flags.seed,
  };
  const chat = await Chat.open(model, start, settings, flags.quiet === true);
  if (flags.load !== undefined) await chat.load(flags.load);
  try {
    using input = openInput();
    if (input.isTerminal && flags.quiet !== true) {
      note(`${model.info.name}, format ${chat.conversation.format.name}. /help lists the commands.`);
    }
    await chat.run(input);
  } finally {
    await saveFromFlags(chat.conversation.session, flags);
  }
}
