/**
 * MESSAGE-INTEGRITY: HMAC-SHA1 over everything before it (RFC 8489 §14.5).
 *
 * The length field in the header takes part as if the message ended with this attribute. What is
 * hashed are the bytes as they came, so padding of any value is fine.
 * @module
 */

import { createHmac } from "node:crypto";
import { constantTimeEqual, readU16, writeU16 } from "../bytes/mod.ts";
import { ATTRIBUTE_HEADER_LENGTH } from "./attributes.ts";
import { HEADER_LENGTH } from "./header.ts";

/** Bytes in the value. */
export const INTEGRITY_LENGTH = 20;

/**
 * The value for a MESSAGE-INTEGRITY attribute that begins at `message[offset]`.
 *
 * @param message read up to `offset`, not changed
 */
export function computeIntegrity(
  message: Uint8Array,
  offset: number,
  key: Uint8Array,
): Uint8Array {
  const hmac = createHmac("sha1", key);
  const header = message.slice(0, HEADER_LENGTH);
  writeU16(header, 2, offset + ATTRIBUTE_HEADER_LENGTH + INTEGRITY_LENGTH - HEADER_LENGTH);
  hmac.update(header);
  hmac.update(message.subarray(HEADER_LENGTH, offset));
  return hmac.digest();
}

/** Whether the MESSAGE-INTEGRITY attribute at `message[offset]` was made with `key`. */
export function verifyIntegrityAt(message: Uint8Array, offset: number, key: Uint8Array): boolean {
  if (readU16(message, offset + 2) !== INTEGRITY_LENGTH) return false;
  const start = offset + ATTRIBUTE_HEADER_LENGTH;
  const value = message.subarray(start, start + INTEGRITY_LENGTH);
  return constantTimeEqual(value, computeIntegrity(message, offset, key));
}
