// Where messages come from: a terminal with line editing and history, or a pipe.

import { createInterface } from "node:readline";
import { EXIT } from "../errors.ts";
import { listenForInterrupt } from "../interrupt.ts";
import { groupPasted, LineJoiner } from "./lines.ts";

/** Gives one message after the other, until it is disposed of. */
export interface ChatInput extends Disposable {
  /** Whether a person types. */
  readonly isTerminal: boolean;
  /**
   * The next message or command; null at the end.
   * @param draft - what stands on the line for a start, on a terminal
   */
  next(draft?: string): Promise<string | null>;
}

export function openInput(): ChatInput {
  return process.stdin.isTTY ? new TerminalInput() : pipedInput();
}

/** Each line is a message, unless it says that it goes on. */
function pipedInput(): ChatInput {
  const pipe = createInterface({ input: process.stdin, crlfDelay: Infinity });
  const lines: AsyncIterator<string, undefined> = pipe[Symbol.asyncIterator]();
  const joiner = new LineJoiner();
  return {
    isTerminal: false,
    async next() {
      for (;;) {
        const line = await lines.next();
        if (line.done === true) return joiner.isOpen ? joiner.flush() : null;
        const message = joiner.push(line.value);
        if (message !== null) return message;
      }
    },
    [Symbol.dispose]: () => pipe.close(),
  };
}

const PROMPT = "> ";
const MORE_PROMPT = "... ";
const HISTORY_LINES = 1000;
const INTERRUPT = Symbol("Ctrl-C");
const LEAVE_HINT = "(Ctrl-C once more, Ctrl-D or /quit leaves)";

/**
 * Holds the terminal only while it waits for a line, so that Ctrl-C is a signal to whoever writes an answer. Where nobody does, as
 * in a command, it is kept for the next prompt.
 */
class TerminalInput implements ChatInput {
  readonly isTerminal = true;
  readonly #joiner = new LineJoiner();
  #history: string[] = [];
  /** Messages that came at once with the last one, and the beginning of a line behind them. */
  #waiting: string[] = [];
  #draft = "";
  /** Whether the last thing that happened was Ctrl-C at an empty prompt. */
  #isLeaving = false;
  /** What Ctrl-C does at the prompt; null while there is none. */
  #interruptPrompt: (() => void) | null = null;
  /** Whether Ctrl-C came while there was none. */
  #isInterrupted = false;
  readonly #endListening = listenForInterrupt(() => {
    if (this.#interruptPrompt === null) this.#keepInterrupt();
    else this.#interruptPrompt();
  });

  async next(draft = ""): Promise<string | null> {
    let prefill = draft;
    for (;;) {
      const group =
        this.#waiting.shift() ?? (await this.#read(this.#joiner.isOpen ? MORE_PROMPT : PROMPT, prefill));
      prefill = "";
      if (group === null) return this.#joiner.isOpen ? this.#joiner.flush() : null;
      if (group === INTERRUPT) {
        this.#joiner.flush();
        continue;
      }
      this.#isLeaving = false;
      const message = this.#joiner.push(group);
      if (message !== null) return message;
    }
  }

  /** @returns lines that came together, null at the end of input */
  #read(prompt: string, draft: string): Promise<string | typeof INTERRUPT | null> {
    const output = process.stdout.isTTY ? process.stdout : process.stderr;
    const terminal = createInterface({
      input: process.stdin,
      output,
      terminal: true,
      history: this.#history,
      historySize: HISTORY_LINES,
      removeHistoryDuplicates: true,
    });
    return new Promise((resolve) => {
      const lines: string[] = [];
      let isInterrupted = false;
      const interrupt = (): void => {
        if (lines.length > 0) {
          this.#keepInterrupt();
          return;
        }
        const isEmpty = terminal.line === "" && !this.#joiner.isOpen;
        isInterrupted = !(isEmpty && this.#isLeaving);
        if (isEmpty && isInterrupted) output.write(`\n${LEAVE_HINT}`);
        this.#isLeaving = isEmpty;
        terminal.close();
      };
      terminal.on("history", (history) => {
        this.#history = [...history];
      });
      terminal.on("line", (line) => {
        // What is pasted comes in one piece: its lines follow before anything else can happen.
        if (lines.push(line) === 1) setImmediate(() => terminal.close());
      });
      terminal.on("SIGINT", interrupt);
      this.#interruptPrompt = interrupt;
      terminal.on("close", () => {
        this.#interruptPrompt = null;
        const [first, ...others] = groupPasted(lines);
        if (first !== undefined) this.#draft = terminal.line;
        else output.write("\n");
        this.#waiting = this.#isInterrupted ? [] : others;
        resolve(first ?? (isInterrupted ? INTERRUPT : null));
      });
      terminal.setPrompt(prompt);
      terminal.prompt();
      const begun = this.#draft === "" ? draft : this.#draft;
      this.#draft = "";
      if (begun !== "") terminal.write(begun);
      if (this.#isInterrupted) {
        this.#isInterrupted = false;
        interrupt();
      }
    });
  }

  /** The first one drops what waits; as elsewhere, the second one ends the process. */
  #keepInterrupt(): void {
    if (this.#isInterrupted) process.exit(EXIT.interrupted);
    this.#isInterrupted = true;
    this.#waiting = [];
  }

  [Symbol.dispose](): void {
    this.#endListening();
  }
}
