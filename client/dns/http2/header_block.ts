/**
 * The headers of the one request that is made here, and the two of its answers that matter, as
 * HTTP/2 compresses them (RFC 7541).
 *
 * We announce a table of size zero, so that answers may refer to the static table alone.
 * @module
 */

import { utf8, utf8Text } from "@firezone/core/bytes";
import { decodeHuffman } from "./huffman.ts";

/** What an answer's headers say. */
export interface AnswerHeaders {
  /** The status; undefined in trailers. */
  readonly status: number | undefined;
  /** In lower case, without parameters. */
  readonly contentType: string | undefined;
}

/** Where a request goes and what it carries. */
export interface RequestHeaders {
  /** Host, and port if it is not that of HTTPS. */
  readonly authority: string;
  /** Path and query. */
  readonly path: string;
  /** Of what is sent and of what is wanted. */
  readonly mediaType: string;
  /** In bytes. */
  readonly contentLength: number;
}

/** Entries of the static table (RFC 7541, appendix A). */
const Static = {
  authority: 1,
  methodPost: 3,
  path: 4,
  schemeHttps: 7,
  firstStatus: 8,
  lastStatus: 14,
  accept: 19,
  contentLength: 28,
  contentType: 31,
  last: 61,
} as const;
const STATUSES = [200, 204, 206, 304, 400, 404, 500] as const;

/** Encodes a POST request without entering anything into a table. */
export function encodeRequest(headers: RequestHeaders): Uint8Array {
  const bytes: number[] = [0x80 | Static.methodPost, 0x80 | Static.schemeHttps];
  const literal = (index: number, value: string) => {
    pushInteger(bytes, 0x00, 4, index);
    const text = utf8(value);
    pushInteger(bytes, 0x00, 7, text.length);
    bytes.push(...text);
  };
  literal(Static.authority, headers.authority);
  literal(Static.path, headers.path);
  literal(Static.contentType, headers.mediaType);
  literal(Static.accept, headers.mediaType);
  literal(Static.contentLength, `${headers.contentLength}`);
  return new Uint8Array(bytes);
}

/** Reads the headers of an answer, whatever the bytes; undefined when they make no sense. */
export function decodeAnswer(block: Uint8Array): AnswerHeaders | undefined {
  const reader = new BlockReader(block);
  let status: number | undefined;
  let contentType: string | undefined;
  while (!reader.isAtEnd) {
    const first = reader.peek();
    if ((first & 0x80) !== 0) {
      const index = reader.integer(7);
      if (index === undefined || index === 0 || index > Static.last) return undefined;
      if (index >= Static.firstStatus && index <= Static.lastStatus) {
        status = STATUSES[index - Static.firstStatus];
      }
      continue;
    }
    if ((first & 0xe0) === 0x20) {
      // The table's size: zero, as we have asked for.
      if (reader.integer(5) !== 0) return undefined;
      continue;
    }
    const index = reader.integer((first & 0xc0) === 0x40 ? 6 : 4);
    if (index === undefined || index > Static.last) return undefined;
    const name = index === 0 ? reader.string() : nameOf(index);
    const value = reader.string();
    if (name === undefined || value === undefined) return undefined;
    if (name === ":status") status = /^\d{3}$/.test(value) ? Number(value) : NaN;
    if (name === "content-type") contentType = value.split(";")[0]!.trim().toLowerCase();
  }
  return { status, contentType };
}

/** The names that matter; the others need not be told apart. */
function nameOf(index: number): string {
  if (index >= Static.firstStatus && index <= Static.lastStatus) return ":status";
  return index === Static.contentType ? "content-type" : "";
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
    return this.#bytes[this.#at]!;
  }

  /** An integer in the low bits of an octet and those that follow (§5.1). */
  integer(prefixBits: number): number | undefined {
    if (this.isAtEnd) return undefined;
    const max = 2 ** prefixBits - 1;
    let value = this.#bytes[this.#at++]! & max;
    if (value < max) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const octet = this.#bytes[this.#at++];
      if (octet === undefined) return undefined;
      value += (octet & 0x7f) << shift;
      if (octet < 0x80) return value;
    }
    return undefined; // larger than anything that could be meant
  }

  /** A string, compressed or not (§5.2). */
  string(): string | undefined {
    const isHuffman = !this.isAtEnd && (this.peek() & 0x80) !== 0;
    const length = this.integer(7);
    if (length === undefined) return undefined;
    const start = this.#at;
    const end = start + length;
    if (end > this.#bytes.length) return undefined;
    this.#at = end;
    return isHuffman
      ? decodeHuffman(this.#bytes, start, end)
      : utf8Text(this.#bytes.subarray(start, end));
  }
}
