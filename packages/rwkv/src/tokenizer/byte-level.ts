// The printable stand-ins for bytes in byte-level BPE vocabularies (GPT-2, openai/gpt-2 src/encoder.py): bytes that
// print as a visible Latin-1 character stand for themselves, the other 68 are U+0100 and on, in ascending order.

const encoder = new TextEncoder();

/** The character that stands for each byte. */
export const BYTE_CHARACTERS: readonly string[] = makeTable();

const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = new Map(
  BYTE_CHARACTERS.map((char, byte) => [char, byte]),
);

/** Bytes of a token of such a vocabulary; the UTF-8 of the token itself if it has any other character. */
export function bytesOfByteLevelToken(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_CHARACTER.get(token.charAt(i));
    if (byte === undefined) return encoder.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}

function makeTable(): string[] {
  let nextStandIn = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const isVisible = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCharCode(isVisible ? byte : nextStandIn++);
  });
}
