/**
 * The AEAD over OpenSSL's libcrypto, which nearly every Linux has: about ten times noble.
 *
 * One cipher context per direction serves all keys: a context is some 700 bytes, and with one for
 * each key a packet of another client than the last would wait for all of them to come from memory,
 * where a key is 32 bytes and takes no preparation. For each packet the nonce is set, and the key when
 * it is another than the last: four calls of some 15 ns beside the cipher itself. See `aead_bench.ts`.
 * @module
 */

import {
  type AeadBackend,
  type AeadKey,
  checkKey,
  checkPadding,
  checkRange,
  KEY_LENGTH,
  TAG_LENGTH,
  writeCounterNonce,
} from "./aead.ts";
import { KeyRows, NO_ROW } from "./key_rows.ts";
import { type Libcrypto, libcrypto, octetStringParameter } from "./libcrypto.ts";
import { PointerCache } from "./pointer_cache.ts";

const SEAL = 1;
const OPEN = 0;
const AS_IT_WAS = -1;

// Memory of arrays of up to 64 bytes may be moved by the garbage collector: these are larger.
// One thread uses them for the length of one call, so all keys share them.
const nonce = new Uint8Array(128);
const tag = new Uint8Array(128);
const zeros = new Uint8Array(128);
const sealedZeros = new Uint8Array(128);
/** Where libcrypto writes how much the last step gave: always nothing. */
const finalLength = new Uint8Array(128);
/** The key that a context is to load. */
const keyWords = new Int32Array(32);
const noncePointer = addressOf(nonce);
const keyPointer = addressOf(keyWords);
const tagPointer = addressOf(tag);
const zerosPointer = addressOf(zeros);
const sealedZerosPointer = addressOf(sealedZeros);
const finalLengthPointer = addressOf(finalLength);
const tagParameter = libcrypto && octetStringParameter("tag", tag, TAG_LENGTH);
const tagParameterPointer = tagParameter === undefined ? null : addressOf(tagParameter);
// Each cache sees the buffers of one use, so that they do not displace each other.
const pointers = {
  sealFrom: new PointerCache(),
  sealTo: new PointerCache(),
  openFrom: new PointerCache(),
  openTo: new PointerCache(),
};

const keyRows = new KeyRows();

interface Contexts {
  readonly sealing: SharedContext;
  readonly opening: SharedContext;
}

/** The backend, or `undefined` where libcrypto could not be loaded. */
export function libcryptoAead(): AeadBackend | undefined {
  const lib = libcrypto;
  if (lib === undefined) return undefined;
  const contexts = { sealing: new SharedContext(lib, SEAL), opening: new SharedContext(lib, OPEN) };
  return {
    name: "libcrypto",
    detail: lib.detail,
    key: (key) => new LibcryptoKey(lib, contexts, key),
    sealOnce: (key, nonce, associatedData, plaintext) =>
      sealOnce(lib, key, nonce, associatedData, plaintext),
    openOnce: (key, nonce, associatedData, sealed) =>
      openOnce(lib, key, nonce, associatedData, sealed),
  };
}

/** A cipher context for all keys of one direction, which loads a key when it is another's turn. */
class SharedContext {
  readonly #lib: Libcrypto;
  readonly #direction: number;
  #context: Deno.PointerValue = null;
  /** The row of the key that was loaded last. */
  #row = NO_ROW;

  constructor(lib: Libcrypto, direction: number) {
    this.#lib = lib;
    this.#direction = direction;
  }

  /** The context, ready for a message under the key of a row and {@link nonce}. */
  begin(row: number): Deno.PointerValue {
    const context = this.#context ?? this.#make();
    let key: Deno.PointerValue = null; // null keeps the key there is
    if (row !== this.#row) {
      keyRows.read(row, keyWords);
      this.#row = row;
      key = keyPointer;
    }
    this.#lib.symbols.EVP_CipherInit_ex(context, null, null, key, noncePointer, AS_IT_WAS);
    return context;
  }

  /** Overwrites the key of a row, if the context has it. */
  forget(row: number): void {
    if (row !== this.#row) return;
    keyWords.fill(0);
    this.#lib.symbols.EVP_CipherInit_ex(
      this.#context,
      null,
      null,
      keyPointer,
      noncePointer,
      AS_IT_WAS,
    );
    this.#row = NO_ROW;
  }

  #make(): Deno.PointerValue {
    return this.#context = newContext(
      this.#lib,
      new Uint8Array(KEY_LENGTH),
      nonce,
      this.#direction,
    );
  }
}

class LibcryptoKey implements AeadKey {
  readonly #calls: Libcrypto["symbols"];
  readonly #contexts: Contexts;
  #row: number;

  constructor(lib: Libcrypto, contexts: Contexts, key: Uint8Array) {
    checkKey(key);
    this.#calls = lib.symbols;
    this.#contexts = contexts;
    this.#row = keyRows.add(key);
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
    const calls = this.#calls;
    writeCounterNonce(nonce, counter);
    const context = this.#contexts.sealing.begin(this.#usableRow());
    if (length > 0) {
      const to = pointers.sealTo.find(dst, dstStart);
      const from = pointers.sealFrom.find(src, srcStart);
      if (to !== null && from !== null) calls.EVP_Cipher(context, to, from, length);
      else calls.cipherBuffers(context, dst.subarray(dstStart), src.subarray(srcStart), length);
    }
    let at = dstStart + length;
    if (padding > 0) {
      // By way of a buffer of ours: an address in `dst` for every length of packet would be garbage.
      calls.EVP_Cipher(context, sealedZerosPointer, zerosPointer, padding);
      for (let i = 0; i < padding; i++) dst[at++] = sealedZeros[i]!;
    }
    calls.EVP_CipherFinal_ex(context, tagPointer, finalLengthPointer);
    calls.EVP_CIPHER_CTX_get_params(context, tagParameterPointer);
    for (let i = 0; i < TAG_LENGTH; i++) dst[at + i] = tag[i]!;
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
    const calls = this.#calls;
    const at = srcStart + length;
    for (let i = 0; i < TAG_LENGTH; i++) tag[i] = src[at + i]!;
    writeCounterNonce(nonce, counter);
    const context = this.#contexts.opening.begin(this.#usableRow());
    calls.EVP_CIPHER_CTX_set_params(context, tagParameterPointer);
    if (length > 0) {
      const to = pointers.openTo.find(dst, dstStart);
      const from = pointers.openFrom.find(src, srcStart);
      if (to !== null && from !== null) calls.EVP_Cipher(context, to, from, length);
      else calls.cipherBuffers(context, dst.subarray(dstStart), src.subarray(srcStart), length);
    }
    if (calls.EVP_CipherFinal_ex(context, tagPointer, finalLengthPointer) === 1) return true;
    dst.fill(0, dstStart, dstStart + length);
    return false;
  }

  dispose(): void {
    if (this.#row === NO_ROW) return;
    this.#contexts.sealing.forget(this.#row);
    this.#contexts.opening.forget(this.#row);
    keyRows.delete(this.#row);
    this.#row = NO_ROW;
  }

  #usableRow(): number {
    if (this.#row === NO_ROW) throw new Error("Cannot use an AEAD key after it was disposed");
    return this.#row;
  }
}

/** Null where there is no libcrypto, as then FFI may be forbidden. */
function addressOf(bytes: Uint8Array<ArrayBuffer> | Int32Array<ArrayBuffer>): Deno.PointerValue {
  return libcrypto === undefined ? null : Deno.UnsafePointer.of(bytes);
}

function newContext(
  lib: Libcrypto,
  key: Uint8Array,
  nonce: Uint8Array,
  direction: number,
): Deno.PointerValue {
  const context = lib.symbols.EVP_CIPHER_CTX_new();
  const cipher = lib.symbols.EVP_chacha20_poly1305();
  if (
    context !== null && cipher !== null &&
    lib.symbols.initBuffers(context, cipher, null, key, nonce, direction) === 1
  ) return context;
  lib.symbols.EVP_CIPHER_CTX_free(context);
  throw new Error(`Cannot set up ChaCha20-Poly1305 in ${lib.detail}`);
}

function sealOnce(
  lib: Libcrypto,
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  plaintext: Uint8Array,
): Uint8Array {
  checkKey(key);
  const { cipherBuffers, EVP_CipherFinal_ex, EVP_CIPHER_CTX_free } = lib.symbols;
  const context = newContext(lib, key, nonce, SEAL);
  const sealed = new Uint8Array(plaintext.length + TAG_LENGTH);
  if (associatedData.length > 0) {
    cipherBuffers(context, null, associatedData, associatedData.length);
  }
  if (plaintext.length > 0) cipherBuffers(context, sealed, plaintext, plaintext.length);
  EVP_CipherFinal_ex(context, tagPointer, finalLengthPointer);
  lib.symbols.EVP_CIPHER_CTX_get_params(context, tagParameterPointer);
  EVP_CIPHER_CTX_free(context);
  sealed.set(tag.subarray(0, TAG_LENGTH), plaintext.length);
  return sealed;
}

function openOnce(
  lib: Libcrypto,
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  checkKey(key);
  const length = sealed.length - TAG_LENGTH;
  if (length < 0) return undefined;
  const { cipherBuffers, EVP_CipherFinal_ex, EVP_CIPHER_CTX_free } = lib.symbols;
  const context = newContext(lib, key, nonce, OPEN);
  const plaintext = new Uint8Array(length);
  tag.set(sealed.subarray(length));
  lib.symbols.EVP_CIPHER_CTX_set_params(context, tagParameterPointer);
  if (associatedData.length > 0) {
    cipherBuffers(context, null, associatedData, associatedData.length);
  }
  if (length > 0) cipherBuffers(context, plaintext, sealed, length);
  const genuine = EVP_CipherFinal_ex(context, tagPointer, finalLengthPointer) === 1;
  EVP_CIPHER_CTX_free(context);
  return genuine ? plaintext : undefined;
}
