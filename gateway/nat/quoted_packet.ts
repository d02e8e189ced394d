/**
 * The packet inside an ICMP error: at least its IP header and eight bytes more, often cut off behind
 * them (RFC 792, RFC 4443 §2.4 (c)).
 * @module
 */

import { readU16 } from "@firezone/core/bytes";
import { type Family, PROTOCOL } from "@firezone/core/ip";
import { FlowKind, flowKind } from "./flow_table.ts";

/** Header of an ICMP error, in bytes; the quote follows. */
export const ICMP_ERROR_HEADER = 8;

const MIN_TRANSPORT = 8;

/** What is known of a quoted packet; reused. Offsets count from the buffer's start. */
export class QuotedPacket {
  /** 4 or 6. */
  version: Family = 4;
  /** Where it begins. */
  start = 0;
  /** Where the bytes end that were quoted. */
  end = 0;
  /** What its ports are ports of. */
  kind: FlowKind = FlowKind.Tcp;
  /** Where its source address begins. */
  sourceOffset = 0;
  /** Where its destination address begins. */
  destinationOffset = 0;
  /** Where its upper layer's header begins. */
  transportOffset = 0;
  /** Source port, or identifier of an echo request or reply. */
  sourcePort = 0;
  /** Destination port, or identifier of an echo request or reply. */
  destinationPort = 0;
  /** Whether it is an echo reply. */
  isEchoReply = false;
}

/**
 * Reads the packet quoted in `buf[start, end)`, whatever its bytes; never throws.
 *
 * @param out filled when the answer is true, else of no meaning
 * @returns false when it is no TCP, UDP or ICMP echo packet, or a later fragment of one
 */
export function parseQuotedPacket(
  buf: Uint8Array,
  start: number,
  end: number,
  out: QuotedPacket,
): boolean {
  if (end - start < 20) return false;
  const version = buf[start]! >> 4;
  if (version !== 4 && version !== 6) return false;
  const headerLength = version === 4 ? (buf[start]! & 0x0f) * 4 : 40;
  const transport = start + headerLength;
  if (headerLength < 20 || transport + MIN_TRANSPORT > end) return false;
  if (version === 4 && (readU16(buf, start + 6) & 0x1fff) !== 0) return false;
  const protocol = buf[start + (version === 4 ? 9 : 6)]!;
  const kind = flowKind(protocol);
  if (kind < 0) return false;
  out.version = version;
  out.start = start;
  out.end = end;
  out.kind = kind as FlowKind;
  out.sourceOffset = start + (version === 4 ? 12 : 8);
  out.destinationOffset = start + (version === 4 ? 16 : 24);
  out.transportOffset = transport;
  out.isEchoReply = false;
  if (kind !== FlowKind.Icmp) {
    out.sourcePort = readU16(buf, transport);
    out.destinationPort = readU16(buf, transport + 2);
    return true;
  }
  const type = buf[transport]!;
  const [request, reply] = version === 4 ? ICMP_ECHO : ICMPV6_ECHO;
  const isOfVersion = protocol === (version === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6);
  if (!isOfVersion || type !== request && type !== reply) return false;
  out.isEchoReply = type === reply;
  out.sourcePort = out.destinationPort = readU16(buf, transport + 4);
  return true;
}

const ICMP_ECHO = [8, 0] as const;
const ICMPV6_ECHO = [128, 129] as const;
