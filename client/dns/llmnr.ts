/**
 * Link-Local Multicast Name Resolution on the TUN device.
 *
 *     224.0.0.252, ff02::1:3, UDP port 5355      queries, by multicast out of the device
 *     100.100.111.0, fd00:…:100:100:111:0        answers, from an address that is nobody's
 *
 * systemd-resolved asks DNS servers for names without dots only with a search domain; else it asks
 * the link. There we are the only neighbour, and answer for resources. Answers from an address of
 * this machine it would ignore, hence those that no sentinel ever has.
 *
 * Spec: RFC 4795 §2.1 (format), §2.5 (hop limit). Deviation: no TCP; our answers always fit.
 * Owns: the packets. Does not own: which names are answered, see `stub_resolver.ts`.
 * @module
 */

import { readU16, writeU16 } from "@firezone/core/bytes";
import { SENTINEL_RANGE_V4, SENTINEL_RANGE_V6 } from "@firezone/core/dns";
import {
  finishChecksum,
  ip,
  isAddressAt,
  PacketRef,
  Parse,
  parsePacket,
  PROTOCOL,
  sumBytes,
  sumPseudoHeader,
} from "@firezone/core/ip";

const LLMNR_PORT = 5355;
const GROUP_V4 = ip("224.0.0.252");
const GROUP_V6 = ip("ff02::1:3");
const HOP_LIMIT = 255;
const UDP_HEADER = 8;
/** Conflict (C), truncation (TC) and tentative (T) have no place in a query that is to be answered. */
const UNUSUAL_FLAGS = 0x0700;
const RESPONSE = 0x8000;

/** Whether a packet from TUN may be a query. Allocates nothing. */
export function looksLikeLlmnrQuery(buf: Uint8Array, packet: PacketRef): boolean {
  const group = packet.version === 4 ? GROUP_V4 : GROUP_V6;
  return packet.protocol === PROTOCOL.udp && packet.destinationPort === LLMNR_PORT &&
    !packet.isFragment && isAddressAt(group, buf, packet.destinationOffset);
}

/** The DNS message of a packet that {@link looksLikeLlmnrQuery}; undefined if it is not to be answered. */
export function parseLlmnrQuery(packet: Uint8Array): Uint8Array | undefined {
  const ref = new PacketRef();
  if (parsePacket(packet, 0, packet.length, ref) !== Parse.Ok) return undefined;
  const message = packet.subarray(ref.transportOffset + UDP_HEADER, ref.end);
  if (message.length < 12 || (readU16(message, 2) & UNUSUAL_FLAGS) !== 0) return undefined;
  return message;
}

/** The packet that brings an answer to whoever sent the query. @param message changed */
export function llmnrReply(query: Uint8Array, message: Uint8Array): Uint8Array {
  writeU16(message, 2, RESPONSE | readU16(message, 2) & 0x000f);
  const ref = new PacketRef();
  parsePacket(query, 0, query.length, ref);
  const isIpv4 = ref.version === 4;
  const header = isIpv4 ? 20 : 40;
  const reply = new Uint8Array(header + UDP_HEADER + message.length);
  const udpLength = UDP_HEADER + message.length;
  const source = query.subarray(ref.sourceOffset, ref.sourceOffset + ref.addressLength);
  if (isIpv4) {
    reply[0] = 0x45;
    writeU16(reply, 2, reply.length);
    writeU16(reply, 6, 0x4000); // may not be fragmented
    reply[8] = HOP_LIMIT;
    reply[9] = PROTOCOL.udp;
    reply.set(SENTINEL_RANGE_V4.ip.bytes, 12);
    reply.set(source, 16);
    writeU16(reply, 10, finishChecksum(sumBytes(reply, 0, 20)));
  } else {
    reply[0] = 0x60;
    writeU16(reply, 4, udpLength);
    reply[6] = PROTOCOL.udp;
    reply[7] = HOP_LIMIT;
    reply.set(SENTINEL_RANGE_V6.ip.bytes, 8);
    reply.set(source, 24);
  }
  writeU16(reply, header, LLMNR_PORT);
  writeU16(reply, header + 2, ref.sourcePort);
  writeU16(reply, header + 4, udpLength);
  reply.set(message, header + UDP_HEADER);
  const pseudo = sumPseudoHeader(reply, 0, PROTOCOL.udp, udpLength);
  const checksum = finishChecksum(pseudo + sumBytes(reply, header, reply.length));
  writeU16(reply, header + 6, checksum === 0 ? 0xffff : checksum);
  return reply;
}
