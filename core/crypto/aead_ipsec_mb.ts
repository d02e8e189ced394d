/**
 * The AEAD over Intel's Multi-Buffer Crypto for IPsec: half of what libcrypto takes, on x86-64 where
 * it is installed (Debian's `libipsec-mb1`).
 *
 * Sealing or opening is one call. See `ipsec_mb.ts` and `aead_bench.ts`.
 * @module
 */

import { constantTimeEqualAt } from "../bytes/mod.ts";
import {
  type AeadBackend,
  type AeadKey,
  checkKey,
  checkPadding,
  checkRange,
  NONCE_LENGTH,
  TAG_LENGTH,
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
  put(words: Int32Array, at: number, buf: Uint8Array, offset: number): void {
    const { buffer } = buf;
    if (buffer !== this.#buffer || this.#address === undefined) {
      this.#buffer = buffer;
      this.#address = Address.of(new Uint8Array(buffer as ArrayBuffer));
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
/** Whose key the manager has. */
let rowInUse: number = NO_ROW;

function forgetKey(manager: IpsecMbManager): void {
  manager.key.fill(0);
  rowInUse = NO_ROW;
}

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
    this.#begin(counter);
    const { words } = this.#manager;
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
    buffers.sealTo.put(words, job + Job.tag, dst, dstStart + length);
    this.#manager.process(job, Direction.seal, length);
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
    this.#begin(counter);
    const { tag, words } = this.#manager;
    const job = this.#manager.nextJob();
    buffers.openFrom.put(words, job + Job.source, src, srcStart);
    buffers.openTo.put(words, job + Job.destination, dst, dstStart);
    this.#manager.keepTag(job);
    this.#manager.process(job, Direction.open, length);
    if (constantTimeEqualAt(tag, 0, src, srcStart + length, TAG_LENGTH)) return true;
    dst.fill(0, dstStart, dstStart + length);
    return false;
  }

  dispose(): void {
    if (this.#row === NO_ROW) return;
    if (this.#row === rowInUse) forgetKey(this.#manager);
    keyRows.delete(this.#row);
    this.#row = NO_ROW;
  }

  /** Key and nonce of the next job. */
  #begin(counter: number): void {
    if (this.#row === NO_ROW) throw new Error("Cannot use an AEAD key after it was disposed");
    const { key, nonce } = this.#manager;
    if (this.#row !== rowInUse) {
      rowInUse = this.#row;
      keyRows.read(rowInUse, key);
    }
    nonce[1] = counter; // modulo 2^32
    nonce[2] = counter > 0xffff_ffff ? Math.floor(counter / 0x1_0000_0000) : 0;
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
  const isGenuine = constantTimeEqualAt(manager.tag, 0, sealed, length, TAG_LENGTH);
  return isGenuine ? plaintext : undefined;
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
  rowInUse = NO_ROW;
  new Uint8Array(manager.key.buffer).set(key);
  new Uint8Array(manager.nonce.buffer).set(nonce.subarray(0, NONCE_LENGTH));
  for (const member of [Job.source, Job.destination]) Address.of(data).put(words, job + member, 0);
  manager.keepTag(job);
  const additional = still(associatedData);
  manager.processWith(additional, associatedData.length, job, direction, input.length);
  manager.nonce.fill(0);
  forgetKey(manager);
  return data.subarray(0, input.length);
}
