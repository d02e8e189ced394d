/**
 * Segmentation: one read from TUN, which may hold up to 64 KiB of TCP or UDP behind one set of
 * headers, becomes packets of the interface's MTU.
 *
 *     | virtio header | IP | TCP or UDP | payload ............................ |
 *                       │                 ├ gso_size ┼ gso_size ┼ ... ┼ ≤ gso_size ┤
 *                       ▼
 *     | IP | TCP | gso_size |   lengths, id, sequence number, flags and checksums of its own
 *
 * As in Linux: the IPv4 id counts up by one, FIN and PSH go with the last segment, CWR with the
 * first. Where the kernel left a checksum to us it is completed, segment or not.
 *
 * Spec: `virtio_header.ts`; RFC 9293, RFC 768, RFC 3168 §6.1.2.
 * Owns: making segments. Does not own: the buffers, which are lent for one `begin` … `next` round.
 * Cost: every byte is copied and summed once, in one go where both buffers are packet memory; then
 * nothing is allocated, else a view per segment.
 * @module
 */

import { readU16, readU32 } from "../bytes/fields.ts";
import { finishChecksum, sumBytes, sumPseudoHeader, sumView } from "./checksum.ts";
import { packetLength, PROTOCOL, TCP_FLAG } from "./packet.ts";
import { copySumAt, placeInPacketMemory } from "./packet_memory.ts";
import {
  VIRTIO_HEADER_LENGTH,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  virtioChecksumOffset,
  virtioChecksumStart,
  virtioGsoSize,
} from "./virtio_header.ts";

const TCP_CHECKSUM = 16;
const UDP_CHECKSUM = 6;

/**
 * Cuts one super-packet at a time:
 *
 *     if (segmenter.begin(buf, 0, bytesRead) === 0) dropped++;
 *     for (let n; (n = segmenter.next(dst, at)) > 0;) send(dst, at, at + n);
 */
export class Segmenter {
  #buf: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(this.#buf.buffer);
  #dst: Uint8Array = this.#buf;
  #dstView: DataView = this.#view;
  // Where both begin in the packet memory; below zero unless both lie there.
  #place = -1;
  #dstPlace = -1;

  #start = 0; // of the packet, behind the virtio header
  #end = 0;
  #isIpv4 = true;
  #protocol = 0; // zero: a single packet
  #transport = 0; // length of the IP header, extension headers included
  #headers = 0; // length of all headers
  #gsoSize = 0;
  #count = 0;
  #segmentLength = 0;
  #checksumStart = 0; // single packets: where to complete a checksum, zero for nowhere
  #checksumOffset = 0;

  #index = 0;
  #position = 0; // of the next payload
  // Parts of the checksums that all segments share.
  #ipSum = 0;
  #transportSum = 0;

  /** Number of packets in the read that was begun last. */
  get count(): number {
    return this.#count;
  }

  /** Length of each of its packets but the last, which may be shorter; never longer. */
  get segmentLength(): number {
    return this.#segmentLength;
  }

  /**
   * Takes `buf[start, end)`, what one read returned: virtio header and packet. Forgets the read
   * before it.
   *
   * @param buf borrowed, unchanged, until {@link next} returns zero
   * @returns how many packets will come; zero where the bytes make no sense
   */
  begin(buf: Uint8Array, start: number, end: number): number {
    this.#count = 0;
    this.#index = 0;
    this.#segmentLength = 0;
    if (end - start < VIRTIO_HEADER_LENGTH) return 0;
    if (buf !== this.#buf) {
      this.#buf = buf;
      this.#view = new DataView(buf.buffer, buf.byteOffset, buf.byteLength);
      this.#findPlaces();
    }
    const packet = start + VIRTIO_HEADER_LENGTH;
    const length = packetLength(buf, packet, end);
    if (length === 0) return 0;
    this.#start = packet;
    this.#end = packet + length;
    this.#isIpv4 = buf[packet]! >> 4 === 4;
    const needsChecksum = (buf[start]! & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0;
    const gsoType = buf[start + 1]! & ~VIRTIO_NET_HDR_GSO_ECN;
    const isAccepted = gsoType === VIRTIO_NET_HDR_GSO_NONE
      ? this.#beginSingle(start, needsChecksum)
      : needsChecksum && this.#beginSuper(start, gsoType);
    return isAccepted ? this.#count : 0;
  }

  /**
   * Writes the next packet to `dst[dstStart]`, which needs room for {@link segmentLength} bytes and
   * must not overlap the buffer that was read into.
   *
   * @returns its length, zero when there is none left
   */
  next(dst: Uint8Array, dstStart: number): number {
    if (this.#index >= this.#count) return 0;
    if (dst !== this.#dst) {
      this.#dst = dst;
      this.#dstView = new DataView(dst.buffer, dst.byteOffset, dst.byteLength);
      this.#findPlaces();
    }
    return this.#protocol === 0
      ? this.#nextSingle(dst, dstStart)
      : this.#nextSegment(dst, dstStart);
  }

  #beginSingle(header: number, needsChecksum: boolean): boolean {
    const length = this.#end - this.#start;
    this.#checksumStart = 0;
    if (needsChecksum) {
      this.#checksumStart = virtioChecksumStart(this.#buf, header);
      this.#checksumOffset = virtioChecksumOffset(this.#buf, header);
      if (this.#checksumStart < 20) return false;
      if (this.#checksumStart + this.#checksumOffset + 2 > length) return false;
    }
    this.#protocol = 0;
    this.#count = 1;
    this.#segmentLength = length;
    return true;
  }

  #nextSingle(dst: Uint8Array, dstStart: number): number {
    const length = this.#end - this.#start;
    this.#index++;
    if (this.#checksumStart === 0) {
      this.#copy(this.#start, this.#end, dst, dstStart);
      return length;
    }
    const summed = this.#start + this.#checksumStart;
    this.#copy(this.#start, summed, dst, dstStart);
    // The field holds the pseudo header's sum, so the sum over everything includes it.
    let checksum = finishChecksum(
      this.#copySum(summed, this.#end, dst, dstStart + this.#checksumStart),
    );
    if (checksum === 0 && this.#checksumOffset === UDP_CHECKSUM) checksum = 0xffff;
    const at = dstStart + this.#checksumStart + this.#checksumOffset;
    dst[at] = checksum >>> 8;
    dst[at + 1] = checksum;
    return length;
  }

  #beginSuper(header: number, gsoType: number): boolean {
    const protocol = gsoType === VIRTIO_NET_HDR_GSO_UDP_L4
      ? PROTOCOL.udp
      : gsoType === (this.#isIpv4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6)
      ? PROTOCOL.tcp
      : 0;
    const buf = this.#buf;
    const length = this.#end - this.#start;
    const transport = virtioChecksumStart(buf, header);
    const gsoSize = virtioGsoSize(buf, header);
    if (protocol === 0 || gsoSize === 0) return false;
    if (this.#isIpv4 && transport !== (buf[this.#start]! & 0x0f) * 4) return false;
    if (!this.#isIpv4 && (transport < 40 || transport % 4 !== 0)) return false;
    const at = this.#start + transport;
    let headers = transport + 8;
    if (protocol === PROTOCOL.tcp) {
      if (transport + 20 > length) return false;
      const tcpHeader = (buf[at + 12]! >> 4) * 4;
      if (tcpHeader < 20) return false;
      headers = transport + tcpHeader;
    }
    if (headers >= length) return false;
    this.#protocol = protocol;
    this.#transport = transport;
    this.#headers = headers;
    this.#gsoSize = gsoSize;
    this.#position = this.#start + headers;
    this.#count = Math.ceil((length - headers) / gsoSize);
    this.#segmentLength = Math.min(length, headers + gsoSize);
    this.#sumShared(at);
    return true;
  }

  /** Sums what every segment's checksums have in common: all but lengths, ids and the like. */
  #sumShared(at: number): void {
    const buf = this.#buf;
    const start = this.#start;
    if (this.#isIpv4) {
      this.#ipSum = sumBytes(buf, start, start + this.#transport) -
        readU16(buf, start + 2) - readU16(buf, start + 4) - readU16(buf, start + 10);
    }
    let sum = sumPseudoHeader(buf, start, this.#protocol, 0);
    if (this.#protocol === PROTOCOL.tcp) {
      sum += sumBytes(buf, at, start + this.#headers) - readU16(buf, at + TCP_CHECKSUM) -
        sumBytes(buf, at + 4, at + 8) - readU16(buf, at + 12); // sequence number; offset and flags
    } else {
      sum += sumBytes(buf, at, at + 4);
    }
    this.#transportSum = sum;
  }

  #nextSegment(dst: Uint8Array, dstStart: number): number {
    const headers = this.#headers;
    const from = this.#position;
    const to = Math.min(from + this.#gsoSize, this.#end);
    const index = this.#index++;
    this.#position = to;
    this.#copyHeaders(dstStart);
    const length = headers + to - from;
    this.#patchIp(dstStart, length, index);
    const sum = this.#transportSum + length - this.#transport +
      this.#copySum(from, to, dst, dstStart + headers);
    const at = dstStart + this.#transport;
    if (this.#protocol === PROTOCOL.tcp) this.#patchTcp(at, sum, index);
    else this.#patchUdp(at, sum, length - this.#transport);
    return length;
  }

  #findPlaces(): void {
    this.#place = placeInPacketMemory(this.#buf);
    this.#dstPlace = placeInPacketMemory(this.#dst);
    if (this.#place < 0 || this.#dstPlace < 0) this.#place = this.#dstPlace = -1;
  }

  /** Copies bytes of the read to `dst[dstStart]`; their sum. */
  #copySum(from: number, to: number, dst: Uint8Array, dstStart: number): number {
    const place = this.#place;
    if (place >= 0) return copySumAt(place + from, place + to, this.#dstPlace + dstStart);
    dst.set(this.#buf.subarray(from, to), dstStart);
    return sumView(this.#view, from, to);
  }

  #copy(from: number, to: number, dst: Uint8Array, dstStart: number): void {
    const place = this.#place;
    if (place >= 0) copySumAt(place + from, place + to, this.#dstPlace + dstStart);
    else dst.set(this.#buf.subarray(from, to), dstStart);
  }

  /** All our headers' lengths are multiples of four. */
  #copyHeaders(dstStart: number): void {
    const from = this.#view;
    const to = this.#dstView;
    for (let i = 0; i < this.#headers; i += 4) {
      to.setInt32(dstStart + i, from.getInt32(this.#start + i, true), true);
    }
  }

  #patchIp(dstStart: number, length: number, index: number): void {
    const view = this.#dstView;
    if (!this.#isIpv4) {
      view.setUint16(dstStart + 4, length - 40);
      return;
    }
    const id = (readU16(this.#buf, this.#start + 4) + index) & 0xffff;
    view.setUint16(dstStart + 2, length);
    view.setUint16(dstStart + 4, id);
    view.setUint16(dstStart + 10, finishChecksum(this.#ipSum + length + id));
  }

  #patchTcp(at: number, sum: number, index: number): void {
    const view = this.#dstView;
    const original = this.#start + this.#transport;
    const sequence = (readU32(this.#buf, original + 4) + index * this.#gsoSize) >>> 0;
    let offsetAndFlags = readU16(this.#buf, original + 12);
    if (index > 0) offsetAndFlags &= ~TCP_FLAG.cwr;
    if (index < this.#count - 1) offsetAndFlags &= ~(TCP_FLAG.fin | TCP_FLAG.psh);
    view.setUint32(at + 4, sequence);
    view.setUint16(at + 12, offsetAndFlags);
    sum += (sequence & 0xffff) + (sequence >>> 16) + offsetAndFlags;
    view.setUint16(at + TCP_CHECKSUM, finishChecksum(sum));
  }

  #patchUdp(at: number, sum: number, length: number): void {
    const view = this.#dstView;
    view.setUint16(at + 4, length);
    // Zero would mean "no checksum" (RFC 768).
    view.setUint16(at + UDP_CHECKSUM, finishChecksum(sum + length) || 0xffff);
  }
}
