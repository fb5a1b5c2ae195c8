// The chat format of RWKV World models: turns of "User:" and "Assistant:" that end with an empty line. Prompts end right
// after "Assistant:", because the space belongs to the first token of the answer.

/** One question and its answer, both without line breaks at their ends. */
export interface Turn {
  readonly user: string;
  readonly assistant: string;
}

export const TURN_END = "\n\n";

/** What stands before the answer. */
export function promptOf(user: string): string {
  return `User: ${user}${TURN_END}Assistant:`;
}

export function formatTurn({ user, assistant }: Turn): string {
  return `${promptOf(user)} ${assistant}${TURN_END}`;
}
