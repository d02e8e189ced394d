/**
 * Memory whose address the kernel may hold.
 *
 * V8 keeps the bytes of small typed arrays on its own heap and moves them; and an address written
 * into a struct keeps nothing alive. So structs live in these, which are large enough never to move,
 * and every `Memory` must be held in a field for as long as the kernel knows its address.
 * @module
 */

import { libc } from "./libc.ts";

/** Smallest size that V8 certainly keeps off its heap (the limit is 64 bytes). */
const MIN_SIZE = 128;

/** A block of zeroed bytes with a fixed address. */
export class Memory {
  /** All bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same bytes as 32-bit words in host order. */
  readonly u32: Uint32Array<ArrayBuffer>;
  /** The same bytes, for fields of other widths. */
  readonly view: DataView<ArrayBuffer>;
  /** Where it lies; user-space addresses are below 2^53. */
  readonly address: number;

  /** Allocates.
   * @param size in bytes; rounded up to a multiple of eight */
  constructor(size: number) {
    const buffer = new ArrayBuffer(Math.max(MIN_SIZE, (size + 7) & ~7));
    this.bytes = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.view = new DataView(buffer);
    this.address = addressOf(buffer);
  }

  /** Writes an address into the eight bytes at `offset`, a multiple of four. */
  putAddress(offset: number, address: number): void {
    this.u32[offset >> 2] = address; // stored modulo 2^32
    this.u32[(offset >> 2) + 1] = address / 0x1_0000_0000;
  }

  /** Reads the address at `offset`, a multiple of four. */
  getAddress(offset: number): number {
    return this.u32[offset >> 2]! + this.u32[(offset >> 2) + 1]! * 0x1_0000_0000;
  }
}

/** Address of a buffer's first byte. The caller keeps the buffer alive and neither resizes nor transfers it. */
export function addressOf(buffer: ArrayBufferLike): number {
  return Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer as ArrayBuffer)));
}

/** Copies bytes between two addresses; they must not overlap. Costs 30 ns for a packet, without a view. */
export function copyMemory(
  to: Deno.PointerValue,
  from: Deno.PointerValue,
  length: number,
): void {
  libc.memcpy(to, from, length);
}
