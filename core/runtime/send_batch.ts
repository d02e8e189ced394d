/**
 * Collects the datagrams of a burst so that each destination's leave in few system calls.
 *
 *     reserve → write into buffer → commit      (per packet, no objects)
 *     flush                                     (when the burst ends)
 *
 * Datagrams of one destination go to its lane, a 64 KiB stretch of the buffer, as long as the kernel
 * could cut them apart again: all of one length, but for a shorter last one, at most 64 and 65507
 * bytes. What does not fit flushes the lane first, so a destination's order holds.
 *
 * When the sink is full, what it did not take waits in a bounded queue and everything later of that
 * IP family waits behind it; past the bound the oldest are dropped and counted.
 *
 * Owns: the buffer and the waiting datagrams. Does not own: the sockets.
 * Cost: allocates nothing unless the sink is full.
 * @module
 */

import type { Family, SocketAddress } from "../ip/address.ts";
import type { DatagramBatch, Transmit } from "../transmit.ts";
import { SendQueue } from "./send_queue.ts";

/** How a {@link DatagramSink} answered; the same numbers as `SendResult` of `core/os`. */
export const SinkResult = {
  /** It took everything. */
  Sent: 0,
  /** It is full: {@link DatagramSink.accepted} bytes went; offer the rest when it is writable again. */
  WouldBlock: 1,
  /** It is full and will not announce room: offer the rest again soon. */
  NoBuffers: 2,
  /** At least one datagram can never go; the sink has counted it. */
  Refused: 3,
} as const;

/** One of {@link SinkResult}. */
export type SinkResult = typeof SinkResult[keyof typeof SinkResult];

/** Where datagrams go: the sockets of both families in programs, a list in tests. */
export interface DatagramSink {
  /** Bytes of the last send that need not be offered again. */
  readonly accepted: number;
  /**
   * Sends `buf[start, start + length)`, cut every `segmentSize` bytes unless that is 0.
   *
   * @param buf borrowed for the call
   */
  send(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    buf: Uint8Array,
    start: number,
    length: number,
    segmentSize: number,
    ecn: number,
  ): SinkResult;
}

/** Threads that can be left to send what a lane holds; see `cipher/cipher_pool.ts`. */
export interface LaneSender {
  /** What lanes lie in. */
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** Where a lane begins in it that nobody uses; waits until there is one. */
  takeLane(): number;
  /**
   * Leaves what lies from `start` on to a thread, the lane with it; see {@link DatagramSink.send}.
   *
   * @returns false when it is to be sent here; all of it is ready to be
   */
  handOff(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    start: number,
    length: number,
    segmentSize: number,
    ecn: number,
  ): boolean;
  /** Makes ready to be sent here what lies from `start` on. */
  finish(start: number): void;
}

/** What a batch has done; only ever grows. */
export interface SendBatchCounters {
  /** Datagrams committed. */
  datagrams: number;
  /** Sends offered to the sink, each of one or more datagrams. */
  sends: number;
  /** Datagrams dropped because the queue of waiting ones was full. */
  dropped: number;
}

/** How to build a {@link SendBatch}. */
export interface SendBatchOptions {
  /** Destinations collected for at the same time; 8 if absent. */
  readonly lanes?: number;
  /** Bytes that may wait for a full sink, per IP family; 4 MiB if absent. */
  readonly queueBytes?: number;
  /** Who else may send, and has the memory for it. */
  readonly sender?: LaneSender | undefined;
}

const LANE_SIZE = 65_536;
/** Most bytes of a send: the payload of the largest IPv4 datagram. */
const MAX_BYTES = 65_507;
const MAX_SEGMENTS = 64;

class Lane {
  destination: SocketAddress | undefined; // undefined: free
  source: SocketAddress | undefined;
  ecn = 0;
  length = 0;
  count = 0;
  segmentSize = 0;
  closed = false; // a shorter datagram has ended it
  usedAt = 0;
  constructor(public start: number) {}
}

/** A {@link DatagramBatch} in front of a sink. */
export class SendBatch implements DatagramBatch {
  /** Memory that {@link reserve} hands out offsets into. */
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** Running totals. */
  readonly counters: SendBatchCounters = { datagrams: 0, sends: 0, dropped: 0 };
  readonly #sink: DatagramSink;
  readonly #sender: LaneSender | undefined;
  readonly #lanes: readonly Lane[];
  readonly #waiting: Readonly<Record<Family, SendQueue>>;
  #current: Lane; // of the last reservation
  #reserved = 0;
  #uses = 0;

  /** An empty batch. */
  constructor(sink: DatagramSink, options: SendBatchOptions = {}) {
    const lanes = options.lanes ?? 8;
    const queueBytes = options.queueBytes ?? 4 << 20;
    this.#sink = sink;
    const { sender } = options;
    this.#sender = sender;
    this.buffer = sender?.buffer ?? new Uint8Array(lanes * LANE_SIZE);
    this.#lanes = Array.from(
      { length: lanes },
      (_, i) => new Lane(sender?.takeLane() ?? i * LANE_SIZE),
    );
    this.#waiting = { 4: new SendQueue(queueBytes), 6: new SendQueue(queueBytes) };
    this.#current = this.#lanes[0]!;
  }

  /** Whether datagrams wait for a full sink: flush again when it is writable. */
  get isBlocked(): boolean {
    return !this.#waiting[4].isEmpty || !this.#waiting[6].isEmpty;
  }

  /** Whether datagrams of that IP version wait for a full sink. */
  isFamilyBlocked(family: Family): boolean {
    return !this.#waiting[family].isEmpty;
  }

  /**
   * Makes room for a datagram; see {@link DatagramBatch.reserve}.
   *
   * @param length at most 65507 @throws RangeError when it is longer: callers know their sizes
   * @param ecn ECN field of the outer header, 0 to 3
   */
  reserve(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    length: number,
    ecn = 0,
  ): number {
    if (length > MAX_BYTES) throw new RangeError(`Cannot send a datagram of ${length} bytes`);
    const lane = this.#laneFor(source, destination, ecn);
    if (
      lane.count > 0 &&
      (lane.closed || length > lane.segmentSize || lane.count >= MAX_SEGMENTS ||
        lane.length + length > MAX_BYTES || lane.ecn !== ecn || !sameAddress(lane.source, source))
    ) this.#flushLane(lane);
    if (lane.count === 0) {
      lane.destination = destination;
      lane.source = source;
      lane.ecn = ecn;
    }
    lane.usedAt = ++this.#uses;
    this.#current = lane;
    this.#reserved = length;
    return lane.start + lane.length;
  }

  /** Takes the first `length` bytes of the reservation as a datagram; none if it is 0. */
  commit(length: number): void {
    const lane = this.#current;
    if (length > this.#reserved) {
      throw new RangeError(`Cannot commit ${length} bytes of ${this.#reserved} reserved`);
    }
    this.#reserved = 0;
    if (length === 0) return;
    if (lane.count === 0) lane.segmentSize = length;
    else if (length < lane.segmentSize) lane.closed = true;
    lane.count++;
    lane.length += length;
    this.counters.datagrams++;
  }

  /** Adds a datagram of the control path, in order with the packets of its destination. */
  transmit(transmit: Transmit): void {
    const { payload } = transmit;
    if (payload.length > MAX_BYTES) {
      this.counters.dropped++;
      return;
    }
    const at = this.reserve(transmit.source, transmit.destination, payload.length);
    this.buffer.set(payload, at);
    this.commit(payload.length);
  }

  /** Offers everything to the sink, first what waits from before. */
  flush(): void {
    this.#drain(4);
    this.#drain(6);
    for (const lane of this.#lanes) if (lane.count > 0) this.#flushLane(lane);
  }

  #laneFor(source: SocketAddress | undefined, destination: SocketAddress, ecn: number): Lane {
    const current = this.#current;
    if (
      current.destination === destination && current.source === source && current.ecn === ecn
    ) return current;
    let oldest = this.#lanes[0]!;
    for (let i = 0; i < this.#lanes.length; i++) {
      const lane = this.#lanes[i]!;
      // One lane per destination whatever the source and ECN, or its order could not hold.
      if (lane.destination !== undefined && sameAddress(lane.destination, destination)) return lane;
      if (lane.usedAt < oldest.usedAt) oldest = lane;
    }
    if (oldest.count > 0) this.#flushLane(oldest);
    return oldest;
  }

  #flushLane(lane: Lane): void {
    const destination = lane.destination!;
    const segmentSize = lane.count > 1 ? lane.segmentSize : 0;
    if (this.#isHandedOff(lane, destination, segmentSize)) lane.start = this.#sender!.takeLane();
    else this.#sendLane(lane, destination, segmentSize);
    lane.length = 0;
    lane.count = 0;
    lane.segmentSize = 0;
    lane.closed = false;
    lane.destination = undefined;
    lane.source = undefined;
  }

  #isHandedOff(lane: Lane, destination: SocketAddress, segmentSize: number): boolean {
    const sender = this.#sender;
    if (sender === undefined) return false;
    const { source, start, length, ecn } = lane;
    if (this.#waiting[destination.family].isEmpty) {
      return sender.handOff(source, destination, start, length, segmentSize, ecn);
    }
    sender.finish(start);
    return false;
  }

  #sendLane(lane: Lane, destination: SocketAddress, segmentSize: number): void {
    const queue = this.#waiting[destination.family];
    const { source, ecn } = lane;
    let sent = 0;
    if (queue.isEmpty) {
      this.counters.sends++;
      const result = this.#sink.send(
        source,
        destination,
        this.buffer,
        lane.start,
        lane.length,
        segmentSize,
        ecn,
      );
      sent = isFull(result) ? this.#sink.accepted : lane.length;
    }
    if (sent === lane.length) return;
    const bytes = this.buffer.slice(lane.start + sent, lane.start + lane.length);
    this.counters.dropped += queue.push({ source, destination, bytes, segmentSize, ecn });
  }

  #drain(family: Family): void {
    const queue = this.#waiting[family];
    for (let run = queue.peek(); run !== undefined; run = queue.peek()) {
      this.counters.sends++;
      const { bytes, segmentSize } = run;
      const length = bytes.length;
      const cut = segmentSize < length ? segmentSize : 0;
      const result = this.#sink.send(
        run.source,
        run.destination,
        bytes,
        0,
        length,
        cut,
        run.ecn,
      );
      if (isFull(result)) {
        queue.consume(this.#sink.accepted);
        return;
      }
      queue.consume(length);
    }
  }
}

function isFull(result: SinkResult): boolean {
  return result === SinkResult.WouldBlock || result === SinkResult.NoBuffers;
}

function sameAddress(a: SocketAddress | undefined, b: SocketAddress | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && a.key === b.key);
}
