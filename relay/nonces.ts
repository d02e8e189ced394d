/**
 * Nonces that need no table: each carries its time of issue and a MAC over that and the client, so
 * that strangers with forged addresses cannot make the relay remember anything.
 *
 *     base64url( issued at, u32 seconds | first 15 bytes of HMAC-SHA256(key, issued at | client) )
 *
 * Deviation: Firezone's relays use UUIDs with 10,000 uses each. To clients a nonce is opaque.
 * @module
 */

import { createHmac } from "node:crypto";
import { constantTimeEqual, readU32, utf8, writeU32 } from "@firezone/core/bytes";
import type { SocketAddress } from "@firezone/core/ip";
import type { RandomBytes } from "@firezone/core/random";
import type { Millis } from "@firezone/core/units";
import { Buffer } from "node:buffer";

/** How long a nonce is good for (RFC 8656 §5 asks for at most an hour). */
export const NONCE_LIFETIME_SECONDS = 3600;

const STAMP_LENGTH = 4;
const MAC_LENGTH = 15;

/** Issues nonces and knows its own again. */
export class Nonces {
  readonly #key: Uint8Array;

  /** Draws a key; nonces of other instances are not valid here. */
  constructor(random: RandomBytes) {
    this.#key = random(32);
  }

  /** A nonce that this client alone can use. */
  issue(now: Millis, client: SocketAddress): string {
    const bytes = new Uint8Array(STAMP_LENGTH + MAC_LENGTH);
    writeU32(bytes, 0, seconds(now));
    bytes.set(this.#mac(bytes.subarray(0, STAMP_LENGTH), client), STAMP_LENGTH);
    return Buffer.from(bytes).toString("base64url");
  }

  /** Whether we issued this text to this client within {@link NONCE_LIFETIME_SECONDS}. */
  isValid(now: Millis, client: SocketAddress, nonce: string): boolean {
    const bytes = new Uint8Array(Buffer.from(nonce, "base64url"));
    if (bytes.length !== STAMP_LENGTH + MAC_LENGTH) return false;
    const mac = this.#mac(bytes.subarray(0, STAMP_LENGTH), client);
    if (!constantTimeEqual(mac, bytes.subarray(STAMP_LENGTH))) return false;
    const age = seconds(now) - readU32(bytes, 0);
    return age >= 0 && age <= NONCE_LIFETIME_SECONDS;
  }

  #mac(stamp: Uint8Array, client: SocketAddress): Uint8Array {
    const mac = createHmac("sha256", this.#key).update(stamp).update(utf8(client.key)).digest();
    return new Uint8Array(mac.subarray(0, MAC_LENGTH));
  }
}

function seconds(now: Millis): number {
  return Math.floor(now / 1000);
}
