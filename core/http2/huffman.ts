/**
 * The Huffman code of HTTP/2's headers (RFC 7541, appendix B), reading only.
 *
 * The code is canonical: codes of one length follow each other in the order of their symbols, and
 * longer codes follow shorter ones. So the lengths alone determine it.
 * @module
 */

/** Code lengths in bits of the 256 octets and of the end of the string. */
// deno-fmt-ignore
const LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];

const END_OF_STRING = 256;
const MAX_LENGTH = 30;
/** Symbols in the order of their codes. */
const SYMBOLS = LENGTHS.map((_, symbol) => symbol)
  .sort((a, b) => LENGTHS[a]! - LENGTHS[b]! || a - b);
const COUNTS = Array.from(
  { length: MAX_LENGTH + 1 },
  (_, length) => LENGTHS.filter((l) => l === length).length,
);

/** Decodes `bytes[start, end)`; undefined for what is no encoded string. */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number): string | undefined {
  let text = "";
  // Of the code that is being read: its bits so far, how many, and the first code of that length
  // with its place among the symbols.
  let code = 0;
  let length = 0;
  let first = 0;
  let place = 0;
  let onesInARow = 0;
  for (let bit = start * 8; bit < end * 8; bit++) {
    const value = bytes[bit >> 3]! >> (7 - (bit & 7)) & 1;
    onesInARow = value === 1 ? onesInARow + 1 : 0;
    code = code * 2 + value;
    first = (first + COUNTS[length]!) * 2;
    place += COUNTS[length]!;
    length++;
    if (code - first < COUNTS[length]!) {
      const symbol = SYMBOLS[place + code - first]!;
      if (symbol === END_OF_STRING) return undefined;
      text += String.fromCharCode(symbol);
      code =
        length =
        first =
        place =
          0;
    } else if (length === MAX_LENGTH) return undefined;
  }
  // What is left is the beginning of the end of the string, less than an octet of it (§5.2).
  return length < 8 && onesInARow >= length ? text : undefined;
}
