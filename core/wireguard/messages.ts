/**
 * The four messages of WireGuard (paper §5.4), all little-endian.
 *
 *     initiation    01 00 00 00 | sender 4 | ephemeral 32 | static 48 | timestamp 28 | mac1 16 | mac2 16
 *     response      02 00 00 00 | sender 4 | receiver 4 | ephemeral 32 | nothing 16 | mac1 16 | mac2 16
 *     cookie reply  03 00 00 00 | receiver 4 | nonce 24 | cookie 32
 *     data          04 00 00 00 | receiver 4 | counter 8 | packet, padded, and tag 16
 *
 * Owns: types, lengths, offsets. Does not own: what the fields mean.
 * @module
 */

import { readU32le, writeU32le } from "../bytes/mod.ts";

/** First byte of a message, three zero bytes follow it. */
export const MessageType = { Initiation: 1, Response: 2, CookieReply: 3, Data: 4 } as const;

/** One of the numbers in the table of the same name. */
export type MessageType = typeof MessageType[keyof typeof MessageType];

/** Bytes of an initiation. */
export const INITIATION_LENGTH = 148;
/** Bytes of a response. */
export const RESPONSE_LENGTH = 92;
/** Bytes of a cookie reply. */
export const COOKIE_REPLY_LENGTH = 64;
/** What a data message adds to its padded packet: 16 bytes of header, 16 of tag. */
export const DATA_OVERHEAD = 32;

/** Where the fields of an initiation begin. */
export const INITIATION = { sender: 4, ephemeral: 8, static: 40, timestamp: 88 } as const;
/** Where the fields of a response begin. */
export const RESPONSE = { sender: 4, receiver: 8, ephemeral: 12, nothing: 44 } as const;
/** Where the fields of a cookie reply begin. */
export const COOKIE_REPLY = { receiver: 4, nonce: 8, cookie: 32 } as const;
/** Where the fields of a data message begin. */
export const DATA = { receiver: 4, counter: 8, packet: 16 } as const;

/** The type of the message in `buf[start, end)`, or `undefined` when type or length are none. */
export function messageType(
  buf: Uint8Array,
  start: number,
  end: number,
): MessageType | undefined {
  const length = end - start;
  if (length < DATA_OVERHEAD) return undefined;
  switch (readU32le(buf, start)) {
    case MessageType.Data:
      return MessageType.Data;
    case MessageType.Initiation:
      return length === INITIATION_LENGTH ? MessageType.Initiation : undefined;
    case MessageType.Response:
      return length === RESPONSE_LENGTH ? MessageType.Response : undefined;
    case MessageType.CookieReply:
      return length === COOKIE_REPLY_LENGTH ? MessageType.CookieReply : undefined;
    default:
      return undefined;
  }
}

/** The index under which the receiver of this message knows it; `undefined` for initiations, which
 * have none, and for what is no message at all. */
export function peekReceiverIndex(
  buf: Uint8Array,
  start: number,
  end: number,
): number | undefined {
  switch (messageType(buf, start, end)) {
    case MessageType.Data:
      return readU32le(buf, start + DATA.receiver);
    case MessageType.Response:
      return readU32le(buf, start + RESPONSE.receiver);
    case MessageType.CookieReply:
      return readU32le(buf, start + COOKIE_REPLY.receiver);
    default:
      return undefined;
  }
}

/** Writes the header of a data message at `buf[offset]`; the counter is below 2^53. */
export function writeDataHeader(
  buf: Uint8Array,
  offset: number,
  receiverIndex: number,
  counter: number,
): void {
  writeU32le(buf, offset, MessageType.Data);
  writeU32le(buf, offset + DATA.receiver, receiverIndex);
  writeU32le(buf, offset + DATA.counter, counter);
  writeU32le(buf, offset + DATA.counter + 4, Math.floor(counter / 0x1_0000_0000));
}

/** The counter of the data message at `buf[start]`; from 2^53 on it is not exact, but still large. */
export function readDataCounter(buf: Uint8Array, start: number): number {
  return readU32le(buf, start + DATA.counter + 4) * 0x1_0000_0000 +
    readU32le(buf, start + DATA.counter);
}
