// What a session has read of a conversation, as text, and the places it can go back to.

import type { ChatMessage } from "../../chat/template.ts";
import type { Session } from "../session.ts";
import type { Snapshot } from "../snapshot.ts";

/** A place to go back to. */
interface Place {
  /** What the session had read there: its text, and the messages that this was. */
  readonly text: string;
  readonly messages: readonly ChatMessage[];
  readonly snapshot: Snapshot;
}

/** Places kept beside the first; each has the size of the state. */
const MAX_PLACES = 16;

export class Timeline {
  readonly session: Session;
  #text = "";
  #messages: readonly ChatMessage[] = [];
  /** In order of their texts, each of which begins the next; the first is the session's start. */
  #places: readonly Place[];

  private constructor(session: Session, places: readonly Place[]) {
    this.session = session;
    this.#places = places;
  }

  /** @param start - what the session began with; default: as it is */
  static async of(session: Session, start?: Snapshot): Promise<Timeline> {
    const snapshot = start ?? (await session.snapshot());
    return new Timeline(session, [{ text: "", messages: [], snapshot }]);
  }

  get text(): string {
    return this.#text;
  }

  get messages(): readonly ChatMessage[] {
    return this.#messages;
  }

  get start(): Snapshot {
    return this.#places[0]!.snapshot;
  }

  /** Says what the session has read. */
  note(text: string, messages: readonly ChatMessage[]): void {
    this.#text = text;
    this.#messages = messages;
  }

  /**
   * Goes back, if need be, to where the text begins `target`, and remembers the place.
   * @returns what is left to read
   */
  async goTowards(target: string): Promise<string> {
    if (!target.startsWith(this.#text)) {
      await this.#goBack(this.#places.findLastIndex(({ text }) => target.startsWith(text)));
    }
    if (this.#places.at(-1)!.text !== this.#text) {
      const [first, ...others] = this.#places;
      const place = {
        text: this.#text,
        messages: this.#messages,
        snapshot: await this.session.snapshot(),
      };
      this.#places = [first!, ...others.slice(1 - MAX_PLACES), place];
    }
    return target.slice(this.#text.length);
  }

  /** Goes back to the last place. */
  async goBack(): Promise<void> {
    await this.#goBack(this.#places.length - 1);
  }

  /** Goes back to where just these messages had been read, if there is such a place. */
  async goBackTo(messages: readonly ChatMessage[]): Promise<void> {
    const index = this.#places.findLastIndex((place) => areSame(place.messages, messages));
    if (index !== -1) await this.#goBack(index);
  }

  /** The same for a copy of the session. Snapshots are shared. */
  async fork(): Promise<Timeline> {
    const copy = new Timeline(await this.session.fork(), this.#places);
    copy.note(this.#text, this.#messages);
    return copy;
  }

  async #goBack(index: number): Promise<void> {
    const { snapshot, text, messages } = this.#places[index]!;
    await this.session.rewind(snapshot);
    this.#places = this.#places.slice(0, index + 1);
    this.note(text, messages);
  }
}

export function areSame(one: readonly ChatMessage[], other: readonly ChatMessage[]): boolean {
  return one.length === other.length && one.every((message, i) => message === other[i]);
}
