/**
 * Datagrams that wait for a full socket, oldest first, within a bound of bytes.
 *
 * Owns: copies of the datagrams. Does not own: when to try again.
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";

/** Datagrams of one destination that can leave in one send. */
export interface Run {
  /** Local address to send from. */
  readonly source: SocketAddress | undefined;
  /** Where they go. */
  readonly destination: SocketAddress;
  /** The datagrams, one after the other. */
  readonly bytes: Uint8Array;
  /** Bytes of each but the last; 0 when there is one. */
  readonly segmentSize: number;
  /** ECN field, 0 to 3. */
  readonly ecn: number;
}

/** A bounded queue of runs. */
export class SendQueue {
  readonly #maxBytes: number;
  #runs: Run[] = [];
  #bytes = 0;

  /** An empty queue that holds at most `maxBytes`, or a single run of any length. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether nothing waits. */
  get isEmpty(): boolean {
    return this.#runs.length === 0;
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Appends a run, dropping the oldest to stay within the bound. @returns datagrams dropped */
  push(run: Run): number {
    this.#runs.push(run);
    this.#bytes += run.bytes.length;
    let dropped = 0;
    while (this.#bytes > this.#maxBytes && this.#runs.length > 1) {
      const oldest = this.#runs.shift()!;
      this.#bytes -= oldest.bytes.length;
      dropped += datagramsIn(oldest);
    }
    return dropped;
  }

  /** The oldest run. */
  peek(): Run | undefined {
    return this.#runs[0];
  }

  /** Forgets the first `length` bytes of the oldest run, whole datagrams. */
  consume(length: number): void {
    const run = this.#runs[0];
    if (run === undefined || length === 0) return;
    this.#bytes -= length;
    if (length >= run.bytes.length) this.#runs.shift();
    else this.#runs[0] = { ...run, bytes: run.bytes.subarray(length) };
  }
}

function datagramsIn(run: Run): number {
  return run.segmentSize === 0 ? 1 : Math.ceil(run.bytes.length / run.segmentSize);
}
