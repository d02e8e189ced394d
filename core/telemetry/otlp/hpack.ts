/**
 * Header blocks of HTTP/2, as far as one request and its answer need them.
 *
 *     1…….  indexed field     01……  literal, to be indexed     001…  size of the dynamic table
 *     0000  literal, not indexed          0001  literal, never indexed
 *
 * Spec: RFC 7541. The dynamic table has no room, which the other side learns by
 * SETTINGS_HEADER_TABLE_SIZE = 0; a reference into it is an error.
 * Left out: compressing what we send, and names of the static table but `:status` and
 * `content-type`: such a field is read and forgotten.
 * @module
 */

import { utf8 } from "../../bytes/mod.ts";

/** Headers by name, in lower case. */
export type HeaderMap = ReadonlyMap<string, string>;

const STATUS_FIRST = 8;
/** Values of `:status` in the static table, from index 8 (RFC 7541 appendix A). */
const STATUSES = ["200", "204", "206", "304", "400", "404", "500"] as const;
const CONTENT_TYPE = 31;
const STATIC_LENGTH = 61;
/** Integers beyond this are nonsense here. */
const MAX_INTEGER = 0xffff;

/** Writes headers as literals, without Huffman's code and without the tables. */
export function writeHeaders(headers: readonly (readonly [string, string])[]): Uint8Array {
  const bytes: number[] = [];
  for (const [name, value] of headers) {
    bytes.push(0);
    for (const text of [utf8(name), utf8(value)]) {
      writeInteger(bytes, 7, text.length);
      bytes.push(...text);
    }
  }
  return new Uint8Array(bytes);
}

/** Reads a header block; `undefined` if it is broken. Of equal names the last one counts. */
export function parseHeaders(block: Uint8Array): HeaderMap | undefined {
  const headers = new Map<string, string>();
  const reader = new Reader(block);
  while (!reader.isAtEnd) {
    const first = reader.peek();
    if (first >= 0x80) {
      const index = reader.integer(7);
      if (index === undefined || index === 0 || index > STATIC_LENGTH) return undefined;
      const status = STATUSES[index - STATUS_FIRST];
      if (status !== undefined) headers.set(":status", status);
      continue;
    }
    if (first >= 0x20 && first < 0x40) {
      if (reader.integer(5) !== 0) return undefined;
      continue;
    }
    const index = reader.integer(first >= 0x40 ? 6 : 4);
    const name = index === 0 ? reader.string() : nameOf(index);
    const value = reader.string();
    if (name === undefined || value === undefined) return undefined;
    headers.set(name, value);
  }
  return headers;
}

function nameOf(index: number | undefined): string | undefined {
  if (index === undefined || index > STATIC_LENGTH) return undefined;
  if (index === CONTENT_TYPE) return "content-type";
  return STATUSES[index - STATUS_FIRST] === undefined ? "" : ":status";
}

/** RFC 7541 §5.1. The bits before the prefix are zero. */
function writeInteger(bytes: number[], prefixBits: number, value: number): void {
  const limit = (1 << prefixBits) - 1;
  if (value < limit) {
    bytes.push(value);
    return;
  }
  bytes.push(limit);
  let rest = value - limit;
  for (; rest >= 0x80; rest >>>= 7) bytes.push(rest & 0x7f | 0x80);
  bytes.push(rest);
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  peek(): number {
    return this.#bytes[this.#at] ?? 0;
  }

  integer(prefixBits: number): number | undefined {
    const limit = (1 << prefixBits) - 1;
    let byte = this.#bytes[this.#at++];
    if (byte === undefined) return undefined;
    let value = byte & limit;
    if (value < limit) return value;
    for (let shift = 0; shift < 21; shift += 7) {
      byte = this.#bytes[this.#at++];
      if (byte === undefined) return undefined;
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value <= MAX_INTEGER ? value : undefined;
    }
    return undefined;
  }

  string(): string | undefined {
    const isCoded = this.peek() >= 0x80;
    const length = this.integer(7);
    if (length === undefined || this.#at + length > this.#bytes.length) return undefined;
    const bytes = this.#bytes.subarray(this.#at, this.#at += length);
    return isCoded ? huffmanText(bytes) : latin1(bytes);
  }
}

function latin1(bytes: Iterable<number>): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/**
 * How many bits each byte value takes, 0 to 255 and the end of the string, as runs: `6` is six bits,
 * `28x9` nine times twenty-eight (RFC 7541 appendix B).
 */
const CODE_LENGTHS = [
  "13 23 28x7 24 30 28x2 30 28x8 30 28x9 6 10x2 12 13 6 8 11 10x2 8 11 8 6x3 5x3 6x7 7",
  "8 15 6 12 10 13 6 7x22 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6x3 5 7x2 6x3 5 6 7 6 5x2 6",
  "7x5 15 11 14 13 28 20 22 20x2 22x3 23 22 23x5 24 23 24x2 22 23 24 23x4 21 22 23 22",
  "23x2 24 22 21 20 22x2 23x2 21 23 22x2 24 21 22 23x2 21x2 22 21 23 22 23x2 20 22x3 23",
  "22x2 23 26x2 20 19 22 23 22 25 26x3 27x2 26 24 25 19 21 26 27x2 26 27 24 21x2 26x2",
  "28 27x3 20 24 20 21 22 21x2 23 22x2 25x2 24x2 26 23 26 27 26x2 27x5 28 27x5 26 30",
].join(" ");

const END_OF_STRING = 256;
const MAX_CODE_LENGTH = 30;

/** Symbols by their code, behind a one so that leading zeros count. The code is canonical. */
const SYMBOLS: ReadonlyMap<number, number> = symbolsByCode();

function symbolsByCode(): Map<number, number> {
  const lengths = CODE_LENGTHS.split(" ").flatMap((run) => {
    const [bits, times] = run.split("x");
    return new Array<number>(Number(times ?? 1)).fill(Number(bits));
  });
  const symbols = new Map<number, number>();
  let code = 0;
  for (let bits = 1; bits <= MAX_CODE_LENGTH; bits++) {
    for (const [symbol, length] of lengths.entries()) {
      if (length === bits) symbols.set(2 ** bits + code++, symbol);
    }
    code *= 2;
  }
  return symbols;
}

/** RFC 7541 §5.2. What is left over must be the beginning of the end: ones, fewer than eight. */
function huffmanText(bytes: Uint8Array): string | undefined {
  const text: number[] = [];
  let code = 1;
  let bits = 0;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      code = code * 2 + (byte >>> bit & 1);
      if (++bits > MAX_CODE_LENGTH) return undefined;
      const symbol = SYMBOLS.get(code);
      if (symbol === undefined) continue;
      if (symbol === END_OF_STRING) return undefined;
      text.push(symbol);
      code = 1;
      bits = 0;
    }
  }
  return bits < 8 && code === 2 ** (bits + 1) - 1 ? latin1(text) : undefined;
}
