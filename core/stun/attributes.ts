/**
 * The numbers of the attributes (RFC 8489 §18.3, RFC 8656 §18, RFC 8445 §16.1) and the walk over them.
 *
 *     0      2        4                4 + length
 *     | type | length | value          | zero to three bytes up to the next multiple of four |
 *
 * @module
 */

import { readU16 } from "../bytes/mod.ts";
import { HEADER_LENGTH } from "./header.ts";

/** Attribute types that are read or written here. */
export const ATTRIBUTE = {
  mappedAddress: 0x0001,
  username: 0x0006,
  messageIntegrity: 0x0008,
  errorCode: 0x0009,
  unknownAttributes: 0x000a,
  channelNumber: 0x000c,
  lifetime: 0x000d,
  xorPeerAddress: 0x0012,
  realm: 0x0014,
  nonce: 0x0015,
  xorRelayedAddress: 0x0016,
  requestedAddressFamily: 0x0017,
  evenPort: 0x0018,
  requestedTransport: 0x0019,
  xorMappedAddress: 0x0020,
  priority: 0x0024,
  useCandidate: 0x0025,
  additionalAddressFamily: 0x8000,
  /** The same, as drafts of RFC 8656 numbered it and coturn's client (4.6) still does. */
  draftAdditionalAddressFamily: 0x8032,
  software: 0x8022,
  fingerprint: 0x8028,
  iceControlled: 0x8029,
  iceControlling: 0x802a,
} as const;

const KNOWN: ReadonlySet<number> = new Set(Object.values(ATTRIBUTE));

/** Whether a message with this attribute cannot be understood by who does not know it (§14). */
export function isUnknownComprehensionRequired(type: number): boolean {
  return type < 0x8000 && !KNOWN.has(type);
}

/** Bytes in front of an attribute's value. */
export const ATTRIBUTE_HEADER_LENGTH = 4;

/** `length` rounded up to the boundary at which the next attribute begins. */
export function padded(length: number): number {
  return length + 3 & ~3;
}

/** Whether the attributes in `bytes[start, end)` fill it exactly. */
export function attributesFit(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at + ATTRIBUTE_HEADER_LENGTH <= end) {
    at += ATTRIBUTE_HEADER_LENGTH + padded(readU16(bytes, at + 2));
  }
  return at === end;
}

/**
 * Where the value of the first attribute of a type begins in a message `bytes[start, end)`, whatever
 * its bytes; -1 without one that is whole. Its length is the u16 two bytes before.
 */
export function findAttribute(
  bytes: Uint8Array,
  start: number,
  end: number,
  type: number,
): number {
  for (let at = start + HEADER_LENGTH; at + ATTRIBUTE_HEADER_LENGTH <= end;) {
    const value = at + ATTRIBUTE_HEADER_LENGTH;
    const next = value + padded(readU16(bytes, at + 2));
    if (readU16(bytes, at) === type) return next <= end ? value : -1;
    at = next;
  }
  return -1;
}
