/**
 * Randomness that a number decides, for tests and profiles of the whole program: the same secret,
 * ports and nonces at every start. Not for relays that others use.
 * @module
 */

import type { RandomBytes } from "@firezone/core/random";
import { chacha20 } from "@noble/ciphers/chacha.js";

/**
 * The stream of bytes of a seed: ChaCha20 (RFC 8439) under the seed as key.
 *
 * @param seed 64 bits
 * @param stream threads draw from different ones, since who comes first is not decided
 */
export function seededRandom(seed: bigint, stream: number): RandomBytes {
  const key = new Uint8Array(32);
  new DataView(key.buffer).setBigUint64(0, seed, true);
  const nonce = new Uint8Array(12);
  const nonceView = new DataView(nonce.buffer);
  nonceView.setUint32(0, stream, true);
  let draw = 0;
  return (length) => {
    // Each draw has a nonce, so that how much others took does not matter.
    nonceView.setBigUint64(4, BigInt(draw++), true);
    return chacha20(key, nonce, new Uint8Array(length));
  };
}
