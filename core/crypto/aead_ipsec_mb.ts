/**
 * The AEAD over Intel's Multi-Buffer Crypto for IPsec: half of what libcrypto takes, on x86-64 where
 * it is installed (Debian's `libipsec-mb1`).
 *
 * Sealing or opening is one call. See `ipsec_mb.ts` and `aead_bench.ts`.
 * @module
 */

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
import { Address, Direction, ipsecMb, type IpsecMbManager, Job } from "./ipsec_mb.ts";
import { KeyRows, NO_ROW } from "./key_rows.ts";
import { PointerCache } from "./pointer_cache.ts";

/** The backend, or `undefined` where the library cannot be used. */
export function ipsecMbAead(): AeadBackend | undefined {
  const manager = ipsecMb();
  if (manager === undefined) return undefined;
  return {
    name: "ipsec-mb",
    detail: manager.detail,
    key: (key) => new IpsecMbKey(manager, key),
    sealOnce: (key, nonce, associatedData, plaintext) =>
      sealOnce(manager, key, nonce, associatedData, plaintext),
    openOnce: (key, nonce, associatedData, sealed) =>
      openOnce(manager, key, nonce, associatedData, sealed),
  };
}

/** Where the buffer that was used last begins: packets lie in few buffers, each of a use of its own. */
class BufferAddress {
  #buffer: ArrayBufferLike | undefined;
  #address: Address | undefined;

  /** Writes the address of `buf[offset]` to `words[at]`. */
  put(words: Uint32Array, at: number, buf: Uint8Array, offset: number): void {
    const { buffer } = buf;
    if (buffer !== this.#buffer || this.#address === undefined) {
      this.#buffer = buffer;
      this.#address = new Address(new Uint8Array(buffer as ArrayBuffer));
    }
    this.#address.put(words, at, buf.byteOffset + offset);
  }
}

const buffers = {
  sealFrom: new BufferAddress(),
  sealTo: new BufferAddress(),
  openFrom: new BufferAddress(),
  openTo: new BufferAddress(),
};

/** Copying so many bytes one by one takes no longer than a call. */
const SHORT = 64;
/** Only for what is to be padded. */
const pointers = { from: new PointerCache(), to: new PointerCache() };

const keyRows = new KeyRows();

class IpsecMbKey implements AeadKey {
  readonly #manager: IpsecMbManager;
  #row: number;

  constructor(manager: IpsecMbManager, key: Uint8Array) {
    checkKey(key);
    this.#manager = manager;
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
    let length = srcEnd - srcStart;
    checkPadding(padding);
    checkRange(src, srcStart, srcEnd, dst, dstStart, length + padding + TAG_LENGTH);
    this.#putKey();
    const { nonce, tag, words } = this.#manager;
    const job = this.#manager.nextJob();
    buffers.sealTo.put(words, job + Job.destination, dst, dstStart);
    if (padding === 0) buffers.sealFrom.put(words, job + Job.source, src, srcStart);
    else {
      // What is sealed lies in one piece.
      if (src !== dst || srcStart !== dstStart) {
        copy(this.#manager, src, srcStart, length, dst, dstStart);
      }
      for (let i = 0; i < padding; i++) dst[dstStart + length++] = 0;
      buffers.sealTo.put(words, job + Job.source, dst, dstStart);
    }
    writeCounterNonce(nonce, counter);
    this.#manager.process(job, Direction.seal, length);
    const at = dstStart + length;
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
    this.#putKey();
    const { nonce, tag, words } = this.#manager;
    const job = this.#manager.nextJob();
    buffers.openFrom.put(words, job + Job.source, src, srcStart);
    buffers.openTo.put(words, job + Job.destination, dst, dstStart);
    writeCounterNonce(nonce, counter);
    this.#manager.process(job, Direction.open, length);
    if (isSameTag(tag, src, srcStart + length)) return true;
    dst.fill(0, dstStart, dstStart + length);
    return false;
  }

  dispose(): void {
    if (this.#row === NO_ROW) return;
    this.#manager.key.fill(0); // it may be this one
    keyRows.delete(this.#row);
    this.#row = NO_ROW;
  }

  #putKey(): void {
    if (this.#row === NO_ROW) throw new Error("Cannot use an AEAD key after it was disposed");
    keyRows.read(this.#row, this.#manager.key);
  }
}

/** Copies without making an object, but for large buffers' first time and small ones. */
function copy(
  manager: IpsecMbManager,
  src: Uint8Array,
  srcStart: number,
  length: number,
  dst: Uint8Array,
  dstStart: number,
): void {
  if (length <= SHORT) {
    for (let i = 0; i < length; i++) dst[dstStart + i] = src[srcStart + i]!;
    return;
  }
  const to = pointers.to.find(dst, dstStart);
  const from = pointers.from.find(src, srcStart);
  if (to !== null && from !== null) manager.copy(to, from, length);
  else dst.set(src.subarray(srcStart, srcStart + length), dstStart);
}

/** Takes equally long wherever they differ. */
function isSameTag(tag: Uint8Array, sealed: Uint8Array, at: number): boolean {
  let difference = 0;
  for (let i = 0; i < TAG_LENGTH; i++) difference |= tag[i]! ^ sealed[at + i]!;
  return difference === 0;
}

function sealOnce(
  manager: IpsecMbManager,
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  plaintext: Uint8Array,
): Uint8Array {
  const ciphertext = once(manager, Direction.seal, key, nonce, associatedData, plaintext);
  const sealed = new Uint8Array(ciphertext.length + TAG_LENGTH);
  sealed.set(ciphertext);
  sealed.set(manager.tag.subarray(0, TAG_LENGTH), ciphertext.length);
  return sealed;
}

function openOnce(
  manager: IpsecMbManager,
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  checkKey(key);
  const length = sealed.length - TAG_LENGTH;
  if (length < 0) return undefined;
  const ciphertext = sealed.subarray(0, length);
  const plaintext = once(manager, Direction.open, key, nonce, associatedData, ciphertext);
  return isSameTag(manager.tag, sealed, length) ? plaintext : undefined;
}

/** Encrypts or decrypts in copies that do not move; the tag is the manager's then. */
function once(
  manager: IpsecMbManager,
  direction: number,
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData: Uint8Array,
  input: Uint8Array,
): Uint8Array {
  checkKey(key);
  const still = (bytes: Uint8Array) => {
    const copy = new Uint8Array(Math.max(128, bytes.length));
    copy.set(bytes);
    return copy;
  };
  const data = still(input);
  const { words } = manager;
  const job = manager.nextJob();
  new Uint8Array(manager.key.buffer).set(key);
  for (const member of [Job.source, Job.destination]) new Address(data).put(words, job + member, 0);
  const additional = new Address(still(associatedData));
  manager.nonce.set(nonce.subarray(0, NONCE_LENGTH));
  manager.processWith(additional, associatedData.length, job, direction, input.length);
  manager.nonce.fill(0);
  manager.key.fill(0);
  return data.subarray(0, input.length);
}
