/**
 * Attributes that hold text: USERNAME, REALM, NONCE, SOFTWARE, the reason of ERROR-CODE.
 * @module
 */

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Longest USERNAME in bytes (RFC 8445 §7.1.1 lets ICE need more than RFC 8489 §14.3 says). */
export const MAX_USERNAME_LENGTH = 513;

/** Longest other text in bytes: 127 characters (RFC 8489 §14.8 to §14.14). */
export const MAX_TEXT_LENGTH = 763;

/** The text in `bytes[start, end)`; `undefined` when it is too long or not UTF-8. */
export function parseText(
  bytes: Uint8Array,
  start: number,
  end: number,
  maxLength: number,
): string | undefined {
  if (end - start > maxLength) return undefined;
  try {
    return decoder.decode(bytes.subarray(start, end));
  } catch {
    return undefined;
  }
}
