/**
 * The AEAD over `node:crypto`, for systems without a libcrypto of their own.
 * @module
 */

import { createCipheriv, createDecipheriv } from "node:crypto";
import {
  type AeadBackend,
  type AeadKey,
  checkKey,
  checkPadding,
  checkRange,
  MAX_PADDING,
  NONCE_LENGTH,
  TAG_LENGTH,
  writeCounterNonce,
} from "./aead.ts";

const ALGORITHM = "chacha20-poly1305";
const ZEROS = new Uint8Array(MAX_PADDING);
const OPTIONS = { authTagLength: TAG_LENGTH } as const;

/** The backend; it is there wherever Deno is. */
export function nodeAead(): AeadBackend {
  return {
    name: "node",
    detail: "node:crypto",
    key: (key) => new NodeKey(key),
    sealOnce,
    openOnce,
  };
}

class NodeKey implements AeadKey {
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
    const cipher = createCipheriv(ALGORITHM, this.#key, this.#nonce, OPTIONS);
    dst.set(cipher.update(src.subarray(srcStart, srcEnd)), dstStart);
    if (padding > 0) dst.set(cipher.update(ZEROS.subarray(0, padding)), dstStart + length);
    cipher.final();
    dst.set(cipher.getAuthTag(), dstStart + length + padding);
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
    const decipher = createDecipheriv(ALGORITHM, this.#key, this.#nonce, OPTIONS);
    decipher.setAuthTag(src.subarray(srcEnd - TAG_LENGTH, srcEnd));
    const plaintext = decipher.update(src.subarray(srcStart, srcEnd - TAG_LENGTH));
    try {
      decipher.final();
    } catch {
      dst.fill(0, dstStart, dstStart + length);
      return false;
    }
    dst.set(plaintext, dstStart);
    return true;
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
  checkKey(key);
  const cipher = createCipheriv(ALGORITHM, key, nonce, OPTIONS);
  cipher.setAAD(associatedData, { plaintextLength: plaintext.length });
  const sealed = new Uint8Array(plaintext.length + TAG_LENGTH);
  sealed.set(cipher.update(plaintext));
  cipher.final();
  sealed.set(cipher.getAuthTag(), plaintext.length);
  return sealed;
}

function openOnce(
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  checkKey(key);
  const length = sealed.length - TAG_LENGTH;
  if (length < 0) return undefined;
  const decipher = createDecipheriv(ALGORITHM, key, nonce, OPTIONS);
  decipher.setAAD(associatedData, { plaintextLength: length });
  decipher.setAuthTag(sealed.subarray(length));
  const plaintext = new Uint8Array(length);
  plaintext.set(decipher.update(sealed.subarray(0, length)));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return plaintext;
}
