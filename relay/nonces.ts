/**
 * Nonces that need no table: each carries its time of issue and a MAC over that and the client, so
 * that strangers with forged addresses cannot make the relay remember anything.
 *
 *     issued at, u32 seconds in hex | base64 of the first 15 bytes of HMAC-SHA256(key, …)
 *                                     … = issued at | port of the client | address of the client
 *
 * Time is that of the wall clock, which all threads share: workers with the same key know each
 * other's nonces. A clock that is set costs each client one more round trip.
 *
 * Deviation: Firezone's relays use UUIDs with 10,000 uses each. To clients a nonce is opaque.
 * Cost: about 3 µs, which a stranger can ask for; so the key's part of the hash is kept.
 * @module
 */

import { base64NoPad, writeU16, writeU32 } from "@firezone/core/bytes";
import type { SocketAddress } from "@firezone/core/ip";
import type { UnixSeconds } from "@firezone/core/units";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";

/** How long a nonce is good for (RFC 8656 §5 asks for at most an hour). */
export const NONCE_LIFETIME_SECONDS = 3600;

const STAMP_CHARACTERS = 8;
const MAC_LENGTH = 15;
const TEXT_LENGTH = STAMP_CHARACTERS + MAC_LENGTH * 4 / 3;

/** Issues nonces and knows its own again. */
export class Nonces {
  readonly #keyed: ReturnType<typeof hmac.create>;

  /** Knows the nonces of all instances with this key.
   * @param key 32 random bytes */
  constructor(key: Uint8Array) {
    this.#keyed = hmac.create(sha256, key);
  }

  /** A nonce that this client alone can use. */
  issue(wall: UnixSeconds, client: SocketAddress): string {
    const stamp = wall >>> 0;
    return stamp.toString(16).padStart(STAMP_CHARACTERS, "0") + this.#mac(stamp, client);
  }

  /** Whether we issued this text to this client within {@link NONCE_LIFETIME_SECONDS}. */
  isValid(wall: UnixSeconds, client: SocketAddress, nonce: string): boolean {
    if (nonce.length !== TEXT_LENGTH) return false;
    const stampText = nonce.slice(0, STAMP_CHARACTERS);
    if (!/^[0-9a-f]{8}$/.test(stampText)) return false;
    const stamp = parseInt(stampText, 16);
    // What is too old needs no MAC to be refused.
    if (!isTimely(wall, stamp)) return false;
    return isSameText(this.#mac(stamp, client), nonce.slice(STAMP_CHARACTERS));
  }

  /**
   * Whether a nonce in a datagram could be valid, by its length and time alone; never false for one
   * that {@link isValid}. Allocates nothing.
   */
  looksTimely(wall: UnixSeconds, buf: Uint8Array, start: number, length: number): boolean {
    if (length !== TEXT_LENGTH) return false;
    let stamp = 0;
    for (let i = start; i < start + STAMP_CHARACTERS; i++) {
      const digit = hexDigit(buf[i]!);
      if (digit < 0) return false;
      stamp = stamp * 16 + digit;
    }
    return isTimely(wall, stamp);
  }

  #mac(stamp: number, client: SocketAddress): string {
    const { bytes } = client.ip;
    const message = new Uint8Array(6 + bytes.length);
    writeU32(message, 0, stamp);
    writeU16(message, 4, client.port);
    message.set(bytes, 6);
    const mac = this.#keyed.clone().update(message).digest();
    return base64NoPad(mac.subarray(0, MAC_LENGTH));
  }
}

function isTimely(wall: UnixSeconds, stamp: number): boolean {
  const age = wall - stamp;
  return age >= 0 && age <= NONCE_LIFETIME_SECONDS;
}

/** The value of a lower-case digit in ASCII; -1 for anything else. */
function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  return code >= 0x61 && code <= 0x66 ? code - 0x57 : -1;
}

/** Compares texts of one length; the time taken tells nothing. */
function isSameText(a: string, b: string): boolean {
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}
