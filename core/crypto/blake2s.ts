/**
 * BLAKE2s (RFC 7693) and what WireGuard builds from it: keyed MACs, HMAC and the key derivation of
 * §5.4 of the paper. All inputs and outputs are short; each call allocates its result.
 * @module
 */

import { blake2s as nobleBlake2s } from "@noble/hashes/blake2.js";
import { hmac } from "@noble/hashes/hmac.js";

/** Bytes of a hash. */
export const HASH_LENGTH = 32;

/** Hash(input) of the paper: 32 bytes. The parts are hashed as if joined. */
export function blake2s(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = nobleBlake2s.create({ dkLen: HASH_LENGTH });
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** Mac(key, input) of the paper: keyed BLAKE2s with an output of 16 bytes.
 * @param key at most 32 bytes */
export function blake2sMac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const mac = nobleBlake2s.create({ key, dkLen: 16 });
  for (const part of parts) mac.update(part);
  return mac.digest();
}

/** Hmac(key, input) of the paper: HMAC-BLAKE2s, 32 bytes. */
export function hmacBlake2s(key: Uint8Array, input: Uint8Array): Uint8Array {
  return hmac(nobleBlake2s, key, input);
}

/** Kdf1(key, input) of the paper. */
export function kdf1(key: Uint8Array, input: Uint8Array): Uint8Array {
  return expand(hmacBlake2s(key, input), 1)[0]!;
}

/** Kdf2(key, input) of the paper. */
export function kdf2(key: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array] {
  const [first, second] = expand(hmacBlake2s(key, input), 2);
  return [first!, second!];
}

/** Kdf3(key, input) of the paper. */
export function kdf3(key: Uint8Array, input: Uint8Array): [Uint8Array, Uint8Array, Uint8Array] {
  const [first, second, third] = expand(hmacBlake2s(key, input), 3);
  return [first!, second!, third!];
}

/** τ1 = Hmac(secret, 01), τi = Hmac(secret, τi-1 ‖ i): the expansion of HKDF (RFC 5869 §2.3). */
function expand(secret: Uint8Array, count: number): Uint8Array[] {
  const keys: Uint8Array[] = [];
  let input = new Uint8Array([1]);
  for (let i = 1; i <= count; i++) {
    const key = hmacBlake2s(secret, input);
    keys.push(key);
    input = new Uint8Array(HASH_LENGTH + 1);
    input.set(key);
    input[HASH_LENGTH] = i + 1;
  }
  secret.fill(0);
  return keys;
}
