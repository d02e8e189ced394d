/**
 * Packets for the tests of this room, built field by field and without the code under test but for
 * {@link sumBytes}, the obvious checksum.
 * @module
 */

import { writeU16, writeU32 } from "../bytes/fields.ts";
import { type Family, ip, type IpAddress } from "./address.ts";
import { finishChecksum, sumBytes } from "./checksum.ts";

/** What a packet is made of; all but `payload` has a default. */
export interface PacketFields {
  readonly version?: Family;
  readonly protocol?: "tcp" | "udp";
  readonly source?: string;
  readonly destination?: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** TOS or traffic class. */
  readonly trafficClass?: number;
  readonly flowLabel?: number;
  readonly ttl?: number;
  readonly id?: number;
  readonly dontFragment?: boolean;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly flags?: number;
  readonly window?: number;
  /** TCP options, a multiple of four bytes. */
  readonly options?: Uint8Array;
  readonly payload: Uint8Array;
}

/** A complete packet with right checksums. */
export function makePacket(fields: PacketFields): Uint8Array {
  const { version = 4, protocol = "tcp", payload } = fields;
  const options = protocol === "tcp" ? fields.options ?? new Uint8Array(0) : new Uint8Array(0);
  const header = version === 4 ? 20 : 40;
  const transport = protocol === "tcp" ? 20 + options.length : 8;
  const packet = new Uint8Array(header + transport + payload.length);
  if (version === 4) writeIpv4(packet, fields);
  else writeIpv6(packet, fields);
  writeU16(packet, header, fields.sourcePort ?? 40_000);
  writeU16(packet, header + 2, fields.destinationPort ?? 443);
  packet.set(payload, header + transport);
  if (protocol === "tcp") {
    writeU32(packet, header + 4, fields.sequence ?? 1);
    writeU32(packet, header + 8, fields.acknowledgement ?? 7);
    packet[header + 12] = transport / 4 << 4;
    packet[header + 13] = fields.flags ?? 0x10;
    writeU16(packet, header + 14, fields.window ?? 5000);
    packet.set(options, header + 20);
  } else {
    writeU16(packet, header + 4, packet.length - header);
  }
  const checksum = transportChecksum(packet);
  const isUdp = protocol === "udp";
  writeU16(packet, header + (isUdp ? 6 : 16), isUdp && checksum === 0 ? 0xffff : checksum);
  return packet;
}

/** A UDP packet between addresses of one family, from port 1024. */
export function makeUdpPacket(
  source: IpAddress,
  destination: IpAddress,
  destinationPort = 80,
  payload: Uint8Array = new Uint8Array(1),
): Uint8Array {
  return makePacket({
    version: source.family,
    protocol: "udp",
    source: source.text,
    destination: destination.text,
    sourcePort: 1024,
    destinationPort,
    payload,
  });
}

/** The transport checksum that a packet without extension headers should have. */
export function transportChecksum(packet: Uint8Array): number {
  const isIpv4 = packet[0]! >> 4 === 4;
  const header = isIpv4 ? 20 : 40;
  const protocol = packet[isIpv4 ? 9 : 6]!;
  const copy = packet.slice();
  writeU16(copy, header + (protocol === 17 ? 6 : 16), 0);
  const addresses = sumBytes(copy, isIpv4 ? 12 : 8, header);
  const sum = addresses + protocol + packet.length - header + sumBytes(copy, header, copy.length);
  return finishChecksum(sum);
}

function writeIpv4(packet: Uint8Array, fields: PacketFields): void {
  packet[0] = 0x45;
  packet[1] = fields.trafficClass ?? 0;
  writeU16(packet, 2, packet.length);
  writeU16(packet, 4, fields.id ?? 100);
  writeU16(packet, 6, fields.dontFragment ?? true ? 0x4000 : 0);
  packet[8] = fields.ttl ?? 64;
  packet[9] = fields.protocol === "udp" ? 17 : 6;
  packet.set(ip(fields.source ?? "100.64.0.1").bytes, 12);
  packet.set(ip(fields.destination ?? "10.0.0.1").bytes, 16);
  writeU16(packet, 10, finishChecksum(sumBytes(packet, 0, 20)));
}

function writeIpv6(packet: Uint8Array, fields: PacketFields): void {
  const trafficClass = fields.trafficClass ?? 0;
  writeU32(packet, 0, (6 << 28 | trafficClass << 20 | (fields.flowLabel ?? 0)) >>> 0);
  writeU16(packet, 4, packet.length - 40);
  packet[6] = fields.protocol === "udp" ? 17 : 6;
  packet[7] = fields.ttl ?? 64;
  packet.set(ip(fields.source ?? "fd00:2021:1111::1").bytes, 8);
  packet.set(ip(fields.destination ?? "2001:db8::1").bytes, 24);
}
