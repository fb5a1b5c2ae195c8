// Conversations on a tiny model: what the session has read is always what the format says, whatever was undone, edited,
// forked or saved in between.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  Conversation,
  FormatError,
  jinjaFormat,
  loadModel,
  renderChat,
  templateFormat,
  UnsupportedError,
  UsageError,
  WORLD_CHAT,
  G1_CHAT,
  type ChatTemplate,
  type ConversationOptions,
  type Model,
  type Session,
} from "../../packages/rwkv/src/node.ts";
import { tinyModel } from "../support/tiny-model.ts";

let model: Model;
let other: Model;

beforeAll(async () => {
  model = await loadModel(tinyModel(), { threads: 1 });
  other = await loadModel(tinyModel({ seed: 2 }), { threads: 1 });
});
afterAll(() => {
  model.dispose();
  other.dispose();
});

const OPTIONS = { maxTokens: 6, temperature: 0 };
const create = (options: ConversationOptions = {}): Promise<Conversation> =>
  Conversation.create(model, { seed: 1, ...options });

async function stateOf(session: Session): Promise<Float32Array> {
  await using copy = await session.fork();
  return await copy.readState();
}

/** The state after these texts and ids: what a random model writes is no UTF-8, and its ids tell it exactly. */
async function stateAfter(...pieces: readonly (string | readonly number[])[]): Promise<Float32Array> {
  await using session = await model.createSession();
  for (const piece of pieces) await session.append(piece);
  return await session.readState();
}

/** The text that a conversation is to have read before its last answer. */
function promptOf({ messages }: Conversation, format = WORLD_CHAT): string {
  return renderChat(messages.slice(0, -1), format);
}

describe("say", () => {
  test("reads what the format says and goes on from what was written", async () => {
    await using chat = await create();
    const { message, generation } = await chat.say(" Hi\r\n\r\nthere ", OPTIONS);
    expect(generation.tokens).toHaveLength(6);
    expect(message!.written).toBe(generation.text.trimEnd());
    expect(message!.content).toBe(generation.text.trim());
    expect(chat.messages).toEqual([{ role: "user", content: " Hi\r\n\r\nthere " }, message]);
    const first = ["User: Hi\nthere\n\nAssistant:", generation.tokens];
    expect(await stateOf(chat.session)).toEqual(await stateAfter(...first));
    expect(chat.isRead).toBe(true);

    const { generation: next } = await chat.say("And?", OPTIONS);
    const second = ["\n\nUser: And?\n\nAssistant:", next.tokens];
    expect(await stateOf(chat.session)).toEqual(await stateAfter(...first, ...second));
  });

  test("streams pieces that together are the answer", async () => {
    await using chat = await create();
    const answer = chat.say("Hi", OPTIONS);
    let text = "";
    for await (const piece of answer) text += piece.text;
    expect(text).toBe(answer.result!.generation.text);
    expect(() => answer[Symbol.asyncIterator]()).toThrow(/can be read once/);
  });

  test("an answer that ends at a stop string is followed by the rest of the next turn alone", async () => {
    await using probe = await create();
    const { tokens } = (await probe.say("Hi", { maxTokens: 60, temperature: 0 })).generation;
    const isWord = (id: number): boolean => id > 0x20 && id < 0x7f;
    const nBefore = tokens.findIndex(
      (id, i) => i > 0 && isWord(id) && isWord(tokens[i - 1]!) && tokens.indexOf(id) === i,
    );
    expect(nBefore).toBeGreaterThan(0);
    const stop = String.fromCharCode(tokens[nBefore]!);
    const assistant = { label: "Assistant:", lead: " ", end: stop };
    const template: ChatTemplate = {
      ...WORLD_CHAT,
      turns: { ...WORLD_CHAT.turns, assistant },
      stop: [stop],
    };
    await using chat = await create({ format: templateFormat(template) });
    const { generation } = await chat.say("Hi", { maxTokens: 60, temperature: 0 });
    expect(generation.tokens).toEqual(tokens.slice(0, nBefore + 1));
    expect(generation.finishReason).toBe("stop");
    const { generation: next } = await chat.say("And?", OPTIONS);
    expect(next.usage.promptTokens).toBe("User: And?\n\nAssistant:".length);
    const pieces = ["User: Hi\n\nAssistant:", generation.tokens, "User: And?\n\nAssistant:", next.tokens];
    expect(await stateOf(chat.session)).toEqual(await stateAfter(...pieces));
  });

  test("stopped in mid-answer keeps what was written; stopped before its first token, nothing", async () => {
    await using chat = await create();
    const controller = new AbortController();
    let n = 0;
    for await (const piece of chat.say("Hi", { maxTokens: 50, temperature: 0, signal: controller.signal })) {
      n += piece.text.length;
      if (n >= 3) controller.abort();
    }
    expect(chat.messages).toHaveLength(2);
    expect(chat.messages[1]!.written!.length).toBeGreaterThan(0);
    const kept = chat.messages;
    const state = await stateOf(chat.session);

    const result = await chat.say("And?", { signal: AbortSignal.abort() });
    expect(result.message).toBeNull();
    expect(result.generation.finishReason).toBe("aborted");
    expect(chat.messages).toBe(kept);
    expect(await stateOf(chat.session)).toEqual(state);
  });

  test("leaving the loop ends the answer and keeps what was written", async () => {
    await using chat = await create();
    const answer = chat.say("Hi", { maxTokens: 50, temperature: 0 });
    for await (const piece of answer) if (piece.text !== "") break;
    expect(answer.result!.generation.finishReason).toBe("aborted");
    expect(chat.messages).toHaveLength(2);
    expect((await chat.say("And?", OPTIONS)).message).not.toBeNull();
  });

  test("an error leaves messages and state as they were", async () => {
    await using chat = await create();
    await chat.say("Hi", OPTIONS);
    const { messages } = chat;
    const state = await stateOf(chat.session);
    const failing = chat.say("And?", {
      ...OPTIONS,
      onProgress: ({ phase }) => {
        if (phase === "decode") throw new Error("the listener fails");
      },
    });
    await expect(failing).rejects.toThrow("the listener fails");
    await expect(chat.say("And?", { temperature: -1 })).rejects.toThrow(UsageError);
    expect(chat.messages).toBe(messages);
    expect(await stateOf(chat.session)).toEqual(state);
  });

  test("the same seed gives the same conversation, each answer having a seed of its own", async () => {
    const texts: string[][] = [];
    for (let i = 0; i < 2; i++) {
      await using chat = await create({ seed: 7 });
      const answers = [chat.say("Hi"), chat.say("Hi")].map(async (answer) => (await answer).generation.text);
      await expect(answers[1]).rejects.toThrow(/busy/);
      texts.push([(await answers[0])!, (await chat.say("Hi")).generation.text]);
    }
    expect(texts[0]).toEqual(texts[1]);
    expect(texts[0]![0]).not.toBe(texts[0]![1]);
  });
});

describe("going back", () => {
  test("undo returns to the state before the turn, and says what the user had said", async () => {
    await using chat = await create();
    await chat.say("One", OPTIONS);
    const { messages } = chat;
    const state = await stateOf(chat.session);
    await chat.say("Two", OPTIONS);
    expect(await chat.undo()).toBe("Two");
    expect(chat.messages).toEqual(messages);
    expect(await stateOf(chat.session)).toEqual(state);
    expect(chat.isRead).toBe(true);
    expect(await chat.undo()).toBe("One");
    expect(chat.session.nTokens).toBe(0);
    await expect(chat.undo()).rejects.toThrow(/The user has said nothing yet/);
  });

  test("retry answers the same question from the same state with other draws", async () => {
    await using chat = await create({ seed: 3 });
    await chat.say("One", OPTIONS);
    const first = await chat.say("Two", { maxTokens: 12 });
    const second = await chat.retry({ maxTokens: 12 });
    expect(second.generation.text).not.toBe(first.generation.text);
    expect(chat.messages).toHaveLength(4);
    expect(chat.messages[2]).toEqual({ role: "user", content: "Two" });
    // Greedy, the state before being the same, the answer is too.
    const greedy = await chat.retry(OPTIONS);
    expect((await chat.retry(OPTIONS)).generation.tokens).toEqual(greedy.generation.tokens);
  });

  test("a retry that is stopped before its first token keeps the answer there was", async () => {
    await using chat = await create();
    await chat.say("One", OPTIONS);
    const { messages } = chat;
    await chat.retry({ signal: AbortSignal.abort() });
    expect(chat.messages).toBe(messages);
    expect(chat.isRead).toBe(false);
    const next = await chat.say("Two", { maxTokens: 1, temperature: 0 });
    expect(await stateOf(chat.session)).toEqual(await stateAfter(promptOf(chat), next.generation.tokens));
  });

  test("edit is what a conversation with the other words would have been", async () => {
    await using chat = await create();
    await chat.say("One", OPTIONS);
    await chat.say("Two", OPTIONS);
    const edited = await chat.edit("Three", OPTIONS);
    await using fresh = await create();
    await fresh.say("One", OPTIONS);
    const said = await fresh.say("Three", OPTIONS);
    expect(edited.generation.tokens).toEqual(said.generation.tokens);
    expect(chat.messages).toEqual(fresh.messages);
  });

  test("further back than snapshots reach, turns are read again", async () => {
    await using chat = await create();
    const short = { maxTokens: 1, temperature: 0 };
    for (let i = 0; i < 20; i++) await chat.say(`Turn ${i}`, short);
    for (let i = 19; i >= 1; i--) expect(await chat.undo()).toBe(`Turn ${i}`);
    const { generation } = await chat.say("Other", short);
    expect(await stateOf(chat.session)).toEqual(await stateAfter(promptOf(chat), generation.tokens));
  });

  test("another system message or format is read from the start", async () => {
    await using chat = await create();
    await chat.say("One", OPTIONS);
    chat.system = "Be brief.";
    expect(chat.isRead).toBe(false);
    const { generation } = await chat.say("Two", OPTIONS);
    expect(chat.system).toBe("Be brief.");
    expect(promptOf(chat)).toMatch(/^System: Be brief\.\n\nUser: One\n\nAssistant:/);
    expect(await stateOf(chat.session)).toEqual(await stateAfter(promptOf(chat), generation.tokens));
    chat.system = null;
    const template = { ...WORLD_CHAT, start: "\n" };
    chat.format = templateFormat(template);
    const last = await chat.say("Three", OPTIONS);
    expect(await stateOf(chat.session)).toEqual(
      await stateAfter(promptOf(chat, template), last.generation.tokens),
    );
  });
});

describe("thoughts", () => {
  test("a tail opens them, and belongs to what was written", async () => {
    await using chat = await create({ format: templateFormat(G1_CHAT), think: "on" });
    const { message, generation } = await chat.say("Hi", OPTIONS);
    expect(message!.written).toBe(` <think${generation.text}`.trimEnd());
    await chat.say("And?", OPTIONS);
    expect(chat.messages).toHaveLength(4);
  });

  test("the format must have the mode", async () => {
    await expect(create({ think: "on" })).rejects.toThrow(/Think mode "on" is not in the format "world"/);
    await using chat = await create({ format: templateFormat(G1_CHAT) });
    chat.think = "fast";
    expect(() => (chat.format = templateFormat(WORLD_CHAT))).toThrow(/Think mode "fast"/);
  });
});

test("the end of a text is read as its id where a template or an option has it", async () => {
  // Bytes have no such id: what stands for it is left out.
  const template =
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}>";
  const format = await jinjaFormat({ name: "t", template, specialTokens: [] });
  await using chat = await create({ format, startToken: true });
  const { generation } = await chat.say("Hi", OPTIONS);
  expect(await stateOf(chat.session)).toEqual(await stateAfter("user: Hi>", generation.tokens));
});

describe("copies", () => {
  test("a fork goes on by itself, and can go back", async () => {
    await using chat = await create();
    await chat.say("One", OPTIONS);
    const { messages } = chat;
    await using copy = await chat.fork();
    await copy.say("Two", OPTIONS);
    expect(chat.messages).toBe(messages);
    await copy.undo();
    await copy.undo();
    expect(copy.messages).toEqual([]);
    expect((await copy.say("One", OPTIONS)).message).toEqual(messages[1]);
    expect(chat.messages).toBe(messages);
  });

  test("saved and restored it goes on as if never interrupted", async () => {
    await using chat = await create({ seed: 5, messages: [{ role: "system", content: "Be brief." }] });
    await chat.say("One", { maxTokens: 8 });
    await using restored = await Conversation.restore(model, await chat.save());
    expect(restored.messages).toEqual(chat.messages);
    expect(restored.format.name).toBe("world");
    expect(restored.isRead).toBe(true);
    const [want, got] = [
      await chat.say("Two", { maxTokens: 8 }),
      await restored.say("Two", { maxTokens: 8 }),
    ];
    expect(got.generation.tokens).toEqual(want.generation.tokens);
    // Snapshots of turns are not saved, but going back reads them again.
    expect(await restored.undo()).toBe("Two");
    expect(await restored.undo()).toBe("One");
    const { generation } = await restored.say("One", OPTIONS);
    expect(await stateOf(restored.session)).toEqual(await stateAfter(promptOf(restored), generation.tokens));
  });

  test("a conversation that began with a state of its own keeps it", async () => {
    const session = await model.createSession();
    await session.append("A story.\n\n");
    await using chat = await create({ session });
    const first = await chat.say("One", OPTIONS);
    await using restored = await Conversation.restore(model, await chat.save());
    await restored.undo();
    expect((await restored.say("One", OPTIONS)).generation.tokens).toEqual(first.generation.tokens);
  });

  test("another model, damage and later versions are refused", async () => {
    await using chat = await create();
    await chat.say("One", OPTIONS);
    const bytes = await chat.save();
    await expect(Conversation.restore(other, bytes)).rejects.toThrow(/continues only on its own model/);
    for (const i of [0, 20, 200, bytes.length - 1]) {
      const damaged = bytes.slice();
      damaged[i]! ^= 1;
      await expect(Conversation.restore(model, damaged, "c.chat")).rejects.toThrow(FormatError);
    }
    await expect(Conversation.restore(model, bytes.slice(0, 30), "c.chat")).rejects.toThrow(
      /^c\.chat: expected a saved conversation/,
    );
    const later = bytes.slice();
    later[8] = 2;
    await expect(Conversation.restore(model, later, "c.chat")).rejects.toThrow(UnsupportedError);
  });
});
