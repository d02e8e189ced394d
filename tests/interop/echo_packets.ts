/**
 * Inner packets of a test: UDP over IPv4 and IPv6 with numbered contents, made and recognised
 * without a network stack.
 * @module
 */

import { readU16, readU32, writeU16, writeU32 } from "@firezone/core/bytes";
import type { IpAddress } from "@firezone/core/ip";

const UDP = 17;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const UDP_HEADER = 8;

/** The ends of the conversation: ours has no network stack, theirs echoes. */
export interface EchoEnds {
  /** Our IPv4 address. */
  readonly ours4: IpAddress;
  /** The peer's IPv4 address. */
  readonly theirs4: IpAddress;
  /** Our IPv6 address. */
  readonly ours6: IpAddress;
  /** The peer's IPv6 address. */
  readonly theirs6: IpAddress;
  /** Our UDP port. */
  readonly ourPort: number;
  /** The UDP port of the echo. */
  readonly theirPort: number;
}

/** Makes packets of one size, all different, and knows them again. */
export class EchoPackets {
  readonly #ends: EchoEnds;
  readonly #size: number;
  /** Contents are cut out of here, from a place that depends on the number. */
  readonly #pool: Uint8Array;

  /** Packets of `size` bytes, IP header included; even numbers are IPv4, odd ones IPv6. */
  constructor(ends: EchoEnds, size: number) {
    this.#ends = ends;
    this.#size = size;
    this.#pool = new Uint8Array(size + 1024);
    for (let i = 0, x = 1; i < this.#pool.length; i++) {
      x = Math.imul(x, 48271) % 0x7fffffff;
      this.#pool[i] = x >>> 8;
    }
  }

  /** Bytes of UDP payload in packet `number`. */
  payloadLength(number: number): number {
    return this.#size - UDP_HEADER - (number % 2 === 0 ? IPV4_HEADER : IPV6_HEADER);
  }

  /** Writes packet `number` at the start of `buf`; returns its length. */
  write(buf: Uint8Array, number: number): number {
    const udp = number % 2 === 0 ? this.#writeIpv4(buf) : this.#writeIpv6(buf);
    const length = this.payloadLength(number);
    writeU16(buf, udp, this.#ends.ourPort);
    writeU16(buf, udp + 2, this.#ends.theirPort);
    writeU16(buf, udp + 4, UDP_HEADER + length);
    writeU16(buf, udp + 6, 0);
    const at = udp + UDP_HEADER;
    const from = number % 1024;
    buf.set(this.#pool.subarray(from, from + length), at);
    writeU32(buf, at, number);
    if (number % 2 === 1) writeU16(buf, udp + 6, udp6Checksum(buf, UDP_HEADER + length));
    return this.#size;
  }

  /** The number of the echo of one of our packets; `undefined` for anything else, and for echoes
   * that are not byte by byte what was sent. */
  recognise(buf: Uint8Array, length: number): number | undefined {
    const isIpv6 = buf[0]! >> 4 === 6;
    const udp = isIpv6 ? IPV6_HEADER : IPV4_HEADER;
    const at = udp + UDP_HEADER;
    if (length < at + 4 || buf[isIpv6 ? 6 : 9] !== UDP) return undefined;
    if (readU16(buf, udp + 2) !== this.#ends.ourPort) return undefined;
    const number = readU32(buf, at);
    const payload = this.payloadLength(number);
    if ((number % 2 === 1) !== isIpv6 || readU16(buf, udp + 4) !== UDP_HEADER + payload) {
      return undefined;
    }
    const from = number % 1024;
    for (let i = 4; i < payload; i++) {
      if (buf[at + i] !== this.#pool[from + i]) return undefined;
    }
    return number;
  }

  #writeIpv4(buf: Uint8Array): number {
    buf.fill(0, 0, IPV4_HEADER);
    buf[0] = 0x45;
    writeU16(buf, 2, this.#size);
    buf[8] = 64;
    buf[9] = UDP;
    buf.set(this.#ends.ours4.bytes, 12);
    buf.set(this.#ends.theirs4.bytes, 16);
    writeU16(buf, 10, fold(sum(buf, 0, IPV4_HEADER, 0)));
    return IPV4_HEADER;
  }

  #writeIpv6(buf: Uint8Array): number {
    buf.fill(0, 0, IPV6_HEADER);
    buf[0] = 0x60;
    writeU16(buf, 4, this.#size - IPV6_HEADER);
    buf[6] = UDP;
    buf[7] = 64;
    buf.set(this.#ends.ours6.bytes, 8);
    buf.set(this.#ends.theirs6.bytes, 24);
    return IPV6_HEADER;
  }
}

/** RFC 8200 §8.1, over the pseudo-header in front of a UDP datagram of `length` bytes. */
function udp6Checksum(buf: Uint8Array, length: number): number {
  const checksum = fold(sum(buf, 8, 32 + length, length + UDP));
  return checksum === 0 ? 0xffff : checksum;
}

function sum(buf: Uint8Array, start: number, length: number, initial: number): number {
  let total = initial;
  for (let i = start; i + 1 < start + length; i += 2) total += readU16(buf, i);
  return length % 2 === 0 ? total : total + (buf[start + length - 1]! << 8);
}

function fold(total: number): number {
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000);
  return ~total & 0xffff;
}
