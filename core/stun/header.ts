/**
 * The twenty bytes every STUN message begins with.
 *
 *     0        2        4              8                20
 *     | type   | length | magic cookie | transaction id |   big-endian; length counts what follows
 *
 * The type holds the method in twelve bits and the class in two, interleaved:
 * `M11..M7 C1 M6..M4 C0 M3..M0`, with two zero bits on top.
 *
 * Spec: RFC 8489 §5.
 * @module
 */

import { readU16, readU32 } from "../bytes/mod.ts";

/** Bytes in front of the attributes. */
export const HEADER_LENGTH = 20;

/** Bytes 4 to 7 of every message. */
export const MAGIC_COOKIE = 0x2112a442;

/** Bytes in a transaction id. */
export const TRANSACTION_ID_LENGTH = 12;

/** What a message is: a question, one of its two kinds of answer, or a remark. */
export type StunClass = "request" | "indication" | "success" | "error";

/** Position is the value on the wire. */
const CLASSES = ["request", "indication", "success", "error"] as const;

/** The methods in use here (RFC 8489 §18.2, RFC 8656 §17). */
export const METHOD = {
  /** Asks for the sender's address, or checks an ICE pair. */
  binding: 0x001,
  /** Asks a relay for an address. */
  allocate: 0x003,
  /** Prolongs or deletes an allocation. */
  refresh: 0x004,
  /** Lets a peer through. */
  createPermission: 0x008,
  /** Gives a peer a channel number. */
  channelBind: 0x009,
} as const;

/** The first two bytes of a message. @param method 0 to 0xfff */
export function messageType(cls: StunClass, method: number): number {
  const c = CLASSES.indexOf(cls);
  return (method & 0xf80) << 2 | (method & 0x70) << 1 | (method & 0xf) | (c & 2) << 7 |
    (c & 1) << 4;
}

/** The class in the first two bytes of a message. */
export function classOf(type: number): StunClass {
  return CLASSES[(type >> 7 & 2) | (type >> 4 & 1)]!;
}

/** The method in the first two bytes of a message. */
export function methodOf(type: number): number {
  return (type >> 2 & 0xf80) | (type >> 1 & 0x70) | (type & 0xf);
}

/**
 * Whether `buf[start, end)` is framed as one STUN message: a first byte of 0 to 3, which tells STUN
 * from its neighbours on a port (RFC 7983 §7) and bounds methods to 0xff, the cookie, and a length
 * that ends where the datagram does. Its attributes may still make no sense.
 */
export function looksLikeStun(buf: Uint8Array, start: number, end: number): boolean {
  return end - start >= HEADER_LENGTH && buf[start]! <= 3 &&
    readU32(buf, start + 4) === MAGIC_COOKIE &&
    readU16(buf, start + 2) === end - start - HEADER_LENGTH && (end - start) % 4 === 0;
}
