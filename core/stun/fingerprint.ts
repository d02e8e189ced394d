/**
 * FINGERPRINT: a checksum that tells STUN from other protocols on one port (RFC 8489 §14.7).
 *
 * CRC-32 of the message up to the attribute, exclusive-or "STUN" in ASCII. It is no protection
 * against anybody.
 * @module
 */

import { readU32 } from "../bytes/mod.ts";
import { ATTRIBUTE_HEADER_LENGTH } from "./attributes.ts";

const XOR_VALUE = 0x5354554e;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? c >>> 1 ^ 0xedb88320 : c >>> 1;
  return c;
});

/** CRC-32 as in ITU V.42 and zip of `bytes[start, end)`. */
export function crc32(bytes: Uint8Array, start: number, end: number): number {
  let crc = 0xffffffff;
  for (let i = start; i < end; i++) crc = CRC_TABLE[(crc ^ bytes[i]!) & 0xff]! ^ crc >>> 8;
  return ~crc >>> 0;
}

/**
 * The value for a FINGERPRINT attribute that begins at `message[offset]`.
 *
 * @param message its length field already counts the attribute
 */
export function computeFingerprint(message: Uint8Array, offset: number): number {
  return (crc32(message, 0, offset) ^ XOR_VALUE) >>> 0;
}

/** Whether the FINGERPRINT attribute at `message[offset]` is right and the last one. */
export function verifyFingerprintAt(message: Uint8Array, offset: number): boolean {
  return offset + ATTRIBUTE_HEADER_LENGTH + 4 === message.length &&
    readU32(message, offset + ATTRIBUTE_HEADER_LENGTH) === computeFingerprint(message, offset);
}
