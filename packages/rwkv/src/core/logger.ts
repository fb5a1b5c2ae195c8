// Messages for the developer who embeds the engine. Silent unless a logger is handed in; `console` is one.

/** Where the engine says what it does; messages are single lines. */
export interface Logger {
  /** What was done, with sizes and times. */
  debug(message: string): void;
  /** What a person who runs the program may want to know. */
  info(message: string): void;
  /** What works, but probably not as intended. */
  warn(message: string): void;
}

export const SILENT_LOGGER: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
};
