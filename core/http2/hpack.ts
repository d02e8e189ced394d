/**
 * Header blocks of HTTP/2 without a dynamic table.
 *
 *     1…….  indexed field     01……  literal, to be indexed     001…  size of the dynamic table
 *     0000  literal, not indexed          0001  literal, never indexed
 *
 * We announce a dynamic table of size zero, so that blocks may refer to the static table alone, and
 * enter nothing into the other side's. What we send is not compressed by Huffman's code.
 *
 * Spec: RFC 7541.
 * @module
 */

import { utf8 } from "../bytes/mod.ts";
import { decodeHuffman } from "./huffman.ts";

/** Headers in order: names in lower case, pseudo-headers first. */
export type HeaderList = readonly (readonly [name: string, value: string])[];

/** Headers by name, in lower case. */
export type HeaderMap = ReadonlyMap<string, string>;

/** First octet of a block after which the dynamic table has no room (§6.3). */
export const NO_DYNAMIC_TABLE = 0x20;

/** Entries of the static table (appendix A); the first is number 1. */
const STATIC_TABLE: HeaderList = [
  [":authority", ""],
  [":method", "GET"],
  [":method", "POST"],
  [":path", "/"],
  [":path", "/index.html"],
  [":scheme", "http"],
  [":scheme", "https"],
  ...["200", "204", "206", "304", "400", "404", "500"].map((code) => [":status", code] as const),
  ["accept-charset", ""],
  ["accept-encoding", "gzip, deflate"],
  ...[
    ...["accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age"],
    ...["allow", "authorization", "cache-control", "content-disposition", "content-encoding"],
    ...["content-language", "content-length", "content-location", "content-range"],
    ...["content-type", "cookie", "date", "etag", "expect", "expires", "from", "host"],
    ...["if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"],
    ...["last-modified", "link", "location", "max-forwards", "proxy-authenticate"],
    ...["proxy-authorization", "range", "referer", "refresh", "retry-after", "server"],
    ...["set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary"],
    ...["via", "www-authenticate"],
  ].map((name) => [name, ""] as const),
];

/** What a field counts for beside its text (RFC 9113 §6.5.2). */
const FIELD_OVERHEAD = 32;

/** Writes a header block. */
export function encodeHeaders(headers: HeaderList): Uint8Array {
  const bytes: number[] = [];
  for (const [name, value] of headers) {
    const whole = STATIC_TABLE.findIndex(([n, v]) => n === name && v === value && v !== "");
    if (whole >= 0) {
      pushInteger(bytes, 0x80, 7, whole + 1);
      continue;
    }
    const named = STATIC_TABLE.findIndex(([n]) => n === name);
    pushInteger(bytes, 0x00, 4, named + 1);
    if (named < 0) pushString(bytes, name);
    pushString(bytes, value);
  }
  return new Uint8Array(bytes);
}

/**
 * Reads a header block, whatever its bytes. Of equal names the last one counts.
 *
 * @param maxListLength how long names and values may be together, with 32 for each field; it bounds
 * what a few bytes, by index or by Huffman's code, unfold to
 * @returns undefined for what is broken or too long
 */
export function decodeHeaders(block: Uint8Array, maxListLength: number): HeaderMap | undefined {
  const headers = new Map<string, string>();
  const reader = new BlockReader(block);
  let listLength = 0;
  while (!reader.isAtEnd) {
    const first = reader.peek();
    if (first >= 0x20 && first < 0x40) {
      // More room than we announced cannot be taken.
      if (reader.integer(5) !== 0) return undefined;
      continue;
    }
    const field = first >= 0x80 ? STATIC_TABLE[(reader.integer(7) ?? 0) - 1] : literal(reader);
    if (field === undefined) return undefined;
    const [name, value] = field;
    listLength += name.length + value.length + FIELD_OVERHEAD;
    if (listLength > maxListLength) return undefined;
    headers.set(name, value);
  }
  return headers;
}

function literal(reader: BlockReader): readonly [string, string] | undefined {
  const index = reader.integer(reader.peek() >= 0x40 ? 6 : 4);
  if (index === undefined) return undefined;
  const name = index === 0 ? reader.string() : STATIC_TABLE[index - 1]?.[0];
  const value = reader.string();
  return name === undefined || value === undefined ? undefined : [name, value];
}

function pushInteger(bytes: number[], pattern: number, prefixBits: number, value: number): void {
  const max = 2 ** prefixBits - 1;
  if (value < max) {
    bytes.push(pattern | value);
    return;
  }
  bytes.push(pattern | max);
  let rest = value - max;
  for (; rest >= 0x80; rest >>>= 7) bytes.push(0x80 | rest & 0x7f);
  bytes.push(rest);
}

function pushString(bytes: number[], text: string): void {
  const encoded = utf8(text);
  pushInteger(bytes, 0x00, 7, encoded.length);
  bytes.push(...encoded);
}

class BlockReader {
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

  /** An integer in the low bits of an octet and those that follow (§5.1); at most 28 bits. */
  integer(prefixBits: number): number | undefined {
    const max = 2 ** prefixBits - 1;
    let octet = this.#bytes[this.#at++];
    if (octet === undefined) return undefined;
    let value = octet & max;
    if (value < max) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      octet = this.#bytes[this.#at++];
      if (octet === undefined) return undefined;
      value += (octet & 0x7f) << shift;
      if (octet < 0x80) return value;
    }
    return undefined; // larger than anything that could be meant
  }

  /** A string, compressed or not (§5.2), an octet a character. */
  string(): string | undefined {
    const isHuffman = this.peek() >= 0x80;
    const length = this.integer(7);
    if (length === undefined) return undefined;
    const start = this.#at;
    const end = start + length;
    if (end > this.#bytes.length) return undefined;
    this.#at = end;
    return isHuffman ? decodeHuffman(this.#bytes, start, end) : this.#latin1(start, end);
  }

  #latin1(start: number, end: number): string {
    let text = "";
    for (let i = start; i < end; i++) text += String.fromCharCode(this.#bytes[i]!);
    return text;
  }
}
