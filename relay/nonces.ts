/**
 * Nonces that need no table: each carries its time of issue and a MAC over that and the client, so
 * that strangers with forged addresses cannot make the relay remember anything.
 *
 *     base64url( issued at, u32 seconds | first 15 bytes of HMAC-SHA256(key, issued at | client) )
 *
 * Time is that of the wall clock, which all threads share: workers with the same key know each
 * other's nonces. A clock that is set costs each client one more round trip.
 *
 * Deviation: Firezone's relays use UUIDs with 10,000 uses each. To clients a nonce is opaque.
 * @module
 */

import { createHmac } from "node:crypto";
import { constantTimeEqual, readU32, utf8, writeU32 } from "@firezone/core/bytes";
import type { SocketAddress } from "@firezone/core/ip";
import type { UnixSeconds } from "@firezone/core/units";
import { Buffer } from "node:buffer";

/** How long a nonce is good for (RFC 8656 §5 asks for at most an hour). */
export const NONCE_LIFETIME_SECONDS = 3600;

const STAMP_LENGTH = 4;
const MAC_LENGTH = 15;
/** Characters of base64url without padding. */
const TEXT_LENGTH = Math.ceil((STAMP_LENGTH + MAC_LENGTH) * 4 / 3);

/** Issues nonces and knows its own again. */
export class Nonces {
  readonly #key: Uint8Array;

  /** Knows the nonces of all instances with this key.
   * @param key 32 random bytes */
  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** A nonce that this client alone can use. */
  issue(wall: UnixSeconds, client: SocketAddress): string {
    const bytes = new Uint8Array(STAMP_LENGTH + MAC_LENGTH);
    writeU32(bytes, 0, wall);
    bytes.set(this.#mac(bytes.subarray(0, STAMP_LENGTH), client), STAMP_LENGTH);
    return Buffer.from(bytes).toString("base64url");
  }

  /** Whether we issued this text to this client within {@link NONCE_LIFETIME_SECONDS}. */
  isValid(wall: UnixSeconds, client: SocketAddress, nonce: string): boolean {
    if (nonce.length !== TEXT_LENGTH) return false;
    const bytes = new Uint8Array(Buffer.from(nonce, "base64url"));
    if (bytes.length !== STAMP_LENGTH + MAC_LENGTH) return false;
    const mac = this.#mac(bytes.subarray(0, STAMP_LENGTH), client);
    if (!constantTimeEqual(mac, bytes.subarray(STAMP_LENGTH))) return false;
    const age = wall - readU32(bytes, 0);
    return age >= 0 && age <= NONCE_LIFETIME_SECONDS;
  }

  #mac(stamp: Uint8Array, client: SocketAddress): Uint8Array {
    const mac = createHmac("sha256", this.#key).update(stamp).update(utf8(client.key)).digest();
    return new Uint8Array(mac.subarray(0, MAC_LENGTH));
  }
}
