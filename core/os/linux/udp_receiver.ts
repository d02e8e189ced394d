/**
 * The receiving half of a UDP socket: recvmmsg into slots, with GRO.
 *
 * One call fetches up to `slots` messages, and each message may be up to 64 datagrams of one sender
 * glued together; `segmentSize` says where to cut.
 *
 * Owns: the slots. A message's bytes are the caller's until the next `receive`.
 * Cost: no objects for senders that are known already (asserted in `udp_limits_test.ts`).
 * @module
 */

import type { Family, SocketAddress, SocketAddressCache } from "../../ip/address.ts";
import { Errno, OsError } from "./errno.ts";
import type { Fd } from "./fd.ts";
import { errno, libc } from "./libc.ts";
import { Memory } from "./memory.ts";
import { readSockaddr, SOCKADDR_SIZE } from "./socket_address.ts";
import {
  IP_PKTINFO,
  IP_TOS,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_PKTINFO,
  IPV6_TCLASS,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_TRUNC,
  SOL_UDP,
  UDP_GRO,
} from "./udp_constants.ts";

/** Bytes of a slot: the largest message that GRO makes fits. */
export const SLOT_SIZE = 65_536;

const MMSGHDR_SIZE = 64;
const MMSGHDR_WORDS = MMSGHDR_SIZE / 4;
const IOVEC_SIZE = 16;
// PKTINFO (40), TOS or TCLASS (24) and GRO (24) need 88 bytes.
const CONTROL_SIZE = 128;
// Words of struct mmsghdr; see udp_constants.ts.
const NAMELEN = 2;
const IOVLEN = 6;
const CONTROLLEN = 10;
const FLAGS = 12;
const MSG_LEN = 14;

/** What a receiver has seen; only ever grows. */
export interface ReceiveCounters {
  /** Calls that returned messages. */
  calls: number;
  /** Messages, each of one or more datagrams. */
  messages: number;
  /** Datagrams. */
  datagrams: number;
  /** Payload bytes. */
  bytes: number;
  /** Messages that lost bytes or control data for want of room. */
  truncated: number;
  /** Pending errors of the socket that a call reported instead of messages. */
  errors: number;
}

/**
 * Memory that messages are received into, with what is known of each. Sockets that are read one after
 * the other on one thread may share it: a message then stays only until any of them receives again.
 */
export class ReceiveSlots {
  /** What the slots lie in, {@link SLOT_SIZE} bytes each, one after the other. */
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** Where in it they begin. */
  readonly start: number;
  /** Number of slots. */
  readonly count: number;
  // The kernel writes through addresses of these during each call.
  /** One struct mmsghdr per slot. */
  readonly headers: Uint8Array<ArrayBuffer>;
  /** The same in words of four bytes. */
  readonly headerWords: Uint32Array<ArrayBuffer>;
  /** One struct sockaddr per slot. */
  readonly names: Uint8Array<ArrayBuffer>;
  /** Control messages of each slot. */
  readonly control: Uint8Array<ArrayBuffer>;
  /** The same in words of four bytes. */
  readonly controlWords: Uint32Array<ArrayBuffer>;
  // What the last call brought, by slot.
  /** Bytes. */
  readonly lengths: Int32Array;
  /** Bytes of each datagram but perhaps the last. */
  readonly segmentSizes: Int32Array;
  /** ECN fields. */
  readonly ecns: Int32Array;
  /** Our addresses; undefined: what the socket is bound to. */
  readonly locals: (SocketAddress | undefined)[];
  readonly #iovecs: Memory;

  /** Prepares slots.
   * @param count at least 1
   * @param data where they lie, to share memory between several; their own if left out
   * @param start where they begin in it */
  constructor(count: number, data: Memory = new Memory(count * SLOT_SIZE), start = 0) {
    this.count = count;
    this.start = start;
    const headers = new Memory(count * MMSGHDR_SIZE);
    const names = new Memory(count * SOCKADDR_SIZE);
    const control = new Memory(count * CONTROL_SIZE);
    this.#iovecs = new Memory(count * IOVEC_SIZE);
    this.buffer = data.bytes;
    this.headers = headers.bytes;
    this.headerWords = headers.u32;
    this.names = names.bytes;
    this.control = control.bytes;
    this.controlWords = control.u32;
    this.lengths = new Int32Array(count);
    this.segmentSizes = new Int32Array(count);
    this.ecns = new Int32Array(count);
    this.locals = new Array(count).fill(undefined);
    for (let i = 0; i < count; i++) {
      const iovec = i * IOVEC_SIZE;
      this.#iovecs.putAddress(iovec, data.address + start + i * SLOT_SIZE);
      this.#iovecs.u32[(iovec >> 2) + 2] = SLOT_SIZE;
      const header = i * MMSGHDR_SIZE;
      headers.putAddress(header, names.address + i * SOCKADDR_SIZE);
      headers.putAddress(header + 16, this.#iovecs.address + iovec);
      headers.u32[i * MMSGHDR_WORDS + IOVLEN] = 1;
      headers.putAddress(header + 32, control.address + i * CONTROL_SIZE);
      this.rearm(i);
    }
  }

  /** Sets the sizes of slot `i`, which the kernel overwrites with what it used. */
  rearm(i: number): void {
    const header = i * MMSGHDR_WORDS;
    this.headerWords[header + NAMELEN] = SOCKADDR_SIZE;
    this.headerWords[header + CONTROLLEN] = CONTROL_SIZE;
  }
}

/** Fetches messages of one socket. */
export class DatagramReceiver {
  /** All slots; message `i` lies at {@link start}. */
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** Running totals. */
  readonly counters: ReceiveCounters = {
    calls: 0,
    messages: 0,
    datagrams: 0,
    bytes: 0,
    truncated: 0,
    errors: 0,
  };
  readonly #fd: Fd;
  readonly #family: Family;
  #slots: ReceiveSlots;
  readonly #cache: SocketAddressCache;
  readonly #bound: SocketAddress;

  /** Receives into `slots`.
   * @param bound what {@link local} answers if the kernel does not tell */
  constructor(
    fd: Fd,
    family: Family,
    bound: SocketAddress,
    cache: SocketAddressCache,
    slots: ReceiveSlots,
  ) {
    this.#fd = fd;
    this.#family = family;
    this.#bound = bound;
    this.#cache = cache;
    this.#slots = slots;
    this.buffer = slots.buffer;
  }

  /** Receives into other slots, of the same memory, from now on; what lies in them is of them. */
  use(slots: ReceiveSlots): void {
    this.#slots = slots;
  }

  /** Fetches what waits; never blocks. @returns the number of messages, 0 when there is none */
  receive(): number {
    for (let attempt = 0; attempt < 8; attempt++) {
      const { headers, count } = this.#slots;
      const n = libc.recvmmsg(this.#fd, headers, count, MSG_DONTWAIT, null);
      if (n >= 0) {
        this.counters.calls++;
        this.counters.messages += n;
        for (let i = 0; i < n; i++) this.#take(i);
        return n;
      }
      const error = errno();
      if (error === Errno.EAGAIN) return 0;
      if (error === Errno.EBADF || error === Errno.EFAULT) {
        throw new OsError("recvmmsg", this.#bound.key, error);
      }
      // An error that an earlier send left on the socket: reading it has cleared it.
      if (error !== Errno.EINTR) this.counters.errors++;
    }
    return 0;
  }

  /** Where message `i` starts in {@link buffer}. */
  start(i: number): number {
    return this.#slots.start + i * SLOT_SIZE;
  }

  /** Bytes of message `i`, all its datagrams together. */
  length(i: number): number {
    return this.#slots.lengths[i]!;
  }

  /** Bytes of each datagram in message `i`; the last may be shorter. At least 1. */
  segmentSize(i: number): number {
    return this.#slots.segmentSizes[i]!;
  }

  /**
   * Who sent message `i`. Looked up when asked, so that what is dropped without asking does not cost
   * an object for each stranger.
   */
  from(i: number): SocketAddress {
    return readSockaddr(this.#cache, this.#family, this.#slots.names, i * SOCKADDR_SIZE);
  }

  /** Our address that message `i` was sent to. */
  local(i: number): SocketAddress {
    return this.#slots.locals[i] ?? this.#bound;
  }

  /** ECN field of message `i`, 0 to 3 (RFC 3168 §5). */
  ecn(i: number): number {
    return this.#slots.ecns[i]!;
  }

  #take(i: number): void {
    const slots = this.#slots;
    const words = slots.headerWords;
    const header = i * MMSGHDR_WORDS;
    const length = words[header + MSG_LEN]!;
    slots.lengths[i] = length;
    slots.segmentSizes[i] = Math.max(1, length);
    slots.ecns[i] = 0;
    slots.locals[i] = undefined;
    this.#readControl(i, words[header + CONTROLLEN]!);
    if ((words[header + FLAGS]! & (MSG_TRUNC | MSG_CTRUNC)) !== 0) this.counters.truncated++;
    this.counters.bytes += length;
    this.counters.datagrams += Math.max(1, Math.ceil(length / slots.segmentSizes[i]!));
    slots.rearm(i);
  }

  #readControl(i: number, length: number): void {
    const base = i * CONTROL_SIZE;
    const slots = this.#slots;
    const words = slots.controlWords;
    const bytes = slots.control;
    for (let at = base; at + 16 <= base + length;) {
      const size = words[at >> 2]!;
      if (size < 16) return;
      const level = words[(at >> 2) + 2]!;
      const type = words[(at >> 2) + 3]!;
      if (level === SOL_UDP && type === UDP_GRO) {
        const segment = words[(at >> 2) + 4]!;
        if (segment > 0) slots.segmentSizes[i] = segment;
      } else if (level === IPPROTO_IP) {
        if (type === IP_PKTINFO) {
          slots.locals[i] = this.#cache.get(4, bytes, at + 20, this.#bound.port);
        } else if (type === IP_TOS) slots.ecns[i] = bytes[at + 16]! & 3;
      } else if (level === IPPROTO_IPV6) {
        if (type === IPV6_PKTINFO) {
          slots.locals[i] = this.#cache.get(6, bytes, at + 16, this.#bound.port);
        } else if (type === IPV6_TCLASS) slots.ecns[i] = bytes[at + 16]! & 3;
      }
      at += (size + 7) & ~7;
    }
  }
}
