/**
 * Writes packets into a TUN device, in order, also when the kernel has no room for a moment.
 *
 *     write ──► the device took it
 *       └─ full: a copy waits, and everything written later waits behind it ── retry ──► the device
 *
 * What waits is bounded; past that the newest packets are lost, as at any full queue, so what does
 * arrive still arrives in order.
 *
 * Owns: copies of what waits. Does not own: the device, when to retry.
 * Cost: nothing while the device takes everything.
 * @module
 */

import type { PacketSink } from "../ip/mod.ts";
import { TunWrite } from "../os/linux/mod.ts";

/** What a {@link TunWriter} writes to: a TUN device. */
export interface TunSink {
  /** Writes `buf[start, start + length)`, virtio header and packet. */
  write(buf: Uint8Array, start: number, length: number): TunWrite;
}

/** What a writer has done; only ever grows. */
export interface TunWriterCounters {
  /** Writes that had to wait. */
  delayed: number;
  /** Writes lost because too much was waiting. */
  lost: number;
  /** Writes that the kernel refused: malformed, or the interface is down. */
  refused: number;
}

/** See the head of this file. */
export class TunWriter implements PacketSink {
  /** Running totals. */
  readonly counters: TunWriterCounters = { delayed: 0, lost: 0, refused: 0 };
  readonly #device: TunSink;
  readonly #maxBytes: number;
  #waiting: Uint8Array[] = [];
  #bytes = 0;

  /** A writer with nothing waiting.
   * @param maxBytes that may wait; 4 MiB, a few milliseconds' worth, by default */
  constructor(device: TunSink, maxBytes = 4 << 20) {
    this.#device = device;
    this.#maxBytes = maxBytes;
  }

  /** Whether packets wait: {@link retry} soon. */
  get isBlocked(): boolean {
    return this.#waiting.length > 0;
  }

  /** Takes one write. */
  write(buf: Uint8Array, start: number, length: number): void {
    if (this.#waiting.length === 0) {
      const result = this.#device.write(buf, start, length);
      if (result === TunWrite.Written) return;
      if (result === TunWrite.Refused) {
        this.counters.refused++;
        return;
      }
    }
    if (this.#bytes + length > this.#maxBytes) {
      this.counters.lost++;
      return;
    }
    this.counters.delayed++;
    this.#waiting.push(buf.slice(start, start + length));
    this.#bytes += length;
  }

  /** Offers what waits to the device again. */
  retry(): void {
    let done = 0;
    for (const packet of this.#waiting) {
      const result = this.#device.write(packet, 0, packet.length);
      if (result === TunWrite.WouldBlock) break;
      if (result === TunWrite.Refused) this.counters.refused++;
      this.#bytes -= packet.length;
      done++;
    }
    if (done > 0) this.#waiting = this.#waiting.slice(done);
  }
}
