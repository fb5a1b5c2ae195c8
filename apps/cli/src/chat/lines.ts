// From lines to messages: what is typed or piped over several lines becomes one.

const FENCE = '"""';

/** Puts lines together. A line that ends with a backslash goes on in the next; `"""` encloses lines. */
export class LineJoiner {
  #lines: string[] = [];
  #isFenced = false;

  /** Whether a message has begun that is not complete. */
  get isOpen(): boolean {
    return this.#isFenced || this.#lines.length > 0;
  }

  /** @returns the message that the line completes, null if more has to come */
  push(line: string): string | null {
    if (!this.isOpen && line.trimStart().startsWith(FENCE)) {
      this.#isFenced = true;
      return this.#pushFenced(line.trimStart().slice(FENCE.length));
    }
    if (this.#isFenced) return this.#pushFenced(line);
    if (line.endsWith("\\")) {
      this.#lines.push(line.slice(0, -1));
      return null;
    }
    this.#lines.push(line);
    return this.flush();
  }

  /** What has come so far, as a message. */
  flush(): string {
    const message = this.#lines.join("\n");
    this.#lines = [];
    this.#isFenced = false;
    return message;
  }

  #pushFenced(line: string): string | null {
    const end = line.indexOf(FENCE);
    this.#lines.push(end === -1 ? line : line.slice(0, end));
    return end === -1 ? null : this.flush();
  }
}

/** Lines that came at once, as when text is pasted: one message, but for commands. */
export function groupPasted(lines: readonly string[]): string[] {
  const groups: string[] = [];
  let isOpen = false;
  for (const line of lines) {
    const isCommand = line.startsWith("/");
    if (isOpen && !isCommand) groups.push(`${groups.pop()!}\n${line}`);
    else groups.push(line);
    isOpen = !isCommand;
  }
  return groups;
}
