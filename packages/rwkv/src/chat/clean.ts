// Words of users, cleaned as the official chat code cleans them, so that nobody ends his turn unawares.

import { END_OF_TEXT, type LineBreaks } from "./template.ts";

/** The words without white space at their ends, with `\n` for every line break, and those as `lineBreaks` says. */
export function cleanWords(text: string, lineBreaks: LineBreaks): string {
  const plain = text.replaceAll(END_OF_TEXT, "").replace(/\r\n?/g, "\n");
  switch (lineBreaks) {
    case "single":
      return plain.replace(/\n{2,}/g, "\n").trim();
    case "none":
      return plain.replace(/\n+/g, " ").trim();
    case "lines":
      return plain
        .split("\n")
        .map((line) => line.trim())
        .filter((line) => line !== "")
        .join("\n");
  }
}
