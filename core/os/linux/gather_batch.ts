/**
 * Datagrams that lie scattered in one buffer, gathered for a single GSO send without copying.
 *
 * A relay collects here what one receive call brought for one destination: each datagram is a part of
 * a receive slot, less the four bytes in front that the destination must not see, or with four bytes
 * that it must see. The kernel concatenates the parts and cuts at the segment size, so all datagrams
 * of a batch have one length, but for a shorter last one.
 *
 * Owns: the list. Does not own: the bytes, which stay as they are until the batch was sent.
 * Cost: allocates nothing after construction.
 * @module
 */

import { writeU32 } from "../../bytes/fields.ts";
import { addressOf, Memory } from "./memory.ts";
import { MAX_SEGMENTS, MAX_SEND_BYTES } from "./udp_constants.ts";

const IOVEC_SIZE = 16;
const PREFIX_SIZE = 4;

/** A list of datagrams for one destination. Fill it, send it, {@link clear} it. */
export class GatherBatch {
  readonly #buffer: Uint8Array; // held: its address is in the list
  readonly #base: number;
  readonly #iovecs = new Memory(MAX_SEGMENTS * 2 * IOVEC_SIZE);
  readonly #prefixes = new Memory(MAX_SEGMENTS * PREFIX_SIZE);
  readonly #firstIovec = new Int32Array(MAX_SEGMENTS + 1);
  #datagrams = 0;
  #iovecCount = 0;
  #bytes = 0;
  #segmentSize = 0;
  #closed = false;

  /** An empty batch over a buffer, such as {@link UdpSocket.buffer}, that is never resized or transferred. */
  constructor(buffer: Uint8Array) {
    this.#buffer = buffer;
    this.#base = addressOf(buffer.buffer) + buffer.byteOffset;
  }

  /** Datagrams in the batch. */
  get count(): number {
    return this.#datagrams;
  }

  /** Payload bytes in the batch, prefixes included. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Length of every datagram but perhaps the last. */
  get segmentSize(): number {
    return this.#segmentSize;
  }

  /** Appends `buffer[offset, offset + length)`; false when the batch must be sent first. */
  add(offset: number, length: number): boolean {
    if (!this.#admits(length)) return false;
    this.#begin(length);
    this.#part(this.#base, offset, length);
    return true;
  }

  /** Like {@link add}, with `prefix` as a big-endian u32 in front of the bytes. */
  addPrefixed(prefix: number, offset: number, length: number): boolean {
    if (!this.#admits(length + PREFIX_SIZE)) return false;
    const at = this.#datagrams * PREFIX_SIZE;
    this.#begin(length + PREFIX_SIZE);
    writeU32(this.#prefixes.bytes, at, prefix);
    this.#part(this.#prefixes.address, at, PREFIX_SIZE);
    if (length > 0) this.#part(this.#base, offset, length);
    return true;
  }

  /** A copy of what comes after the first `from` bytes, for datagrams that must wait. */
  copy(from: number): Uint8Array {
    const bytes = new Uint8Array(this.#bytes);
    let at = 0;
    for (let i = 0; i < this.#iovecCount; i++) {
      const address = this.#iovecs.getAddress(i * IOVEC_SIZE);
      const length = this.#iovecs.u32[(i * IOVEC_SIZE + 8) >> 2]!;
      const prefixAt = address - this.#prefixes.address;
      const isPrefix = prefixAt >= 0 && prefixAt < MAX_SEGMENTS * PREFIX_SIZE;
      const [source, start] = isPrefix
        ? [this.#prefixes.bytes, prefixAt]
        : [this.#buffer, address - this.#base];
      bytes.set(source.subarray(start, start + length), at);
      at += length;
    }
    return bytes.subarray(from);
  }

  /** Empties the batch. */
  clear(): void {
    this.#datagrams = 0;
    this.#iovecCount = 0;
    this.#bytes = 0;
    this.#segmentSize = 0;
    this.#closed = false;
  }

  /** Address of the iovecs of datagram `i`, for the sender. */
  iovecAddress(i: number): number {
    return this.#iovecs.address + this.#firstIovec[i]! * IOVEC_SIZE;
  }

  /** Number of iovecs of datagrams `[from, to)`, for the sender. */
  iovecCount(from: number, to: number): number {
    const end = to === this.#datagrams ? this.#iovecCount : this.#firstIovec[to]!;
    return end - this.#firstIovec[from]!;
  }

  #admits(length: number): boolean {
    if (this.#datagrams === 0) return true;
    return !this.#closed && this.#datagrams < MAX_SEGMENTS && length <= this.#segmentSize &&
      length > 0 && this.#bytes + length <= MAX_SEND_BYTES;
  }

  #begin(length: number): void {
    if (this.#datagrams === 0) this.#segmentSize = length;
    // A shorter datagram ends the batch; an empty one cannot be followed either.
    if (length < this.#segmentSize || length === 0) this.#closed = true;
    this.#firstIovec[this.#datagrams++] = this.#iovecCount;
    this.#bytes += length;
  }

  #part(base: number, offset: number, length: number): void {
    const at = this.#iovecCount++ * IOVEC_SIZE;
    this.#iovecs.putAddress(at, base + offset);
    this.#iovecs.u32[(at >> 2) + 2] = length;
  }
}
