/**
 * A batch of datagrams that keeps each as an object, for simulations, which need not be quick.
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";
import type { DatagramBatch, Transmit } from "../transmit.ts";

/** See the head of this file. */
export class ListBatch implements DatagramBatch {
  /** Where the next datagram is written. */
  readonly buffer: Uint8Array = new Uint8Array(65_536);
  /** What was committed, oldest first; take from it. */
  readonly transmits: Transmit[] = [];
  #source: SocketAddress | undefined;
  #destination: SocketAddress | undefined;

  /** Makes room at the beginning of {@link buffer}. */
  reserve(source: SocketAddress | undefined, destination: SocketAddress): number {
    this.#source = source;
    this.#destination = destination;
    return 0;
  }

  /** Keeps the datagram that was written. */
  commit(length: number): void {
    const payload = this.buffer.slice(0, length);
    this.transmits.push({ source: this.#source, destination: this.#destination!, payload });
  }
}
