/**
 * The sending half of a UDP socket: sendmsg with GSO, a chosen source address and ECN.
 *
 * Owns: the structs that the kernel reads during a call. Does not own: retrying later, see
 * `core/runtime/send_batch.ts`.
 * Cost: no objects (asserted in `udp_limits_test.ts`).
 * @module
 */

import type { Family, SocketAddress } from "../../ip/address.ts";
import { Errno, errnoName, OsError } from "./errno.ts";
import type { Fd } from "./fd.ts";
import type { GatherBatch } from "./gather_batch.ts";
import { errno, libc } from "./libc.ts";
import { addressOf, Memory } from "./memory.ts";
import { sockaddrLength, writeSockaddr } from "./socket_address.ts";
import {
  IP_PKTINFO,
  IP_TOS,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_PKTINFO,
  IPV6_TCLASS,
  MSG_DONTWAIT,
  SOL_UDP,
  UDP_SEGMENT,
} from "./udp_constants.ts";

/** How a send went. */
export const SendResult = {
  /** The kernel took all of it. */
  Sent: 0,
  /** The socket is full: {@link DatagramSender.accepted} bytes went; send the rest when it is writable. */
  WouldBlock: 1,
  /** A queue below the socket is full, and nothing will announce room: as above, but try again soon. */
  NoBuffers: 2,
  /** The system refused at least one datagram (no route, too long, filtered); trying again is useless. */
  Refused: 3,
} as const;

/** One of {@link SendResult}. */
export type SendResult = typeof SendResult[keyof typeof SendResult];

/** What a sender has done; only ever grows. */
export interface SendCounters {
  /** System calls. */
  calls: number;
  /** Datagrams the kernel took. */
  datagrams: number;
  /** Payload bytes the kernel took. */
  bytes: number;
  /** Calls answered EAGAIN. */
  wouldBlock: number;
  /** Calls answered ENOBUFS. */
  noBuffers: number;
  /** GSO sends that the kernel refused and that were repeated datagram by datagram. */
  segmentationRefused: number;
  /** Datagrams refused, by name of the error. */
  refused: Map<string, number>;
}

/** Stands for the map of those who were never refused anything, which is nearly all. */
const NOTHING: Map<string, number> = new Map();
// Upstream's number of attempts; each gives the processor away once.
const NO_BUFFER_ATTEMPTS = 24;
/** Up to here copying a foreign buffer (50 ns) is cheaper than asking for its address (245 ns). */
const COPY_BYTES = 2048;

// Layout of the one block that holds all structs.
const MSGHDR = 0;
const IOVEC = 64;
const NAME = 96;
const CONTROL = 128;

/**
 * What the kernel reads during a call. Sockets of one family that are used on one thread may share it:
 * a relay with thousands of them would else spend more memory on this than on anything.
 */
export class SendStructs {
  /** IP version of the addresses inside. */
  readonly family: Family;
  /**
   * The one block: message header, iovec, name, control messages.
   * @internal
   */
  readonly message: Memory = new Memory(512);
  /**
   * Where short foreign datagrams are copied.
   * @internal
   */
  readonly scratch: Memory = new Memory(COPY_BYTES);
  /** The last buffer that was sent from, held as long as its address is remembered. */
  buffer: ArrayBufferLike;
  /** Where it lies. */
  bufferAddress: number;
  // What the block holds at the moment, so that a run to one peer rewrites nothing.
  /** In the name. */
  destination: SocketAddress | undefined;
  /** In the control messages. */
  source: SocketAddress | undefined;
  /** In the control messages. */
  ecn = 0;
  /** Bytes of control messages about source and ECN. */
  addressControlLength = 0;

  /** Prepares the block. */
  constructor(family: Family) {
    this.family = family;
    this.buffer = this.scratch.bytes.buffer;
    this.bufferAddress = this.scratch.address;
    this.message.putAddress(MSGHDR, this.message.address + NAME);
    this.message.u32[(MSGHDR + 8) >> 2] = sockaddrLength(family);
  }
}

/** Sends datagrams of one socket. */
export class DatagramSender {
  /** Running totals. */
  readonly counters: SendCounters = {
    calls: 0,
    datagrams: 0,
    bytes: 0,
    wouldBlock: 0,
    noBuffers: 0,
    segmentationRefused: 0,
    refused: NOTHING,
  };
  /** Bytes of the last send that need not be sent again: taken by the kernel, or refused. */
  accepted = 0;
  readonly #fd: Fd;
  readonly #family: Family;
  readonly #structs: SendStructs;
  #segmentation = true;

  /** Sends through `structs`, of the same family. */
  constructor(fd: Fd, family: Family, structs: SendStructs = new SendStructs(family)) {
    if (structs.family !== family) {
      throw new RangeError(`Cannot send IPv${family} by these structs`);
    }
    this.#fd = fd;
    this.#family = family;
    this.#structs = structs;
  }

  /** Whether the kernel segments for this socket; false after it said that the device cannot. */
  get segmentation(): boolean {
    return this.#segmentation;
  }

  /**
   * Sends `buf[start, start + length)` as one datagram, or cut into datagrams.
   *
   * @param source local address to send from (its port is ignored); undefined: the kernel chooses
   * @param buf borrowed for the call; its ArrayBuffer must never be resized or transferred
   * @param segmentSize bytes of each datagram but the last; 0 or at least `length`: a single one. At
   *   most 64 segments and 65507 bytes
   * @param ecn ECN field, 0 to 3
   */
  send(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    buf: Uint8Array,
    start: number,
    length: number,
    segmentSize: number,
    ecn: number,
  ): SendResult {
    if (destination.family !== this.#family) return this.#wrongFamily(length, segmentSize);
    this.#address(source, destination, ecn);
    const offset = this.#remember(buf, start, length);
    const segmented = segmentSize > 0 && segmentSize < length;
    this.accepted = 0;
    if (!segmented || this.#segmentation) {
      this.#setIovec(offset, length);
      const error = this.#transfer(segmented ? segmentSize : 0);
      if (error === 0) return this.#took(length, segmented ? Math.ceil(length / segmentSize) : 1);
      if (!segmented || !this.#mayRetrySingly(error)) {
        return this.#failed(error, length, segmented ? Math.ceil(length / segmentSize) : 1);
      }
    }
    let result: SendResult = SendResult.Sent;
    for (let at = 0; at < length; at += segmentSize) {
      const size = Math.min(segmentSize, length - at);
      this.#setIovec(offset + at, size);
      const error = this.#transfer(0);
      const single = error === 0 ? this.#took(size, 1) : this.#failed(error, size, 1);
      if (single === SendResult.WouldBlock || single === SendResult.NoBuffers) return single;
      if (single === SendResult.Refused) result = single;
    }
    return result;
  }

  /** Sends a gathered batch; as {@link send}, but `accepted` counts datagrams' bytes in their order. */
  sendGathered(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    batch: GatherBatch,
    ecn: number,
  ): SendResult {
    const count = batch.count;
    this.accepted = 0;
    if (count === 0) return SendResult.Sent;
    if (destination.family !== this.#family) {
      return this.#wrongFamily(batch.bytes, batch.segmentSize);
    }
    this.#address(source, destination, ecn);
    if (count === 1 || this.#segmentation) {
      this.#setGatheredIovecs(batch, 0, count);
      const error = this.#transfer(count === 1 ? 0 : batch.segmentSize);
      if (error === 0) return this.#took(batch.bytes, count);
      if (count === 1 || !this.#mayRetrySingly(error)) {
        return this.#failed(error, batch.bytes, count);
      }
    }
    let result: SendResult = SendResult.Sent;
    for (let i = 0; i < count; i++) {
      const size = Math.min(batch.segmentSize, batch.bytes - i * batch.segmentSize);
      this.#setGatheredIovecs(batch, i, i + 1);
      const error = this.#transfer(0);
      const single = error === 0 ? this.#took(size, 1) : this.#failed(error, size, 1);
      if (single === SendResult.WouldBlock || single === SendResult.NoBuffers) return single;
      if (single === SendResult.Refused) result = single;
    }
    return result;
  }

  /** One sendmsg; 0 or the error. */
  #transfer(segmentSize: number): number {
    const control = this.#structs.addressControlLength + this.#putSegmentSize(segmentSize);
    this.#structs.message.putAddress(
      MSGHDR + 32,
      control === 0 ? 0 : this.#structs.message.address + CONTROL,
    );
    this.#structs.message.u32[(MSGHDR + 40) >> 2] = control;
    for (let attempt = 0;; attempt++) {
      this.counters.calls++;
      if (libc.sendmsg(this.#fd, this.#structs.message.bytes, MSG_DONTWAIT) >= 0) return 0;
      const error = errno();
      if (error === Errno.EINTR) continue;
      // An error that an ICMP message left on the socket; this call has cleared it.
      if (error === Errno.ECONNREFUSED && attempt < 2) continue;
      if (error !== Errno.ENOBUFS || attempt >= NO_BUFFER_ATTEMPTS) return error;
      this.counters.noBuffers++;
      libc.sched_yield();
    }
  }

  #took(bytes: number, datagrams: number): SendResult {
    this.accepted += bytes;
    this.counters.bytes += bytes;
    this.counters.datagrams += datagrams;
    return SendResult.Sent;
  }

  #failed(error: number, bytes: number, datagrams: number): SendResult {
    if (error === Errno.EAGAIN) {
      this.counters.wouldBlock++;
      return SendResult.WouldBlock;
    }
    if (error === Errno.ENOBUFS) return SendResult.NoBuffers;
    if (error === Errno.EBADF || error === Errno.EFAULT) {
      throw new OsError("sendmsg", `descriptor ${this.#fd}`, error);
    }
    this.#refuse(errnoName(error), bytes, datagrams);
    return SendResult.Refused;
  }

  #refuse(reason: string, bytes: number, datagrams: number): void {
    this.accepted += bytes;
    const { counters } = this;
    if (counters.refused === NOTHING) counters.refused = new Map();
    counters.refused.set(reason, (counters.refused.get(reason) ?? 0) + datagrams);
  }

  #wrongFamily(bytes: number, segmentSize: number): SendResult {
    this.accepted = 0;
    this.#refuse("EAFNOSUPPORT", bytes, segmentSize > 0 ? Math.ceil(bytes / segmentSize) : 1);
    return SendResult.Refused;
  }

  /**
   * EIO: the device has no checksum offload. EINVAL, since Linux 6.13 EMSGSIZE: a segment is longer
   * than the path's MTU, and GSO does not go with fragments.
   */
  #mayRetrySingly(error: number): boolean {
    if (error !== Errno.EIO && error !== Errno.EINVAL && error !== Errno.EMSGSIZE) return false;
    if (error === Errno.EIO) this.#segmentation = false;
    this.counters.segmentationRefused++;
    return true;
  }

  /** Makes `bufferAddress` that of `buf`, or of a copy; returns where the datagram starts from there. */
  #remember(buf: Uint8Array, start: number, length: number): number {
    if (buf.buffer !== this.#structs.buffer) {
      if (length <= COPY_BYTES) {
        const to = this.#structs.scratch.bytes;
        if (length < 64) { for (let i = 0; i < length; i++) to[i] = buf[start + i]!; }
        else to.set(buf.subarray(start, start + length));
        this.#structs.buffer = to.buffer;
        this.#structs.bufferAddress = this.#structs.scratch.address;
        return 0;
      }
      this.#structs.buffer = buf.buffer;
      this.#structs.bufferAddress = addressOf(buf.buffer);
    }
    return buf.byteOffset + start;
  }

  // Addresses do not fit a small integer, so handing them from function to function allocates:
  // offsets are handed instead.
  #setIovec(offset: number, length: number): void {
    this.#structs.message.putAddress(IOVEC, this.#structs.bufferAddress + offset);
    this.#structs.message.u32[(IOVEC + 8) >> 2] = length;
    this.#structs.message.putAddress(MSGHDR + 16, this.#structs.message.address + IOVEC);
    this.#structs.message.u32[(MSGHDR + 24) >> 2] = 1;
  }

  #setGatheredIovecs(batch: GatherBatch, from: number, to: number): void {
    this.#structs.message.putAddress(MSGHDR + 16, batch.iovecAddress(from));
    this.#structs.message.u32[(MSGHDR + 24) >> 2] = batch.iovecCount(from, to);
  }

  #address(source: SocketAddress | undefined, destination: SocketAddress, ecn: number): void {
    if (destination !== this.#structs.destination) {
      writeSockaddr(this.#structs.message.bytes, NAME, destination);
      this.#structs.destination = destination;
    }
    if (source === this.#structs.source && ecn === this.#structs.ecn) return;
    this.#structs.source = source;
    this.#structs.ecn = ecn;
    let at = CONTROL;
    if (source !== undefined && source.family === this.#family) at = this.#putSource(at, source);
    if (ecn !== 0) {
      if (this.#family === 4) this.#putHeader(at, 4, IPPROTO_IP, IP_TOS);
      else this.#putHeader(at, 4, IPPROTO_IPV6, IPV6_TCLASS);
      this.#structs.message.u32[(at + 16) >> 2] = ecn;
      at += 24;
    }
    this.#structs.addressControlLength = at - CONTROL;
  }

  /** struct in_pktinfo or in6_pktinfo with the interface left to the routing table. */
  #putSource(at: number, source: SocketAddress): number {
    const bytes = source.ip.bytes;
    const words = this.#structs.message.u32;
    if (this.#family === 4) {
      this.#putHeader(at, 12, IPPROTO_IP, IP_PKTINFO);
      words[(at + 16) >> 2] = 0;
      for (let i = 0; i < 4; i++) this.#structs.message.bytes[at + 20 + i] = bytes[i]!;
      words[(at + 24) >> 2] = 0;
      return at + 32;
    }
    this.#putHeader(at, 20, IPPROTO_IPV6, IPV6_PKTINFO);
    for (let i = 0; i < 16; i++) this.#structs.message.bytes[at + 16 + i] = bytes[i]!;
    words[(at + 32) >> 2] = 0;
    return at + 40;
  }

  /** Appends the segment size after the address's control messages; 0 for none. Returns its length. */
  #putSegmentSize(segmentSize: number): number {
    if (segmentSize === 0) return 0;
    const at = CONTROL + this.#structs.addressControlLength;
    this.#putHeader(at, 2, SOL_UDP, UDP_SEGMENT);
    this.#structs.message.u32[(at + 16) >> 2] = segmentSize;
    return 24;
  }

  #putHeader(at: number, length: number, level: number, type: number): void {
    const words = this.#structs.message.u32;
    words[at >> 2] = 16 + length;
    words[(at >> 2) + 1] = 0;
    words[(at >> 2) + 2] = level;
    words[(at >> 2) + 3] = type;
  }
}
