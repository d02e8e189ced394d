/**
 * Cryptography: ChaCha20-Poly1305 by the fastest means at hand, X25519, BLAKE2s,
 * XChaCha20-Poly1305.
 * @module
 */
export {
  type AeadBackend,
  type AeadKey,
  type AeadName,
  KEY_LENGTH,
  NONCE_LENGTH,
  TAG_LENGTH,
} from "./aead.ts";
export * from "./blake2s.ts";
export { PointerCache } from "./pointer_cache.ts";
export * from "./select.ts";
export { x25519, X25519_LENGTH, x25519PrivateKey, x25519Public } from "./x25519.ts";
export * from "./xchacha.ts";
