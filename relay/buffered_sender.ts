/**
 * Sending from sockets that may be full: what the kernel has no room for waits, socket by socket.
 *
 *     send ──► socket ── full ──► queue of this socket ── retry, every millisecond ──► socket
 *
 * While one socket is full, all others go on. Each queue is bounded, and so are all of them together;
 * past the bound datagrams are dropped and counted. What can never be sent is counted and forgotten:
 * no refusal of the system ends more than the packet that it concerns.
 *
 * Owns: the datagrams that wait. Does not own: the sockets.
 * @module
 */

import type { SocketAddress } from "@firezone/core/ip";
import { type GatherBatch, SendResult, type UdpSocket } from "@firezone/core/os/linux";
import { SendQueue } from "@firezone/core/runtime";

/** Datagrams that were not sent; only ever grow. */
export interface SenderCounters {
  /** In sends that the system refused. */
  refused: number;
  /** For want of room in a queue. */
  queueFull: number;
}

/** What the sender of a socket needs of it. */
export type SendingSocket = Pick<UdpSocket, "send" | "sendGathered" | "accepted">;

/** Bytes that may wait in all queues together. */
const MAX_WAITING_BYTES = 64 << 20;

/** All senders of a loop. */
export class BufferedSenders {
  /** Running totals. */
  readonly counters: SenderCounters = { refused: 0, queueFull: 0 };
  readonly #blocked = new Set<BufferedSender>();
  #waitingBytes = 0;

  /** No senders. */
  constructor() {}

  /** Whether something waits: call {@link retry} soon. */
  get isBlocked(): boolean {
    return this.#blocked.size > 0;
  }

  /**
   * A sender for a socket.
   *
   * @param source address of ours to send from; undefined: the kernel chooses
   * @param maxBytes how much may wait for it
   */
  open(socket: SendingSocket, source: SocketAddress | undefined, maxBytes: number): BufferedSender {
    return new BufferedSender(this, socket, source, maxBytes);
  }

  /** Offers everything that waits to its socket. */
  retry(): void {
    for (const sender of this.#blocked) if (sender.drain()) this.#blocked.delete(sender);
  }

  /** Takes a change of a sender's queue into account; for {@link BufferedSender}. */
  noteWaiting(sender: BufferedSender, change: number): void {
    this.#waitingBytes += change;
    if (change > 0) this.#blocked.add(sender);
  }

  /** Whether so many bytes more may wait; for {@link BufferedSender}. */
  hasRoom(bytes: number): boolean {
    return this.#waitingBytes + bytes <= MAX_WAITING_BYTES;
  }

  /** Forgets a sender; for {@link BufferedSender}. */
  forget(sender: BufferedSender): void {
    this.#blocked.delete(sender);
  }
}

/** A socket with a queue in front. */
export class BufferedSender {
  readonly #senders: BufferedSenders;
  readonly #socket: SendingSocket;
  readonly #source: SocketAddress | undefined;
  readonly #waiting: SendQueue;

  /** Made by {@link BufferedSenders.open}. */
  constructor(
    senders: BufferedSenders,
    socket: SendingSocket,
    source: SocketAddress | undefined,
    maxBytes: number,
  ) {
    this.#senders = senders;
    this.#socket = socket;
    this.#source = source;
    this.#waiting = new SendQueue(maxBytes);
  }

  /** Sends one datagram after everything that waits. @param bytes may change after the call */
  send(destination: SocketAddress, bytes: Uint8Array): void {
    let result: SendResult = SendResult.WouldBlock;
    if (this.#waiting.isEmpty) {
      result = this.#socket.send(this.#source, destination, bytes, 0, bytes.length, 0, 0);
      if (result === SendResult.Sent) return;
    }
    if (result === SendResult.Refused) this.#senders.counters.refused++;
    else this.#wait(destination, bytes.slice(), 0, 0);
  }

  /**
   * Sends a gathered batch after everything that waits.
   *
   * @param batch may be cleared after the call
   * @param ecn ECN field, 0 to 3
   */
  sendGathered(destination: SocketAddress, batch: GatherBatch, ecn: number): void {
    const socket = this.#socket;
    let sent = 0;
    if (this.#waiting.isEmpty) {
      const result = socket.sendGathered(this.#source, destination, batch, ecn);
      if (result === SendResult.Sent) return;
      if (result === SendResult.Refused) {
        this.#senders.counters.refused += batch.count;
        return;
      }
      sent = socket.accepted;
    }
    this.#wait(destination, batch.copy(sent), batch.count > 1 ? batch.segmentSize : 0, ecn);
  }

  /** Offers what waits; true when nothing waits any more. */
  drain(): boolean {
    const before = this.#waiting.bytes;
    const isEmpty = this.#drain();
    this.#senders.noteWaiting(this, this.#waiting.bytes - before);
    return isEmpty;
  }

  /** Gives up what waits; the socket is about to be closed. */
  close(): void {
    this.#senders.noteWaiting(this, -this.#waiting.bytes);
    this.#senders.forget(this);
  }

  #wait(
    destination: SocketAddress,
    bytes: Uint8Array,
    segmentSize: number,
    ecn: number,
  ): void {
    const { counters } = this.#senders;
    // A datagram without bytes is not worth a queue that could hold any number of them.
    if (bytes.length === 0 || !this.#senders.hasRoom(bytes.length)) {
      counters.queueFull += datagramsIn(bytes.length, segmentSize);
      return;
    }
    const before = this.#waiting.bytes;
    const source = this.#source;
    counters.queueFull += this.#waiting.push({ source, destination, bytes, segmentSize, ecn });
    this.#senders.noteWaiting(this, this.#waiting.bytes - before);
  }

  #drain(): boolean {
    for (let run = this.#waiting.peek(); run !== undefined; run = this.#waiting.peek()) {
      const { source, destination, bytes, segmentSize, ecn } = run;
      const { length } = bytes;
      const result = this.#socket.send(source, destination, bytes, 0, length, segmentSize, ecn);
      if (result === SendResult.WouldBlock || result === SendResult.NoBuffers) {
        this.#waiting.consume(this.#socket.accepted);
        return false;
      }
      if (result === SendResult.Refused) {
        this.#senders.counters.refused += datagramsIn(length, segmentSize);
      }
      this.#waiting.consume(length);
    }
    return true;
  }
}

function datagramsIn(length: number, segmentSize: number): number {
  return segmentSize === 0 ? 1 : Math.ceil(length / segmentSize);
}
