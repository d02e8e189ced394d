/**
 * The parts of a DNS message that are found, skipped or patched where they lie.
 *
 *     ┌────┬───────┬──────────┬───────┬───────┬───────┬──────────┬─────────┬───────────┬────────────┐
 *     │ id │ flags │ question │ ans.  │ auth. │ add.  │ question │ answers │ authority │ additional │
 *     │  2 │     2 │ count: 2 │ count │ count │ count │          │         │           │            │
 *     └────┴───────┴──────────┴───────┴───────┴───────┴──────────┴─────────┴───────────┴────────────┘
 *
 * What passes through the resolver keeps its bytes: decoding and encoding would lose what we do not
 * know and the compression of names. A codec gives no offsets, hence this file.
 *
 * Spec: RFC 1035 §4, RFC 6891 §6.1 (OPT).
 * Owns: bounds. Whatever the bytes, nothing here reads past them or throws.
 * @module
 */

import { readU16 } from "../bytes/fields.ts";

/** Size of the header. */
export const HEADER_LENGTH = 12;

/** Bits of the flags field. */
export const Flag = {
  /** A response. */
  QR: 0x8000,
  /** The operation; zero is a query. */
  OPCODE: 0x7800,
  /** Truncated. */
  TC: 0x0200,
  /** Recursion desired. */
  RD: 0x0100,
  /** Recursion available. */
  RA: 0x0080,
  /** Authentic data. */
  AD: 0x0020,
  /** Checking disabled. */
  CD: 0x0010,
  /** The response code. */
  RCODE: 0x000f,
} as const;

/** The one question of a message. */
export interface Question {
  /**
   * Lowercase labels joined by dots, without the root's; empty for the root. Bytes that host names
   * do not have are written `\DDD`, so different names have different texts.
   */
  readonly name: string;
  /** Whether every label is made of letters, digits, hyphens and underscores. */
  readonly isHostLike: boolean;
  /** Record type asked for. */
  readonly type: number;
  /** Class asked for. */
  readonly class: number;
  /** Where the question ends in the message. */
  readonly end: number;
}

/** Where a record lies. */
export interface RecordRef {
  /** Which part of the message. */
  readonly section: "answer" | "authority" | "additional";
  /** Record type. */
  readonly type: number;
  /** Where its name starts. */
  readonly start: number;
  /** Where its type stands; class, TTL and length of the data follow in 2, 4 and 2 bytes. */
  readonly fixed: number;
  /** Where it ends. */
  readonly end: number;
}

const MAX_NAME_LENGTH = 255;
const HOST_LABEL = /^[a-z0-9_-]+$/;

/** Reads the first question; undefined when it does not make sense. The header must be there. */
export function parseQuestion(message: Uint8Array): Question | undefined {
  const labels: string[] = [];
  let isHostLike = true;
  let at = HEADER_LENGTH;
  while (true) {
    // A question comes first, so it has nothing to point at.
    const length = message[at];
    if (length === undefined || length > 63) return undefined;
    at++;
    if (length === 0) break;
    if (at + length > message.length || at + length - HEADER_LENGTH >= MAX_NAME_LENGTH) {
      return undefined;
    }
    const label = labelText(message, at, at + length);
    isHostLike &&= HOST_LABEL.test(label);
    labels.push(label);
    at += length;
  }
  if (at + 4 > message.length) return undefined;
  return {
    name: labels.join("."),
    isHostLike,
    type: readU16(message, at),
    class: readU16(message, at + 2),
    end: at + 4,
  };
}

/**
 * Finds all records of a message.
 *
 * @param start where the questions end
 * @returns undefined when the message ends too early or goes on after the last record
 */
export function findRecords(message: Uint8Array, start: number): RecordRef[] | undefined {
  const records: RecordRef[] = [];
  let at = start;
  for (const [i, section] of (["answer", "authority", "additional"] as const).entries()) {
    for (let left = readU16(message, 6 + 2 * i); left > 0; left--) {
      const fixed = skipName(message, at);
      if (fixed < 0 || fixed + 10 > message.length) return undefined;
      const end = fixed + 10 + readU16(message, fixed + 8);
      if (end > message.length) return undefined;
      records.push({ section, type: readU16(message, fixed), start: at, fixed, end });
      at = end;
    }
  }
  return at === message.length ? records : undefined;
}

/** Encodes a name in its text form, without escapes; undefined when it is none. */
export function encodeName(name: string): Uint8Array | undefined {
  if (name === "") return new Uint8Array(1);
  if (name.length + 2 > MAX_NAME_LENGTH) return undefined;
  const bytes = new Uint8Array(name.length + 2);
  let at = 0;
  for (const label of name.split(".")) {
    if (label.length === 0 || label.length > 63) return undefined;
    bytes[at++] = label.length;
    for (let i = 0; i < label.length; i++) {
      const code = label.charCodeAt(i);
      if (code > 0x7f) return undefined;
      bytes[at++] = code;
    }
  }
  return bytes;
}

/** Where the name at `offset` ends, or -1; what a pointer points at is not looked at. */
function skipName(message: Uint8Array, offset: number): number {
  let at = offset;
  while (true) {
    const length = message[at];
    if (length === undefined) return -1;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2 <= message.length ? at + 2 : -1;
    if (length > 63) return -1;
    at += 1 + length;
    if (at - offset >= MAX_NAME_LENGTH) return -1;
  }
}

function labelText(message: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let i = start; i < end; i++) {
    const byte = message[i]!;
    const isUpper = byte >= 0x41 && byte <= 0x5a;
    if (byte <= 0x20 || byte >= 0x7f || byte === 0x2e || byte === 0x5c) {
      text += `\\${String(byte).padStart(3, "0")}`;
    } else text += String.fromCharCode(isUpper ? byte + 0x20 : byte);
  }
  return text;
}
