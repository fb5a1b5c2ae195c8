// What the tests of this folder share: a small vocabulary, and writers of the three forms it comes in that know nothing
// of the readers.

export type Token = readonly [id: number, bytes: Uint8Array];

const encoder = new TextEncoder();

/** Token texts beyond the single bytes: overlapping words, quotes, escapes, spaces, several scripts. */
const TEXTS: readonly string[] = [
  ...["the", "he", "th", " the", " th", "them", "then", "other", "o ther", "  ", "   ", "id 1", "b'"],
  ...["\n\n", "\r\n", "\t\t", "\\n", "'s", "\"'", "don't", "a'b\"c", '""'],
  ...["é", "né", "中", "中文", "文", "👋", "👋🏽", "\u0080", "\u00ad", "\ufeff", "\u2028", "\u200b"],
];

/** The 256 single bytes with ids 1 to 256, some bytes that are not UTF-8, then `TEXTS`: ids in order of length. */
export const SMALL_VOCABULARY: readonly Token[] = [
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...[Uint8Array.of(0xe4, 0xb8), Uint8Array.of(0xff, 0xfe), Uint8Array.of(0xf0, 0x9f, 0x91)],
  ...TEXTS.map((text) => encoder.encode(text)),
].map((bytes, i): Token => [i + 1, bytes]);

/** Python's repr of the token: of text if it is some, otherwise of bytes. */
export function pythonRepr(bytes: Uint8Array): string {
  let text: string | null;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    text = null;
  }
  const characters =
    text === null ? Array.from(bytes, (byte) => String.fromCharCode(byte)) : Array.from(text);
  const quote = characters.includes("'") && !characters.includes('"') ? '"' : "'";
  const body = characters.map((character) => reprOf(character, quote, text === null)).join("");
  return `${text === null ? "b" : ""}${quote}${body}${quote}`;
}

function reprOf(character: string, quote: string, isBytes: boolean): string {
  const code = character.codePointAt(0)!;
  if (character === quote || character === "\\") return `\\${character}`;
  if (character === "\n") return "\\n";
  if (character === "\r") return "\\r";
  if (character === "\t") return "\\t";
  if (code < 32 || code === 127 || (isBytes && code > 126) || code === 0x80 || code === 0xad) {
    return `\\x${code.toString(16).padStart(2, "0")}`;
  }
  // U+2028, U+200B and the byte order mark are among those that Python takes for unprintable.
  return /[\u2028\u200b\ufeff]/.test(character) ? `\\u${code.toString(16).padStart(4, "0")}` : character;
}

/** The text form, as rwkv_vocab_v20230424.txt has it. */
export function textForm(tokens: readonly Token[], lineEnd = "\n"): Uint8Array<ArrayBuffer> {
  return encoder.encode(
    tokens.map(([id, bytes]) => `${id} ${pythonRepr(bytes)} ${bytes.length}${lineEnd}`).join(""),
  );
}

/** The JSON form: strings where the bytes are text, arrays elsewhere. */
export function jsonForm(tokens: readonly Token[]): Uint8Array<ArrayBuffer> {
  const entries = tokens.map(([id, bytes]): [string, string | number[]] => {
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    return [String(id), text.includes("\ufffd") ? Array.from(bytes) : text];
  });
  return encoder.encode(JSON.stringify(Object.fromEntries(entries)));
}

/** `tokenizer.ggml.*` of a GGUF with `nVocab` rows: the body of Python's bytes literal, whose quotes stay as they are. */
export function ggufMetadata(tokens: readonly Token[], nVocab: number): Map<string, unknown> {
  const texts = Array.from({ length: nVocab }, (_, id) => (id === 0 ? "<s>" : `[PAD${id}]`));
  const types: number[] = Array.from({ length: nVocab }, (_, id) => (id === 0 ? 3 : 5)); // control, unused
  for (const [id, bytes] of tokens) {
    texts[id] = Array.from(bytes, (byte) => reprOf(String.fromCharCode(byte), "", true)).join("");
    types[id] = 1; // normal
  }
  return new Map<string, unknown>([
    ["tokenizer.ggml.model", "rwkv"],
    ["tokenizer.ggml.tokens", texts],
    ["tokenizer.ggml.token_type", types],
  ]);
}
