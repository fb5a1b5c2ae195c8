// Builds the vocabulary from the corpus, in the text format of the World vocabulary (BlinkDL/RWKV-LM): id, Python literal,
// byte length. Encoding takes the longest token that fits, so one rule decides what the model sees: a word is a token only
// with the space before it. In quotes, where no space comes first, a word falls into letters; numbers fall into digits.

/** What stands between numbers and around turns; none of them begins inside a word. */
const FIXED = ["\n\n", "User:", "Assistant:", ' "', " + ", " - ", " x ", " = "];

/** Words with the space before them, or with a capital at the start of a line. */
const WORD = /(?<=^|\n)[A-Z][a-z]+(?![A-Za-z:])| [A-Za-z]+(?![A-Za-z])/g;

/** Rarer words stay letters. */
const MIN_COUNT = 10;

/**
 * Chooses the tokens for these documents.
 * @param maxTokens - beyond the 256 bytes; the most frequent words win
 * @returns the vocabulary file
 */
export function buildVocabulary(documents: Iterable<string>, maxTokens: number): string {
  const counts = new Map<string, number>();
  for (const text of documents) {
    for (const [word] of text.matchAll(WORD)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const words = [...counts]
    .filter(([, count]) => count >= MIN_COUNT)
    .sort(([a, nA], [b, nB]) => nB - nA || compareText(a, b))
    .slice(0, maxTokens - FIXED.length)
    .map(([word]) => word);
  const tokens = [...new Set([...FIXED, ...words])].sort((a, b) => a.length - b.length || compareText(a, b));
  const bytes = Array.from({ length: 256 }, (_, byte) => `${byte + 1} ${byteLiteral(byte)} 1`);
  const lines = tokens.map((token, i) => `${257 + i} ${textLiteral(token)} ${token.length}`);
  return [...bytes, ...lines].join("\n") + "\n";
}

/** By code units: the same order in every locale. */
function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function byteLiteral(byte: number): string {
  if (byte < 0x80) return textLiteral(String.fromCharCode(byte));
  return `b'\\x${byte.toString(16)}'`;
}

const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** A Python literal of ASCII text, as Python prints it. */
function textLiteral(text: string): string {
  const quote = text.includes("'") ? '"' : "'";
  const escaped = Array.from(text, (char) => {
    const code = char.charCodeAt(0);
    const isPrintable = code >= 0x20 && code < 0x7f;
    return ESCAPES[char] ?? (isPrintable ? char : `\\x${code.toString(16).padStart(2, "0")}`);
  });
  return quote + escaped.join("") + quote;
}
