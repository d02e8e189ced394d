/**
 * Bytes as text and back: hex, base64 and base32 (RFC 4648), UTF-8.
 *
 * The `to…` functions accept any text and answer `undefined` where it does not decode.
 * @module
 */

import { Buffer } from "node:buffer";

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder();
const strictUtf8Decoder = new TextDecoder("utf-8", { fatal: true });

/** The UTF-8 bytes of a text. */
export function utf8(text: string): Uint8Array {
  return utf8Encoder.encode(text);
}

/** The text of UTF-8 bytes; malformed sequences become U+FFFD. */
export function utf8Text(bytes: Uint8Array): string {
  return utf8Decoder.decode(bytes);
}

/** The text of UTF-8 bytes, or `undefined` where they are malformed. */
export function toUtf8Text(bytes: Uint8Array): string | undefined {
  try {
    return strictUtf8Decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Lowercase hex. */
export function hex(bytes: Uint8Array): string {
  return bytes.toHex();
}

/** Bytes from hex of either case and even length. */
export function fromHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) return undefined;
  return Uint8Array.fromHex(text);
}

/** Standard base64 with padding (RFC 4648 §4). */
export function base64(bytes: Uint8Array): string {
  return bytes.toBase64();
}

/** Standard base64 without padding. */
export function base64NoPad(bytes: Uint8Array): string {
  return bytes.toBase64({ omitPadding: true });
}

/** Bytes from padded standard base64 in its one canonical form. */
export function fromBase64(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(Buffer.from(text, "base64"));
  return base64(bytes) === text ? bytes : undefined;
}

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** Lowercase base32 without padding (RFC 4648 §6). */
export function base32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8 | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += BASE32[value >>> bits & 31];
    }
  }
  if (bits > 0) text += BASE32[value << (5 - bits) & 31];
  return text;
}
