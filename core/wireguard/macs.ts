/**
 * The two MACs at the end of initiations and responses (paper §5.4.4).
 *
 * mac1 shows that the sender knows whom it is talking to; mac2, that it received a cookie at the
 * address it sends from.
 * @module
 */

import { constantTimeEqual, utf8 } from "../bytes/mod.ts";
import { blake2s, blake2sMac } from "../crypto/mod.ts";

/** Bytes of a MAC, and of a cookie. */
export const MAC_LENGTH = 16;

const LABEL_MAC1 = utf8("mac1----");
const LABEL_COOKIE = utf8("cookie--");

/** What the MACs of messages to one receiver are keyed with; anyone who knows its public key can
 * compute them. */
export interface ReceiverMacKeys {
  /** Keys mac1. */
  readonly mac1: Uint8Array;
  /** Seals the cookies that the receiver hands out. */
  readonly cookie: Uint8Array;
}

/** The keys of a receiver. */
export function receiverMacKeys(publicKey: Uint8Array): ReceiverMacKeys {
  return { mac1: blake2s(LABEL_MAC1, publicKey), cookie: blake2s(LABEL_COOKIE, publicKey) };
}

/** Fills both MACs of a message; mac2 stays zero without a cookie. Returns mac1. */
export function writeMacs(
  message: Uint8Array,
  keys: ReceiverMacKeys,
  cookie: Uint8Array | undefined,
): Uint8Array {
  const at = message.length - 2 * MAC_LENGTH;
  const mac1 = blake2sMac(keys.mac1, message.subarray(0, at));
  message.set(mac1, at);
  if (cookie !== undefined) {
    message.set(blake2sMac(cookie, message.subarray(0, at + MAC_LENGTH)), at + MAC_LENGTH);
  }
  return mac1;
}

/** Whether mac1 of the message in `buf[start, end)` is right. */
export function verifyMac1(
  buf: Uint8Array,
  start: number,
  end: number,
  keys: ReceiverMacKeys,
): boolean {
  const at = end - 2 * MAC_LENGTH;
  return constantTimeEqual(
    blake2sMac(keys.mac1, buf.subarray(start, at)),
    buf.subarray(at, at + MAC_LENGTH),
  );
}

/** Whether mac2 of the message in `buf[start, end)` was made with `cookie`. */
export function verifyMac2(
  buf: Uint8Array,
  start: number,
  end: number,
  cookie: Uint8Array,
): boolean {
  const at = end - MAC_LENGTH;
  return constantTimeEqual(blake2sMac(cookie, buf.subarray(start, at)), buf.subarray(at, end));
}

/** The mac1 field of the message that ends at `buf[end]`, copied. */
export function copyMac1(buf: Uint8Array, end: number): Uint8Array {
  return buf.slice(end - 2 * MAC_LENGTH, end - MAC_LENGTH);
}
