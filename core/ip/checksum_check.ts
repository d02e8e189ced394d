/**
 * Whether the checksums of a packet are right. For looking for mistakes, not for the packet path.
 *
 * Spec: RFC 791 §3.1, RFC 9293 §3.1, RFC 768 (an IPv4 checksum of zero means that there is none),
 * RFC 792, RFC 4443 §2.3.
 * @module
 */

import { readU16 } from "../bytes/fields.ts";
import { finishChecksum, sumBytes, sumPseudoHeader } from "./checksum.ts";
import { PacketRef, Parse, parsePacket, PROTOCOL } from "./packet.ts";

/** The layers whose checksums are looked at. */
export type ChecksumLayer = "IPv4" | "TCP" | "UDP" | "ICMP";

const LAYER_OF: ReadonlyMap<number, ChecksumLayer> = new Map([
  [PROTOCOL.tcp, "TCP"],
  [PROTOCOL.udp, "UDP"],
  [PROTOCOL.icmp, "ICMP"],
  [PROTOCOL.icmpv6, "ICMP"],
]);

/**
 * The first layer of the packet `buf[start, end)` whose checksum is wrong.
 *
 * @returns undefined when all are right, or none can be judged: not a packet, a fragment, another
 * protocol
 */
export function wrongChecksum(
  buf: Uint8Array,
  start: number,
  end: number,
): ChecksumLayer | undefined {
  const packet = new PacketRef();
  if (parsePacket(buf, start, end, packet) !== Parse.Ok) return undefined;
  const { version, protocol, transportOffset } = packet;
  if (version === 4 && finishChecksum(sumBytes(buf, start, transportOffset)) !== 0) return "IPv4";
  const layer = LAYER_OF.get(protocol);
  if (packet.isFragment || layer === undefined) return undefined;
  if (layer === "UDP" && version === 4 && readU16(buf, transportOffset + 6) === 0) return undefined;
  const length = packet.end - transportOffset;
  const hasPseudoHeader = protocol !== PROTOCOL.icmp;
  const sum = sumBytes(buf, transportOffset, packet.end) +
    (hasPseudoHeader ? sumPseudoHeader(buf, start, protocol, length) : 0);
  return finishChecksum(sum) === 0 ? undefined : layer;
}
