/**
 * Addresses in large buffers, made once and found again: an address made for a packet costs more than
 * fifty nanoseconds and an object, a `buffer` parameter of an FFI call five.
 *
 * A batch buffer is filled at the same offsets burst after burst, so a direct-mapped table finds
 * nearly all of them: within a megabyte two places 32 bytes apart, the least that a WireGuard
 * message has, never displace each other.
 *
 * An address keeps nothing alive, so the table holds the buffers. Small ones are not taken: they are
 * thrown away by their owners, and the table would keep them.
 * @module
 */

const SLOTS = 32_768;
const PLACE_BITS = 5; // 32 bytes
const SMALLEST_CACHED = 16_384;

/** A table of addresses for one use (sources or destinations) in one thread. */
export class PointerCache {
  // Empty until the first use: many processes never seal a packet.
  #buffers: (Uint8Array | undefined)[] = [];
  #offsets = new Int32Array(0);
  #pointers: Deno.PointerValue[] = [];
  // The buffer used last and where it begins.
  #buffer: Uint8Array | undefined;
  #start: Deno.PointerValue = null;

  /** An empty table. */
  constructor() {}

  /**
   * The address of `buf[offset]`; null for a buffer that is too small to be taken.
   *
   * @param buf never transferred to another thread as long as the address is in use
   */
  find(buf: Uint8Array, offset: number): Deno.PointerValue {
    const slot = (offset >>> PLACE_BITS) & (SLOTS - 1);
    if (this.#buffers[slot] === buf && this.#offsets[slot] === offset) return this.#pointers[slot]!;
    return buf.length < SMALLEST_CACHED ? null : this.#add(slot, buf, offset);
  }

  #add(slot: number, buf: Uint8Array, offset: number): Deno.PointerValue {
    if (this.#pointers.length === 0) {
      this.#buffers = new Array(SLOTS).fill(undefined);
      this.#offsets = new Int32Array(SLOTS);
      this.#pointers = new Array(SLOTS).fill(null);
    }
    if (buf !== this.#buffer) {
      this.#buffer = buf;
      this.#start = Deno.UnsafePointer.of(buf as Uint8Array<ArrayBuffer>);
    }
    const pointer = offset === 0 || this.#start === null
      ? this.#start
      : Deno.UnsafePointer.offset(this.#start, offset);
    this.#buffers[slot] = buf;
    this.#offsets[slot] = offset;
    this.#pointers[slot] = pointer;
    return pointer;
  }
}
