/**
 * Where a machine under test writes its datagrams: {@link DatagramBatch} and control path in one
 * queue.
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";
import type { DatagramBatch, Transmit } from "../transmit.ts";

/** A batch that hands its datagrams out again, one by one and in order. */
export class TransmitQueue implements DatagramBatch {
  /** Where reservations lie. */
  readonly buffer: Uint8Array = new Uint8Array(65_536);
  readonly #queue: Transmit[] = [];
  #source: SocketAddress | undefined;
  #destination: SocketAddress | undefined;
  #reserved = 0;

  /** Number of datagrams waiting. */
  get length(): number {
    return this.#queue.length;
  }

  /** Makes room for a datagram. @throws RangeError past 64 KiB */
  reserve(source: SocketAddress | undefined, destination: SocketAddress, length: number): number {
    if (length > this.buffer.length) throw new RangeError(`Cannot reserve ${length} bytes`);
    this.#source = source;
    this.#destination = destination;
    this.#reserved = length;
    // Reservations move about, so that nobody comes to rely on a fixed place.
    return (this.buffer.length - length) >> 1;
  }

  /** Queues the first `length` reserved bytes. @throws Error without a reservation that long */
  commit(length: number): void {
    if (!this.#destination || length > this.#reserved) {
      throw new Error(`Cannot commit ${length} bytes: ${this.#reserved} are reserved`);
    }
    const start = (this.buffer.length - this.#reserved) >> 1;
    const payload = this.buffer.slice(start, start + length);
    this.push({ source: this.#source, destination: this.#destination, payload });
    this.#destination = undefined;
  }

  /** Queues a datagram of the control path. */
  push(transmit: Transmit): void {
    this.#queue.push(transmit);
  }

  /** Takes the oldest datagram. */
  pollTransmit(): Transmit | undefined {
    return this.#queue.shift();
  }
}
