/**
 * ICMP and ICMPv6 errors: "destination unreachable" of our own making, and what others quote.
 *
 *     | IP, from the quoted destination to the quoted source | type code checksum 0 | quoted packet |
 *
 * Spec: RFC 792, RFC 1812 §4.3.2 and §5.2.7.1, RFC 4443 §2.4 and §3.1.
 * Owns: making the packet, refusing where the RFCs forbid one, reading quotes. Does not own: how many
 * may leave, see `icmp_errors.ts`.
 * @module
 */

import { readU16, writeU16 } from "../bytes/fields.ts";
import { finishChecksum, sumBytes, sumPseudoHeader } from "./checksum.ts";
import { isIcmpError, isMulticast, type PacketRef, PROTOCOL } from "./packet.ts";

/**
 * Why a packet cannot reach its destination: "network unreachable" (IPv6: "no route to
 * destination"), or "communication administratively prohibited".
 */
export type UnreachableReason = "network" | "prohibited";

const IPV4_TYPE = 3;
const IPV6_TYPE = 1;
const IPV4_CODE = { network: 0, prohibited: 13 } as const;
const IPV6_CODE = { network: 0, prohibited: 1 } as const;

/** Longest errors: what every IPv4 host can reassemble (RFC 1812 §4.3.2.3), the minimal IPv6 MTU. */
const IPV4_LIMIT = 576;
const IPV6_LIMIT = 1280;

/** Before the quote, and quoted of the payload at least (RFC 792). */
const ERROR_HEADER = 8;

const HOP_LIMIT = 64;
const ICMPV6_REDIRECT = 137;

/**
 * The error that answers a packet, in the name of its destination and as a packet of its own.
 *
 * @param buf holds the packet that `packet` describes
 * @returns undefined where no error may be sent: to errors and redirects, to later fragments, and
 *   where source or destination is not one host
 */
export function icmpUnreachable(
  buf: Uint8Array,
  packet: PacketRef,
  reason: UnreachableReason,
): Uint8Array | undefined {
  if (!mayBeAnswered(buf, packet)) return undefined;
  const isIpv4 = packet.version === 4;
  const header = isIpv4 ? 20 : 40;
  const limit = isIpv4 ? IPV4_LIMIT : IPV6_LIMIT;
  const quoteLength = Math.min(packet.end - packet.start, limit - header - 8);
  const error = new Uint8Array(header + 8 + quoteLength);
  error[header] = isIpv4 ? IPV4_TYPE : IPV6_TYPE;
  error[header + 1] = isIpv4 ? IPV4_CODE[reason] : IPV6_CODE[reason];
  error.set(buf.subarray(packet.start, packet.start + quoteLength), header + 8);
  if (isIpv4) writeIpv4Header(error, buf, packet);
  else writeIpv6Header(error, buf, packet);
  // Only ICMPv6 covers a pseudo header (RFC 4443 §2.3).
  const pseudo = isIpv4 ? 0 : sumPseudoHeader(error, 0, PROTOCOL.icmpv6, error.length - header);
  writeU16(error, header + 2, finishChecksum(pseudo + sumBytes(error, header, error.length)));
  return error;
}

/** Whether a packet says "communication administratively prohibited". */
export function isIcmpProhibited(packet: PacketRef): boolean {
  return packet.version === 4
    ? packet.icmpType === IPV4_TYPE && packet.icmpCode === IPV4_CODE.prohibited
    : packet.icmpType === IPV6_TYPE && packet.icmpCode === IPV6_CODE.prohibited;
}

/**
 * Reads the packet that an ICMP error quotes, which may be cut off behind its first eight bytes of
 * payload; never throws.
 *
 * @param buf holds the error that `error` describes
 * @param out filled when the answer is true, but for ICMP's type and code
 * @returns false when too little is quoted, or a later fragment
 */
export function parseQuote(buf: Uint8Array, error: PacketRef, out: PacketRef): boolean {
  const start = error.transportOffset + ERROR_HEADER;
  const isIpv4 = error.version === 4;
  const header = isIpv4 ? (buf[start]! & 0x0f) * 4 : 40;
  const transport = start + header;
  if (header < 20 || transport + ERROR_HEADER > error.end) return false;
  if (buf[start]! >> 4 !== error.version) return false;
  if (isIpv4 && (readU16(buf, start + 6) & 0x1fff) !== 0) return false;
  out.version = error.version;
  out.start = start;
  out.end = error.end;
  out.protocol = buf[start + (isIpv4 ? 9 : 6)]!;
  out.transportOffset = transport;
  out.sourceOffset = start + (isIpv4 ? 12 : 8);
  out.addressLength = isIpv4 ? 4 : 16;
  out.destinationOffset = out.sourceOffset + out.addressLength;
  out.isFragment = out.isLaterFragment = false;
  const hasPorts = out.protocol === PROTOCOL.tcp || out.protocol === PROTOCOL.udp;
  out.sourcePort = hasPorts ? readU16(buf, transport) : 0;
  out.destinationPort = hasPorts ? readU16(buf, transport + 2) : 0;
  out.icmpType = out.icmpCode = -1;
  return true;
}

/** Whether an error may answer a packet at all; see {@link icmpUnreachable}. */
export function mayBeAnswered(buf: Uint8Array, packet: PacketRef): boolean {
  if (isIcmpError(packet) || packet.isLaterFragment) return false;
  if (packet.version === 6 && packet.icmpType === ICMPV6_REDIRECT) return false;
  return !isMulticast(buf, packet) && isUnicastSource(buf, packet);
}

/** Whether the source may be one host that an answer reaches. */
function isUnicastSource(buf: Uint8Array, packet: PacketRef): boolean {
  const o = packet.sourceOffset;
  if (packet.version === 4) return buf[o] !== 0 && buf[o] !== 127 && buf[o]! < 224;
  if (buf[o] === 0xff) return false;
  for (let i = 0; i < 15; i++) if (buf[o + i] !== 0) return true;
  return buf[o + 15]! > 1; // neither :: nor ::1
}

function writeIpv4Header(error: Uint8Array, buf: Uint8Array, packet: PacketRef): void {
  error[0] = 0x45;
  error[1] = 0xc0; // precedence "internetwork control" (RFC 1812 §4.3.2.5)
  writeU16(error, 2, error.length);
  writeU16(error, 6, 0x4000); // may not be fragmented, so the id means nothing
  error[8] = HOP_LIMIT;
  error[9] = PROTOCOL.icmp;
  error.set(buf.subarray(packet.destinationOffset, packet.destinationOffset + 4), 12);
  error.set(buf.subarray(packet.sourceOffset, packet.sourceOffset + 4), 16);
  writeU16(error, 10, finishChecksum(sumBytes(error, 0, 20)));
}

function writeIpv6Header(error: Uint8Array, buf: Uint8Array, packet: PacketRef): void {
  error[0] = 0x60;
  writeU16(error, 4, error.length - 40);
  error[6] = PROTOCOL.icmpv6;
  error[7] = HOP_LIMIT;
  error.set(buf.subarray(packet.destinationOffset, packet.destinationOffset + 16), 8);
  error.set(buf.subarray(packet.sourceOffset, packet.sourceOffset + 16), 24);
}
