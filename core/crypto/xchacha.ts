/**
 * XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), whose nonces are long enough to be random.
 * WireGuard's cookie replies use it; they are rare, so speed does not matter.
 * @module
 */

import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";

/** Bytes of a nonce. */
export const XNONCE_LENGTH = 24;

/** Ciphertext and tag.
 * @param key 32 bytes
 * @param nonce 24 bytes */
export function xchachaSeal(
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  plaintext: Uint8Array,
): Uint8Array {
  return xchacha20poly1305(key, nonce, associatedData).encrypt(plaintext);
}

/** The plaintext of what {@link xchachaSeal} made; `undefined` when anything was changed. */
export function xchachaOpen(
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  try {
    return xchacha20poly1305(key, nonce, associatedData).decrypt(sealed);
  } catch {
    return undefined;
  }
}
