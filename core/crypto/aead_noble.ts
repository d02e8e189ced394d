/**
 * The AEAD in TypeScript alone: slow, but it runs wherever the program does.
 * @module
 */

import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import {
  type AeadBackend,
  type AeadKey,
  checkKey,
  checkPadding,
  checkRange,
  NONCE_LENGTH,
  TAG_LENGTH,
  writeCounterNonce,
} from "./aead.ts";

/** The backend; it is always there. */
export function nobleAead(): AeadBackend {
  return {
    name: "noble",
    detail: "@noble/ciphers",
    key: (key) => new NobleKey(key),
    sealOnce,
    openOnce,
  };
}

class NobleKey implements AeadKey {
  readonly #key: Uint8Array;
  readonly #nonce = new Uint8Array(NONCE_LENGTH);

  constructor(key: Uint8Array) {
    checkKey(key);
    this.#key = key.slice();
  }

  seal(
    counter: number,
    src: Uint8Array,
    srcStart: number,
    srcEnd: number,
    dst: Uint8Array,
    dstStart: number,
    padding = 0,
  ): void {
    const length = srcEnd - srcStart;
    checkPadding(padding);
    checkRange(src, srcStart, srcEnd, dst, dstStart, length + padding + TAG_LENGTH);
    writeCounterNonce(this.#nonce, counter);
    let plaintext = src.subarray(srcStart, srcEnd);
    if (padding > 0) {
      plaintext = new Uint8Array(length + padding);
      plaintext.set(src.subarray(srcStart, srcEnd));
    }
    dst.set(chacha20poly1305(this.#key, this.#nonce).encrypt(plaintext), dstStart);
  }

  open(
    counter: number,
    src: Uint8Array,
    srcStart: number,
    srcEnd: number,
    dst: Uint8Array,
    dstStart: number,
  ): boolean {
    const length = srcEnd - srcStart - TAG_LENGTH;
    if (length < 0) return false;
    checkRange(src, srcStart, srcEnd, dst, dstStart, length);
    writeCounterNonce(this.#nonce, counter);
    try {
      dst.set(
        chacha20poly1305(this.#key, this.#nonce).decrypt(src.subarray(srcStart, srcEnd)),
        dstStart,
      );
      return true;
    } catch {
      dst.fill(0, dstStart, dstStart + length);
      return false;
    }
  }

  dispose(): void {
    this.#key.fill(0);
  }
}

function sealOnce(
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  plaintext: Uint8Array,
): Uint8Array {
  return chacha20poly1305(key, nonce, associatedData).encrypt(plaintext);
}

function openOnce(
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  checkKey(key);
  if (sealed.length < TAG_LENGTH) return undefined;
  try {
    return chacha20poly1305(key, nonce, associatedData).decrypt(sealed);
  } catch {
    return undefined;
  }
}
