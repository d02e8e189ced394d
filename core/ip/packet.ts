/**
 * IPv4 and IPv6 packets as bytes: where their headers end and what a router must know of them.
 *
 *     IPv4  0 version·IHL  1 TOS  2 total length  4 id  6 flags·offset  8 TTL  9 protocol
 *           10 checksum  12 source  16 destination  20 options
 *     IPv6  0 version·class·label  4 payload length  6 next header  7 hop limit  8 source
 *           24 destination  40 extension headers
 *
 * Spec: RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792, RFC 4443, RFC 3168 (ECN).
 * Owns: finding fields. Does not own: whether checksums are right, reassembly, policy.
 * Cost: allocates nothing; throws nothing, whatever the bytes.
 * @module
 */

import { readU16, writeU16 } from "../bytes/fields.ts";
import type { Family } from "./address.ts";
import { updateChecksum } from "./checksum.ts";

/** Protocol numbers that the data plane knows by name. */
export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;

/** Bits of the TCP flags octet (RFC 9293 §3.1). */
export const TCP_FLAG = {
  fin: 0x01,
  syn: 0x02,
  rst: 0x04,
  psh: 0x08,
  ack: 0x10,
  urg: 0x20,
  ece: 0x40,
  cwr: 0x80,
} as const;

/** What {@link parsePacket} made of the bytes; everything but `Ok` is a reason to drop them. */
export const Parse = {
  /** A packet whose fields are in `out`. */
  Ok: 0,
  /** Fewer bytes than the fixed header has. */
  TooShort: 1,
  /** Neither version 4 nor 6. */
  NotIp: 2,
  /** An IPv4 header length below 20 or past the packet's end. */
  BadHeaderLength: 3,
  /** A total length below the header's or past the bytes that arrived. */
  BadTotalLength: 4,
  /** An IPv6 extension header that ends after the packet. */
  BadExtensionHeader: 5,
  /** No room for the TCP, UDP or ICMP header. */
  TransportTooShort: 6,
} as const;

/** One of the values of the table {@link Parse}. */
export type Parse = typeof Parse[keyof typeof Parse];

/** What is known of one packet; reused across packets. Offsets count from the buffer's start. */
export class PacketRef {
  /** 4 or 6. */
  version: Family = 4;
  /** Where the packet begins. */
  start = 0;
  /** Where it ends by its own account, which leaves out padding (WireGuard pads to 16 bytes). */
  end = 0;
  /** Number of the upper layer's protocol, behind any IPv6 extension headers. */
  protocol = 0;
  /** Where the upper layer's header begins; for a later fragment, where its data begins. */
  transportOffset = 0;
  /** Where the source address begins. */
  sourceOffset = 0;
  /** Where the destination address begins. */
  destinationOffset = 0;
  /** 4 or 16, the length of both addresses. */
  addressLength = 4;
  /** TCP or UDP source port; zero for other protocols and for later fragments. */
  sourcePort = 0;
  /** TCP or UDP destination port; zero for other protocols and for later fragments. */
  destinationPort = 0;
  /** ICMP or ICMPv6 type; -1 for other protocols and for later fragments. */
  icmpType: number = -1;
  /** ICMP or ICMPv6 code; -1 for other protocols and for later fragments. */
  icmpCode: number = -1;
  /** Whether it is one fragment of several (an IPv6 "atomic" fragment, RFC 6946, is not). */
  isFragment = false;
  /** Whether it is a fragment other than the first, so without the upper layer's header. */
  isLaterFragment = false;
}

/**
 * Reads the packet at `buf[start, end)`, whatever its bytes; never throws.
 *
 * @param out filled on `Parse.Ok`, else left alone
 */
export function parsePacket(buf: Uint8Array, start: number, end: number, out: PacketRef): Parse {
  if (end - start < 20) return Parse.TooShort;
  const version = buf[start]! >> 4;
  if (version === 4) return parseIpv4(buf, start, end, out);
  if (version === 6) return parseIpv6(buf, start, end, out);
  return Parse.NotIp;
}

function parseIpv4(buf: Uint8Array, start: number, end: number, out: PacketRef): Parse {
  const headerLength = (buf[start]! & 0x0f) * 4;
  const totalLength = readU16(buf, start + 2);
  if (headerLength < 20) return Parse.BadHeaderLength;
  if (totalLength < headerLength || totalLength > end - start) return Parse.BadTotalLength;
  const fragment = readU16(buf, start + 6) & 0x3fff; // more-fragments bit and offset
  const transport = start + headerLength;
  const protocol = buf[start + 9]!;
  const isLater = (fragment & 0x1fff) !== 0;
  const packetEnd = start + totalLength;
  if (!isLater && !holdsTransport(buf, protocol, transport, packetEnd)) {
    return Parse.TransportTooShort;
  }
  out.version = 4;
  out.start = start;
  out.end = packetEnd;
  out.protocol = protocol;
  out.transportOffset = transport;
  out.sourceOffset = start + 12;
  out.destinationOffset = start + 16;
  out.addressLength = 4;
  out.isFragment = fragment !== 0;
  out.isLaterFragment = isLater;
  readTransport(buf, out);
  return Parse.Ok;
}

function parseIpv6(buf: Uint8Array, start: number, end: number, out: PacketRef): Parse {
  if (end - start < 40) return Parse.TooShort;
  const packetEnd = start + 40 + readU16(buf, start + 4);
  if (packetEnd > end) return Parse.BadTotalLength;
  let protocol = buf[start + 6]!;
  let transport = start + 40;
  let fragment = 0;
  // Hop-by-hop options 0, routing 43, fragment 44, destination options 60 (RFC 8200 §4). Behind a
  // later fragment's header comes data, so nothing more is read there. Each header is at least
  // 8 bytes long, which bounds the loop.
  while (protocol === 0 || protocol === 43 || protocol === 44 || protocol === 60) {
    if ((fragment & 0xfff8) !== 0) break;
    if (transport + 8 > packetEnd) return Parse.BadExtensionHeader;
    const next = buf[transport]!;
    if (protocol === 44) {
      fragment = readU16(buf, transport + 2) & 0xfff9; // offset and more-fragments bit
      transport += 8;
    } else {
      transport += 8 + buf[transport + 1]! * 8;
      if (transport > packetEnd) return Parse.BadExtensionHeader;
    }
    protocol = next;
  }
  const isLater = (fragment & 0xfff8) !== 0;
  if (!isLater && !holdsTransport(buf, protocol, transport, packetEnd)) {
    return Parse.TransportTooShort;
  }
  out.version = 6;
  out.start = start;
  out.end = packetEnd;
  out.protocol = protocol;
  out.transportOffset = transport;
  out.sourceOffset = start + 8;
  out.destinationOffset = start + 24;
  out.addressLength = 16;
  out.isFragment = fragment !== 0;
  out.isLaterFragment = isLater;
  readTransport(buf, out);
  return Parse.Ok;
}

/** Whether the upper layer's fixed header fits, for the protocols of which we read one. */
function holdsTransport(buf: Uint8Array, protocol: number, offset: number, end: number): boolean {
  switch (protocol) {
    case PROTOCOL.tcp:
      return end - offset >= 20 && (buf[offset + 12]! >> 4) * 4 >= 20;
    case PROTOCOL.udp:
    case PROTOCOL.icmp:
    case PROTOCOL.icmpv6:
      return end - offset >= 8;
    default:
      return true;
  }
}

function readTransport(buf: Uint8Array, out: PacketRef): void {
  const offset = out.transportOffset;
  const protocol = out.isLaterFragment ? -1 : out.protocol;
  if (protocol === PROTOCOL.tcp || protocol === PROTOCOL.udp) {
    out.sourcePort = readU16(buf, offset);
    out.destinationPort = readU16(buf, offset + 2);
    out.icmpType = -1;
    out.icmpCode = -1;
    return;
  }
  const isIcmp = protocol === (out.version === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6);
  out.sourcePort = 0;
  out.destinationPort = 0;
  out.icmpType = isIcmp ? buf[offset]! : -1;
  out.icmpCode = isIcmp ? buf[offset + 1]! : -1;
}

/**
 * Length of the packet at `buf[start, end)` by its own header, so without padding; zero where the
 * bytes cannot be a packet (no IP version, or longer than what arrived).
 */
export function packetLength(buf: Uint8Array, start: number, end: number): number {
  if (end - start < 20) return 0;
  const version = buf[start]! >> 4;
  if (version === 4) {
    const length = readU16(buf, start + 2);
    const headerLength = (buf[start]! & 0x0f) * 4;
    return headerLength >= 20 && length >= headerLength && length <= end - start ? length : 0;
  }
  if (version !== 6 || end - start < 40) return 0;
  const length = 40 + readU16(buf, start + 4);
  return length <= end - start ? length : 0;
}

/**
 * Whether the packet is an ICMP error rather than a query or reply (RFC 792, RFC 4443 §2.1). Errors
 * belong to the flow that they quote, and must not be answered with errors.
 */
export function isIcmpError(packet: PacketRef): boolean {
  const type = packet.icmpType;
  if (type < 0) return false;
  if (packet.version === 6) return type < 128;
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12;
}

/** Whether the packet is an ICMP echo request or reply, whose identifier names the flow. */
export function isIcmpEcho(packet: PacketRef): boolean {
  const type = packet.icmpType;
  return packet.version === 4 ? type === 0 || type === 8 : type === 128 || type === 129;
}

/** The identifier of an ICMP echo request or reply. */
export function icmpIdentifier(buf: Uint8Array, packet: PacketRef): number {
  return readU16(buf, packet.transportOffset + 4);
}

/** Whether the destination is a multicast group, or IPv4's limited broadcast. */
export function isMulticast(buf: Uint8Array, packet: PacketRef): boolean {
  const o = packet.destinationOffset;
  if (packet.version === 6) return buf[o] === 0xff;
  return buf[o]! >> 4 === 0xe ||
    (buf[o]! & buf[o + 1]! & buf[o + 2]! & buf[o + 3]!) === 0xff;
}

/** The values of the ECN field (RFC 3168 §5). */
export const ECN = {
  /** The ends do not understand marks: routers under load drop. */
  notCapable: 0,
  /** The ends understand marks; by RFC 9331, those of low latency services. */
  capable1: 1,
  /** The ends understand marks. */
  capable0: 2,
  /** A router under load marked the packet. */
  congestion: 3,
} as const;

/** The ECN field of the packet at `buf[start]`, one of {@link ECN}. */
export function ecn(buf: Uint8Array, start: number): number {
  return buf[start]! >> 4 === 4 ? buf[start + 1]! & 3 : buf[start + 1]! >> 4 & 3;
}

/** Sets the ECN bits of the packet at `buf[start]`, of known version, and mends its header checksum. */
export function setEcn(buf: Uint8Array, start: number, value: number): void {
  if (buf[start]! >> 4 === 4) {
    const before = readU16(buf, start);
    buf[start + 1] = buf[start + 1]! & ~3 | value;
    const checksum = updateChecksum(readU16(buf, start + 10), before, readU16(buf, start));
    writeU16(buf, start + 10, checksum);
  } else {
    buf[start + 1] = buf[start + 1]! & ~0x30 | value << 4;
  }
}

/**
 * Applies the ECN field of the datagram that a packet came in to the packet at `buf[start]`, of known
 * version (RFC 6040 §4.2): marks that routers on the tunnel's way made are passed on, and nothing is
 * taken back where the outer field was cleared.
 *
 * Deviation: a marked datagram with a packet whose ends do not understand marks is not dropped. We
 * never send one, so whoever marked it marks everything, and dropping would cut the tunnel off.
 */
export function applyOuterEcn(buf: Uint8Array, start: number, outer: number): void {
  const inner = ecn(buf, start);
  if (inner === ECN.notCapable || inner === ECN.congestion || inner === outer) return;
  if (outer === ECN.congestion || outer === ECN.capable1) setEcn(buf, start, outer);
}
