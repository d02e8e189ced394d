/**
 * Packets for the tests of this folder, and a twin of the checksum code that computes everything
 * anew from the whole packet.
 * @module
 */

import { readU16, writeU16 } from "@firezone/core/bytes";
import { ip, PacketRef, Parse, parsePacket } from "@firezone/core/ip";
import { assertEquals } from "@std/assert";

/** What a test wants in a packet. */
export interface Fields {
  readonly protocol: "tcp" | "udp" | "echo-request" | "echo-reply";
  readonly from: string;
  readonly to: string;
  /** Or the identifier of an echo packet. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly flags?: number;
  readonly payload?: Uint8Array;
  /** UDP only: leave the checksum out. */
  readonly withoutChecksum?: boolean;
}

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;

/** A packet with right checksums. */
export function makePacket(fields: Fields): Uint8Array {
  const isIpv4 = ip(fields.from).family === 4;
  const payload = fields.payload ?? Uint8Array.of(1, 2, 3);
  switch (fields.protocol) {
    case "tcp": {
      const header = new Uint8Array(20);
      writeU16(header, 0, fields.sourcePort);
      writeU16(header, 2, fields.destinationPort);
      header[12] = 5 << 4;
      header[13] = fields.flags ?? 0x10;
      return finish(fields, TCP, header, payload);
    }
    case "udp": {
      const header = new Uint8Array(8);
      writeU16(header, 0, fields.sourcePort);
      writeU16(header, 2, fields.destinationPort);
      writeU16(header, 4, 8 + payload.length);
      return finish(fields, UDP, header, payload);
    }
    default: {
      const header = new Uint8Array(8);
      const isRequest = fields.protocol === "echo-request";
      header[0] = isIpv4 ? (isRequest ? 8 : 0) : (isRequest ? 128 : 129);
      writeU16(header, 4, fields.sourcePort);
      writeU16(header, 6, 77);
      return finish(fields, isIpv4 ? ICMP : ICMPV6, header, payload);
    }
  }
}

/** The answer to a packet: ends and ports swapped. */
export function replyTo(fields: Fields): Fields {
  const isEcho = fields.protocol === "echo-request";
  return {
    ...fields,
    ...isEcho && { protocol: "echo-reply" },
    from: fields.to,
    to: fields.from,
    sourcePort: isEcho ? fields.sourcePort : fields.destinationPort,
    destinationPort: isEcho ? fields.destinationPort : fields.sourcePort,
  };
}

/** An ICMP error that quotes the first bytes of a packet. */
export function makeError(
  from: string,
  to: string,
  type: number,
  code: number,
  quote: Uint8Array,
): Uint8Array {
  const isIpv4 = ip(from).family === 4;
  const header = new Uint8Array(8);
  header[0] = type;
  header[1] = code;
  return finish({ from, to }, isIpv4 ? ICMP : ICMPV6, header, quote);
}

/** A packet as the NAT takes it. */
export function parsed(packet: Uint8Array): PacketRef {
  const ref = new PacketRef();
  assertEquals(parsePacket(packet, 0, packet.length, ref), Parse.Ok);
  return ref;
}

/** What a test compares: everything but checksums, which {@link wrongChecksums} looks at. */
export function describe(packet: Uint8Array): Record<string, unknown> {
  const ref = parsed(packet);
  const text = (offset: number) => {
    const bytes = packet.slice(offset, offset + ref.addressLength);
    return bytes.length === 4 ? bytes.join(".") : [...bytes].map((b) => b.toString(16)).join(" ");
  };
  const isIcmp = ref.icmpType >= 0;
  return {
    protocol: ref.protocol,
    from: text(ref.sourceOffset),
    to: text(ref.destinationOffset),
    ports: isIcmp
      ? [ref.icmpType, readU16(packet, ref.transportOffset + 4)]
      : [ref.sourcePort, ref.destinationPort],
    payload: packet.slice(ref.transportOffset + (ref.protocol === TCP ? 20 : 8)).join(),
  };
}

/** Names of the checksums that are wrong, those of a packet that an ICMP error quotes included. */
export function wrongChecksums(packet: Uint8Array, isQuote = false): string[] {
  const isIpv4 = packet[0]! >> 4 === 4;
  const header = isIpv4 ? (packet[0]! & 15) * 4 : 40;
  const length = isIpv4 ? readU16(packet, 2) : 40 + readU16(packet, 4);
  const protocol = packet[isIpv4 ? 9 : 6]!;
  const wrong: string[] = [];
  const name = isQuote ? "quoted " : "";
  if (isIpv4 && onesSum(packet.subarray(0, header)) !== 0xffff) wrong.push(`${name}ip`);
  if (length > packet.length) return wrong; // cut off, so the transport's cannot be known
  const transport = packet.subarray(header, length);
  const addresses = packet.subarray(isIpv4 ? 12 : 8, isIpv4 ? 20 : 40);
  const isWithout = protocol === UDP && readU16(transport, 6) === 0;
  const pseudo = protocol === ICMP ? 0 : onesSum(addresses) + protocol + transport.length;
  if (!isWithout && fold(pseudo + onesSum(transport)) !== 0xffff) wrong.push(`${name}transport`);
  const type = transport[0]!;
  const isError = protocol === ICMP && type !== 0 && type !== 8 ||
    protocol === ICMPV6 && type < 128;
  return isError && !isQuote ? [...wrong, ...wrongChecksums(transport.subarray(8), true)] : wrong;
}

function finish(
  { from, to, withoutChecksum = false }: Pick<Fields, "from" | "to" | "withoutChecksum">,
  protocol: number,
  header: Uint8Array,
  payload: Uint8Array,
): Uint8Array {
  const source = ip(from).bytes;
  const destination = ip(to).bytes;
  const isIpv4 = source.length === 4;
  const ipHeader = isIpv4 ? 20 : 40;
  const packet = new Uint8Array(ipHeader + header.length + payload.length);
  packet.set(source, isIpv4 ? 12 : 8);
  packet.set(destination, isIpv4 ? 16 : 24);
  packet.set(header, ipHeader);
  packet.set(payload, ipHeader + header.length);
  if (isIpv4) {
    packet[0] = 0x45;
    writeU16(packet, 2, packet.length);
    packet[8] = 64;
    packet[9] = protocol;
    writeU16(packet, 10, ~onesSum(packet.subarray(0, 20)) & 0xffff);
  } else {
    packet[0] = 0x60;
    writeU16(packet, 4, packet.length - 40);
    packet[6] = protocol;
    packet[7] = 64;
  }
  if (protocol === UDP && withoutChecksum) return packet;
  const transport = packet.subarray(ipHeader);
  const addresses = onesSum(source) + onesSum(destination);
  const pseudo = protocol === ICMP ? 0 : addresses + protocol + transport.length;
  const checksum = ~fold(pseudo + onesSum(transport)) & 0xffff;
  const at = protocol === TCP ? 16 : protocol === UDP ? 6 : 2;
  writeU16(transport, at, checksum === 0 && protocol === UDP ? 0xffff : checksum);
  return packet;
}

function onesSum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? bytes[i]! << 8 : bytes[i]!;
  return fold(sum);
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}
