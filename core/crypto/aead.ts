/**
 * ChaCha20-Poly1305 (RFC 8439) as the packet path wants it: one key, a counting nonce, no extra
 * data, and offsets instead of views.
 *
 *     nonce = 00 00 00 00 | counter, 64 bits, least significant byte first     (WireGuard §5.4.6)
 *     sealed = ciphertext, as long as the plaintext | tag, 16 bytes
 *
 * Four backends fill this contract; `select.ts` chooses one. They differ in speed only.
 * @module
 */

/** Bytes that sealing adds. */
export const TAG_LENGTH = 16;

/** The most zero bytes that sealing adds to a plaintext. */
export const MAX_PADDING = 15;

/** Bytes of a key. */
export const KEY_LENGTH = 32;

/** Bytes of a nonce. */
export const NONCE_LENGTH = 12;

/** The name of a backend, as `--crypto` and the log spell it. */
export type AeadName = "ipsec-mb" | "libcrypto" | "node" | "noble";

/**
 * One key. Buffers are borrowed for the call. Source and destination may be the very same bytes
 * (sealing or opening in place) but must not overlap in any other way.
 *
 * Offsets outside of a buffer are a bug of the caller and throw a RangeError; nothing that arrives
 * from the network throws.
 */
export interface AeadKey {
  /**
   * Writes ciphertext and tag, `srcEnd - srcStart + padding + 16` bytes, at `dst[dstStart]`.
   *
   * @param counter at most 2^53 - 1, never used twice with this key
   * @param padding zero bytes to seal after the source, at most 15; none by default
   */
  seal(
    counter: number,
    src: Uint8Array,
    srcStart: number,
    srcEnd: number,
    dst: Uint8Array,
    dstStart: number,
    padding?: number,
  ): void;

  /**
   * Writes the plaintext of `src[srcStart, srcEnd)`, whose last 16 bytes are the tag, at
   * `dst[dstStart]`. False when the tag is wrong or missing; the bytes that the plaintext would
   * have taken are zero then, or untouched.
   */
  open(
    counter: number,
    src: Uint8Array,
    srcStart: number,
    srcEnd: number,
    dst: Uint8Array,
    dstStart: number,
  ): boolean;

  /** Forgets the key; the object must not be used any more. Calling it twice is harmless. */
  dispose(): void;
}

/** One implementation of ChaCha20-Poly1305. */
export interface AeadBackend {
  /** Which one. */
  readonly name: AeadName;
  /** For the log: what stands behind the name, such as the library's version. */
  readonly detail: string;

  /** A key for the packet path.
   * @param key 32 bytes; copied
   * @param receiverIndex what messages to us that are sealed with it name, if it is for opening:
   *   with that a backend can open them ahead of time */
  key(key: Uint8Array, receiverIndex?: number): AeadKey;

  /** Ciphertext and tag of a single message under any nonce, with data that is only authenticated.
   * For handshakes: it sets up the cipher anew each time. */
  sealOnce(
    key: Uint8Array,
    nonce: Uint8Array,
    associatedData: Uint8Array,
    plaintext: Uint8Array,
  ): Uint8Array;

  /** The plaintext of what {@link sealOnce} made; `undefined` when anything was changed. */
  openOnce(
    key: Uint8Array,
    nonce: Uint8Array,
    associatedData: Uint8Array,
    sealed: Uint8Array,
  ): Uint8Array | undefined;
}

/** Writes the nonce of a counter into the first 12 bytes of `nonce`, whose first four are zero. */
export function writeCounterNonce(nonce: Uint8Array, counter: number): void {
  const high = Math.floor(counter / 0x1_0000_0000);
  nonce[4] = counter;
  nonce[5] = counter >>> 8;
  nonce[6] = counter >>> 16;
  nonce[7] = counter >>> 24;
  nonce[8] = high;
  nonce[9] = high >>> 8;
  nonce[10] = high >>> 16;
  nonce[11] = high >>> 24;
}

/** Refuses offsets that would reach outside of a buffer, before native code gets to see them. */
export function checkRange(
  src: Uint8Array,
  srcStart: number,
  srcEnd: number,
  dst: Uint8Array,
  dstStart: number,
  written: number,
): void {
  if (
    srcStart >= 0 && srcStart <= srcEnd && srcEnd <= src.length &&
    dstStart >= 0 && dstStart + written <= dst.length
  ) return;
  throw new RangeError(
    `Cannot seal or open [${srcStart}, ${srcEnd}) of ${src.length} bytes into ${dst.length} bytes at ${dstStart}`,
  );
}

/** Refuses more padding than there may be. */
export function checkPadding(padding: number): void {
  if (padding >= 0 && padding <= MAX_PADDING) return;
  throw new RangeError(`Cannot pad with ${padding} bytes: expected at most ${MAX_PADDING}`);
}

/** Refuses keys of a wrong length. */
export function checkKey(key: Uint8Array): void {
  if (key.length === KEY_LENGTH) return;
  throw new RangeError(`Cannot use a key of ${key.length} bytes: expected ${KEY_LENGTH}`);
}
