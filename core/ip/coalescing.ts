/**
 * Coalescing: packets that follow each other in a TCP or UDP flow become one super-packet, so that
 * one write into TUN carries up to 64 KiB and the kernel's stack walks its path once.
 *
 * The rules are those of Linux' generic receive offload, so that cutting a super-packet again
 * yields the packets that went in:
 * - same addresses, ports, TOS or traffic class (ECN with it), TTL, flow label, TCP options, window
 *   and acknowledgement; no IPv4 options, extension headers or fragments;
 * - TCP data exactly in sequence, no SYN, FIN, RST, URG or CWR; PSH and a short segment may only
 *   come last; empty segments are never merged;
 * - UDP datagrams of one size, of which the last may be shorter, all with a checksum, 64 at most;
 * - IPv4 ids count up by one, unless fragmentation is forbidden: then the id means nothing
 *   (RFC 6864 §4.1) and the kernel's segments number themselves;
 * - every header and transport checksum is right. The kernel is told to compute the super-packet's
 *   checksum anew, so a wrong one must not come in: authentication between tunnel ends says nothing
 *   about what the sender behind one of them wrote.
 *
 * Packets of one flow leave in the order in which they came. Between flows order may change, except
 * around fragments and other packets of which no flow can be told.
 *
 * Cost: every byte is copied once and summed if it has a neighbour to merge with, in one go where
 * all buffers are packet memory; then nothing is allocated, else a view per packet.
 * @module
 */

import { readU16, readU32, writeU16 } from "../bytes/fields.ts";
import { finishChecksum, foldSum, sumBytes, sumPseudoHeader, sumView } from "./checksum.ts";
import { packetLength, PROTOCOL, TCP_FLAG } from "./packet.ts";
import { copySumAt, placeInPacketMemory, sumAt } from "./packet_memory.ts";
import {
  VIRTIO_HEADER_LENGTH,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  writeEmptyVirtioHeader,
  writeVirtioHeader,
} from "./virtio_header.ts";

/** Takes what goes into TUN. */
export interface PacketSink {
  /**
   * Takes one write: virtio header and packet in `buf[start, start + length)`, borrowed for the
   * call.
   */
  write(buf: Uint8Array, start: number, length: number): void;
}

/** What the device at the other end can take. */
export interface CoalescerOptions {
  /** Whether TUN takes UDP super-packets (`TUN_F_USO4`, `TUN_F_USO6`; Linux 6.2); default true. */
  readonly udp?: boolean;
  /** Where the buffers come from, `packetMemory` for one; ordinary memory by default. */
  readonly allocate?: (length: number) => Uint8Array<ArrayBuffer>;
}

const MAX_PACKET = 65_535;
const MAX_DATAGRAMS = 64; // UDP_GRO_CNT_MAX
const MAX_SLOTS = 32;
const MAX_ITEMS = 1024;
const SINGLES_LENGTH = 256 * 1024;
const SINGLE = -1; // in place of a slot

/** Flags that a segment may carry and still be merged. */
const MERGEABLE_FLAGS = TCP_FLAG.ack | TCP_FLAG.psh | TCP_FLAG.ece;

/** How a packet may be treated. */
const Kind = {
  /** Belongs to no TCP or UDP flow: passes alone, disturbing nobody. */
  Aside: 0,
  /** Could belong to any flow: nothing may overtake it. */
  Barrier: 1,
  /** Of a TCP or UDP flow, whose later packets must not overtake it, but not to be merged. */
  Alone: 2,
  /** TCP data or a UDP datagram that may begin or continue a super-packet. */
  Mergeable: 3,
} as const;
type Kind = typeof Kind[keyof typeof Kind];

/** A super-packet under way. */
class Slot {
  readonly view: DataView;
  readonly place: number;
  isOpen = false;
  hash = 0;
  /** Where the next payload goes. */
  tail = 0;
  count = 0;
  payloadLength = 0; // of the first packet: the size of all but the last
  nextSequence = 0;
  /** Sum of addresses and protocol, the part of the pseudo header that all packets share. */
  pseudoSum = 0;
  /** Whether the first packet's transport checksum was looked at and found right. */
  isVerified = false;

  constructor(readonly buf: Uint8Array) {
    this.view = new DataView(buf.buffer, buf.byteOffset, buf.byteLength);
    this.place = placeInPacketMemory(buf);
  }
}

/**
 * Gathers the packets of one burst and writes them with as few writes as their flows allow:
 *
 *     if (!coalescer.push(buf, start, end)) {
 *       coalescer.flush(tun);
 *       coalescer.push(buf, start, end);
 *     }
 *     …
 *     coalescer.flush(tun); // the burst has ended
 */
export class Coalescer {
  readonly #mergesUdp: boolean;
  readonly #allocate: (length: number) => Uint8Array;
  readonly #slots: Slot[] = [];
  #usedSlots = 0;
  #lastSlot = 0;
  readonly #singles: Uint8Array;
  readonly #singlesPlace: number;
  #singlesEnd = 0;
  // What to write, in order of arrival: a slot's index, or SINGLE with a place in #singles.
  readonly #itemSlot = new Int32Array(MAX_ITEMS);
  readonly #itemStart = new Int32Array(MAX_ITEMS);
  readonly #itemLength = new Int32Array(MAX_ITEMS);
  #items = 0;

  #buf: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(this.#buf.buffer);
  #place = -1; // of the buffer in the packet memory
  // The packet at hand, filled by #classify.
  #start = 0;
  #end = 0;
  #isIpv4 = true;
  #protocol = 0;
  #transport = 0; // offset of the TCP or UDP header
  #payload = 0; // offset of the data
  #hash = 0;

  /** A coalescer with nothing in it; its buffers grow to about 2 MiB as flows ask for them. */
  constructor(options: CoalescerOptions = {}) {
    this.#mergesUdp = options.udp ?? true;
    this.#allocate = options.allocate ?? ((length) => new Uint8Array(length));
    this.#singles = this.#allocate(SINGLES_LENGTH);
    this.#singlesPlace = placeInPacketMemory(this.#singles);
  }

  /** Whether a flush would write nothing. */
  get isEmpty(): boolean {
    return this.#items === 0;
  }

  /**
   * Takes the packet at `buf[start, end)`; bytes past its own length are padding. Bytes that are no
   * IP packet are taken and dropped.
   *
   * @param buf borrowed for this call; the packet is copied
   * @returns false when there is no room: nothing was taken, so flush and push again
   */
  push(buf: Uint8Array, start: number, end: number): boolean {
    const length = packetLength(buf, start, end);
    if (length === 0) return true;
    if (this.#items === MAX_ITEMS) return false;
    if (this.#singlesEnd + VIRTIO_HEADER_LENGTH + length > SINGLES_LENGTH) return false;
    if (buf !== this.#buf) {
      this.#buf = buf;
      this.#view = new DataView(buf.buffer, buf.byteOffset, buf.byteLength);
      this.#place = placeInPacketMemory(buf);
    }
    const kind = this.#classify(start, start + length);
    if (kind === Kind.Aside) return this.#addSingle();
    if (kind === Kind.Barrier) {
      for (let i = 0; i < this.#usedSlots; i++) this.#slots[i]!.isOpen = false;
      return this.#addSingle();
    }
    const slot = this.#openSlot();
    if (kind === Kind.Alone) {
      if (slot !== undefined) slot.isOpen = false;
      return this.#addSingle();
    }
    if (slot === undefined) return this.#startSlot();
    if (this.#continues(slot) && this.#isVerified(slot)) {
      if (this.#append(slot)) return true;
      slot.isOpen = false;
      return this.#addSingle();
    }
    slot.isOpen = false;
    return this.#startSlot();
  }

  /** Writes everything that was pushed and starts anew. */
  flush(sink: PacketSink): void {
    for (let i = 0; i < this.#items; i++) {
      const index = this.#itemSlot[i]!;
      if (index === SINGLE) {
        sink.write(this.#singles, this.#itemStart[i]!, this.#itemLength[i]!);
      } else {
        const slot = this.#slots[index]!;
        finish(slot);
        sink.write(slot.buf, 0, slot.tail);
      }
    }
    this.#items = 0;
    this.#usedSlots = 0;
    this.#singlesEnd = 0;
  }

  /** Tells what may be done with the packet in `#buf[start, end)` and finds its parts. */
  #classify(start: number, end: number): Kind {
    const buf = this.#buf;
    this.#start = start;
    this.#end = end;
    this.#isIpv4 = buf[start]! >> 4 === 4;
    let transport: number;
    if (this.#isIpv4) {
      this.#protocol = buf[start + 9]!;
      if (buf[start] !== 0x45 || (readU16(buf, start + 6) & 0xbfff) !== 0) return Kind.Barrier;
      transport = start + 20;
    } else {
      this.#protocol = buf[start + 6]!;
      transport = start + 40;
    }
    this.#transport = transport;
    if (this.#protocol === PROTOCOL.tcp) return this.#classifyTcp(transport);
    if (this.#protocol === PROTOCOL.udp) return this.#classifyUdp(transport);
    if (this.#protocol === (this.#isIpv4 ? PROTOCOL.icmp : PROTOCOL.icmpv6)) return Kind.Aside;
    return Kind.Barrier;
  }

  #classifyTcp(transport: number): Kind {
    const buf = this.#buf;
    if (this.#end - transport < 20) return Kind.Barrier;
    this.#payload = transport + (buf[transport + 12]! >> 4) * 4;
    this.#hash = this.#hashFlow();
    if (this.#payload < transport + 20 || this.#payload >= this.#end) return Kind.Alone;
    const flags = buf[transport + 13]!;
    if ((flags & ~MERGEABLE_FLAGS) !== 0 || (flags & TCP_FLAG.ack) === 0) return Kind.Alone;
    return this.#isHeaderRight() ? Kind.Mergeable : Kind.Alone;
  }

  #classifyUdp(transport: number): Kind {
    const buf = this.#buf;
    if (!this.#mergesUdp) return Kind.Aside; // never in a slot, so nothing can overtake it
    if (this.#end - transport < 8) return Kind.Barrier;
    this.#payload = transport + 8;
    this.#hash = this.#hashFlow();
    if (readU16(buf, transport + 4) !== this.#end - transport) return Kind.Alone;
    if (this.#payload >= this.#end || readU16(buf, transport + 6) === 0) return Kind.Alone;
    return this.#isHeaderRight() ? Kind.Mergeable : Kind.Alone;
  }

  #isHeaderRight(): boolean {
    if (!this.#isIpv4) return true;
    return foldSum(sumBytes(this.#buf, this.#start, this.#transport)) === 0xffff;
  }

  /** Mixes addresses, ports and protocol. */
  #hashFlow(): number {
    const view = this.#view;
    const end = this.#transport + 4; // ports follow the addresses
    let hash: number = this.#protocol;
    for (let i = this.#start + (this.#isIpv4 ? 12 : 8); i < end; i += 4) {
      hash = Math.imul(hash ^ view.getInt32(i, true), 0x9e3779b1);
    }
    return hash ^ hash >>> 15;
  }

  /** The super-packet that the packet's flow has under way. */
  #openSlot(): Slot | undefined {
    const used = this.#usedSlots;
    if (this.#lastSlot < used && this.#isFlowOf(this.#slots[this.#lastSlot]!)) {
      return this.#slots[this.#lastSlot];
    }
    for (let i = 0; i < used; i++) {
      if (!this.#isFlowOf(this.#slots[i]!)) continue;
      this.#lastSlot = i;
      return this.#slots[i];
    }
    return undefined;
  }

  #isFlowOf(slot: Slot): boolean {
    if (!slot.isOpen || slot.hash !== this.#hash) return false;
    if (slot.buf[VIRTIO_HEADER_LENGTH]! >> 4 !== (this.#isIpv4 ? 4 : 6)) return false;
    const protocolAt = this.#isIpv4 ? 9 : 6;
    if (slot.buf[VIRTIO_HEADER_LENGTH + protocolAt] !== this.#protocol) return false;
    return this.#isSame(slot, this.#isIpv4 ? 12 : 8, this.#transport - this.#start + 4);
  }

  /** Whether bytes `[from, to)`, a multiple of four, agree in packet and super-packet. */
  #isSame(slot: Slot, from: number, to: number): boolean {
    const theirs = slot.view;
    const ours = this.#view;
    for (let i = from; i < to; i += 4) {
      const our = ours.getInt32(this.#start + i, true);
      if (our !== theirs.getInt32(VIRTIO_HEADER_LENGTH + i, true)) return false;
    }
    return true;
  }

  /** Whether the packet is the next one of the super-packet, checksums aside. */
  #continues(slot: Slot): boolean {
    const length = this.#end - this.#payload;
    if (length > slot.payloadLength) return false;
    if (slot.tail + length > VIRTIO_HEADER_LENGTH + MAX_PACKET) return false;
    if (!(this.#isIpv4 ? this.#continuesIpv4(slot) : this.#continuesIpv6(slot))) return false;
    if (this.#protocol === PROTOCOL.udp) return slot.count < MAX_DATAGRAMS;
    return this.#continuesTcp(slot);
  }

  #continuesIpv4(slot: Slot): boolean {
    const ours = this.#buf;
    const theirs = slot.buf;
    const start = this.#start;
    if (ours[start + 1] !== theirs[VIRTIO_HEADER_LENGTH + 1]) return false; // TOS
    if (ours[start + 6] !== theirs[VIRTIO_HEADER_LENGTH + 6]) return false; // flags
    if (ours[start + 8] !== theirs[VIRTIO_HEADER_LENGTH + 8]) return false; // TTL
    if ((ours[start + 6]! & 0x40) !== 0) return true; // may not be fragmented: the id is nothing
    const expected = readU16(theirs, VIRTIO_HEADER_LENGTH + 4) + slot.count;
    return readU16(ours, start + 4) === (expected & 0xffff);
  }

  #continuesIpv6(slot: Slot): boolean {
    return this.#isSame(slot, 0, 4) && // version, traffic class, flow label
      this.#buf[this.#start + 7] === slot.buf[VIRTIO_HEADER_LENGTH + 7]; // hop limit
  }

  #continuesTcp(slot: Slot): boolean {
    const ours = this.#buf;
    const at = this.#transport;
    const offset = at - this.#start; // the same in both
    const theirs = VIRTIO_HEADER_LENGTH + offset;
    if (readU32(ours, at + 4) !== slot.nextSequence) return false;
    if (!this.#isSame(slot, offset + 8, offset + 12)) return false; // acknowledgement
    // Header length, flags but PSH, window; CWR, FIN and the like never come here.
    const word = this.#view.getInt32(at + 12) ^ slot.view.getInt32(theirs + 12);
    if ((word & ~(TCP_FLAG.psh << 16)) !== 0) return false;
    if (readU16(ours, at + 18) !== readU16(slot.buf, theirs + 18)) return false; // urgent pointer
    return this.#isSame(slot, offset + 20, this.#payload - this.#start); // options
  }

  /** Whether the first packet of a super-packet may be merged with; checked when that is needed. */
  #isVerified(slot: Slot): boolean {
    if (slot.isVerified) return true;
    const start = VIRTIO_HEADER_LENGTH;
    const transport = start + this.#transport - this.#start;
    const sum = slot.place < 0
      ? sumView(slot.view, transport, slot.tail)
      : sumAt(slot.place + transport, slot.place + slot.tail);
    slot.isVerified = foldSum(slot.pseudoSum + slot.tail - transport + sum) === 0xffff;
    return slot.isVerified;
  }

  /** Appends the packet's payload, or answers false because its checksum is wrong. */
  #append(slot: Slot): boolean {
    const length = this.#end - this.#payload;
    // The sum comes with the copy. What is copied in vain lies behind the super-packet's end.
    const sum = slot.pseudoSum + this.#end - this.#transport +
      sumBytes(this.#buf, this.#transport, this.#payload) +
      this.#copySum(this.#payload, this.#end, slot.buf, slot.place, slot.tail);
    if (foldSum(sum) !== 0xffff) return false;
    slot.tail += length;
    slot.count++;
    if (length < slot.payloadLength) slot.isOpen = false;
    if (this.#protocol !== PROTOCOL.tcp) return true;
    slot.nextSequence = (slot.nextSequence + length) >>> 0;
    if ((this.#buf[this.#transport + 13]! & TCP_FLAG.psh) === 0) return true;
    const flags = VIRTIO_HEADER_LENGTH + this.#transport - this.#start + 13;
    slot.buf[flags] = slot.buf[flags]! | TCP_FLAG.psh;
    slot.isOpen = false;
    return true;
  }

  /** Copies bytes of the packet at hand; their sum. */
  #copySum(from: number, to: number, dst: Uint8Array, dstPlace: number, dstStart: number): number {
    const place = this.#place;
    if (place >= 0 && dstPlace >= 0) {
      return copySumAt(place + from, place + to, dstPlace + dstStart);
    }
    dst.set(this.#buf.subarray(from, to), dstStart);
    return sumView(this.#view, from, to);
  }

  /** Copies the packet at hand. */
  #copyAll(dst: Uint8Array, dstPlace: number, dstStart: number): void {
    const place = this.#place;
    if (place >= 0 && dstPlace >= 0) {
      copySumAt(place + this.#start, place + this.#end, dstPlace + dstStart);
    } else dst.set(this.#buf.subarray(this.#start, this.#end), dstStart);
  }

  /** Makes the packet the first of a super-packet. */
  #startSlot(): boolean {
    const isPush = this.#protocol === PROTOCOL.tcp &&
      (this.#buf[this.#transport + 13]! & TCP_FLAG.psh) !== 0;
    if (isPush) return this.#addSingle(); // nothing may follow it
    if (this.#usedSlots === MAX_SLOTS) return false;
    const index = this.#usedSlots++;
    const slot = this.#slots[index] ??= new Slot(
      this.#allocate(VIRTIO_HEADER_LENGTH + MAX_PACKET + 1),
    );
    const length = this.#end - this.#payload;
    this.#copyAll(slot.buf, slot.place, VIRTIO_HEADER_LENGTH);
    slot.tail = VIRTIO_HEADER_LENGTH + this.#end - this.#start;
    slot.count = 1;
    slot.payloadLength = length;
    slot.hash = this.#hash;
    slot.pseudoSum = sumPseudoHeader(this.#buf, this.#start, this.#protocol, 0);
    slot.isOpen = true;
    slot.isVerified = false;
    if (this.#protocol === PROTOCOL.tcp) {
      slot.nextSequence = (readU32(this.#buf, this.#transport + 4) + length) >>> 0;
    }
    this.#lastSlot = index;
    this.#itemSlot[this.#items++] = index;
    return true;
  }

  #addSingle(): boolean {
    const start = this.#singlesEnd;
    const packet = start + VIRTIO_HEADER_LENGTH;
    writeEmptyVirtioHeader(this.#singles, start);
    this.#copyAll(this.#singles, this.#singlesPlace, packet);
    this.#singlesEnd = packet + this.#end - this.#start;
    this.#itemSlot[this.#items] = SINGLE;
    this.#itemStart[this.#items] = start;
    this.#itemLength[this.#items] = this.#singlesEnd - start;
    this.#items++;
    return true;
  }
}

/** Writes the headers of a super-packet, now that its length is known. */
function finish(slot: Slot): void {
  const buf = slot.buf;
  const start = VIRTIO_HEADER_LENGTH;
  if (slot.count === 1) {
    writeEmptyVirtioHeader(buf, 0);
    return;
  }
  const length = slot.tail - start;
  const isIpv4 = buf[start]! >> 4 === 4;
  if (isIpv4) {
    writeU16(buf, start + 2, length);
    writeU16(buf, start + 10, 0);
    writeU16(buf, start + 10, finishChecksum(sumBytes(buf, start, start + 20)));
  } else {
    writeU16(buf, start + 4, length - 40);
  }
  const protocol = buf[start + (isIpv4 ? 9 : 6)]!;
  const ipHeader = isIpv4 ? 20 : 40;
  const transport = start + ipHeader;
  const isTcp = protocol === PROTOCOL.tcp;
  const checksum = isTcp ? 16 : 6;
  if (!isTcp) writeU16(buf, transport + 4, length - ipHeader);
  writeU16(buf, transport + checksum, foldSum(slot.pseudoSum + length - ipHeader));
  const type = !isTcp
    ? VIRTIO_NET_HDR_GSO_UDP_L4
    : isIpv4
    ? VIRTIO_NET_HDR_GSO_TCPV4
    : VIRTIO_NET_HDR_GSO_TCPV6;
  const headers = ipHeader + (isTcp ? (buf[transport + 12]! >> 4) * 4 : 8);
  writeVirtioHeader(buf, 0, type, headers, slot.payloadLength, ipHeader, checksum);
}
