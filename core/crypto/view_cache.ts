/**
 * Views at offsets of large buffers, made once and found again, because a `subarray` per packet is
 * a hundred bytes of garbage.
 *
 * A batch buffer is filled at the same offsets burst after burst, so a small direct-mapped table
 * finds nearly all of them. Small buffers are not cached: they are thrown away by their owners, and
 * the table would keep them alive.
 * @module
 */

const SLOTS = 1024;
const SMALLEST_CACHED = 16_384;
const NO_VIEW = new Uint8Array(0);

/** A table of views for one use (sources or destinations) in one thread. */
export class ViewCache {
  readonly #slots: Uint8Array[] = new Array(SLOTS).fill(NO_VIEW);

  /** An empty table. */
  constructor() {}

  /** `buf` from `offset` to its end. */
  from(buf: Uint8Array, offset: number): Uint8Array {
    if (offset === 0) return buf;
    const memory = buf.buffer;
    if (memory.byteLength < SMALLEST_CACHED) return buf.subarray(offset);
    const at = buf.byteOffset + offset;
    const slot = (at >>> 4) & (SLOTS - 1);
    const found = this.#slots[slot]!;
    // The length matters too: two buffers may share memory and end at different places.
    if (
      found.buffer === memory && found.byteOffset === at && found.length === buf.length - offset
    ) return found;
    const view = buf.subarray(offset);
    this.#slots[slot] = view;
    return view;
  }
}
