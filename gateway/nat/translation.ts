/**
 * Rewriting the addresses and ports of a packet where it lies, and mending its checksums.
 *
 *     client ── (client, port → proxy) ──►   to the resource: destination and source port change
 *     client ◄── (proxy → client, port) ──   to the client: source and destination port change
 *
 * A checksum changes by what the words under it change by (RFC 1624), so the payload is not looked
 * at and a packet that came with a wrong checksum leaves with a wrong one. The change of an address
 * is the same for all packets of a flow and is kept with it.
 *
 * Spec: RFC 1624 §3, RFC 768 (zero means "no checksum"), RFC 5508 §4.2 (ICMP errors through a NAT).
 * Cost: allocates nothing.
 * @module
 */

import { readU16, writeU16 } from "@firezone/core/bytes";
import { finishChecksum, foldSum, type IpAddress, type PacketRef } from "@firezone/core/ip";
import { FlowKind } from "./flow_table.ts";
import type { QuotedPacket } from "./quoted_packet.ts";

/** Change of a sum when the one address takes the place of the other, 0 to 0xffff. */
export function addressDelta(from: IpAddress, to: IpAddress): number {
  let sum = 0;
  for (let i = 0; i < from.bytes.length; i += 2) {
    sum += (~readU16(from.bytes, i) & 0xffff) + readU16(to.bytes, i);
  }
  return foldSum(sum);
}

/**
 * Turns a packet of the client towards a real address.
 *
 * @param delta change from the proxy address to the real one
 * @param port that takes the place of the source port, or echo identifier
 */
export function translateToReal(
  buf: Uint8Array,
  packet: PacketRef,
  kind: FlowKind,
  real: IpAddress,
  delta: number,
  port: number,
): void {
  writeAddress(buf, packet.destinationOffset, real);
  mendIpChecksum(buf, packet, delta);
  const portAt = packet.transportOffset + (kind === FlowKind.Icmp ? 4 : 0);
  const portDelta = putWord(buf, portAt, port);
  mendTransportChecksum(buf, packet.transportOffset, packet.version, kind, delta, portDelta);
}

/**
 * Turns a reply towards the client.
 *
 * @param delta change from the proxy address to the real one, so the opposite of what happens here
 * @param port that takes the place of the destination port, or echo identifier
 */
export function translateToProxy(
  buf: Uint8Array,
  packet: PacketRef,
  kind: FlowKind,
  proxy: IpAddress,
  delta: number,
  port: number,
): void {
  const opposite = ~delta & 0xffff;
  writeAddress(buf, packet.sourceOffset, proxy);
  mendIpChecksum(buf, packet, opposite);
  const portAt = packet.transportOffset + (kind === FlowKind.Icmp ? 4 : 2);
  const portDelta = putWord(buf, portAt, port);
  mendTransportChecksum(buf, packet.transportOffset, packet.version, kind, opposite, portDelta);
}

/**
 * Turns an ICMP error about a packet of the client towards the client. Whichever router sent it, it
 * comes from the proxy address afterwards: routers behind the gateway are nobody's business.
 */
export function translateErrorToProxy(
  buf: Uint8Array,
  packet: PacketRef,
  quoted: QuotedPacket,
  proxy: IpAddress,
  port: number,
): void {
  const delta = putAddress(buf, quoted.destinationOffset, proxy);
  const portAt = quoted.transportOffset + (quoted.kind === FlowKind.Icmp ? 4 : 0);
  const body = mendQuote(buf, quoted, delta, putWord(buf, portAt, port));
  mendError(buf, packet, putAddress(buf, packet.sourceOffset, proxy), body);
}

/** Turns an ICMP error of the client about a reply towards the one who sent the reply. */
export function translateErrorToReal(
  buf: Uint8Array,
  packet: PacketRef,
  quoted: QuotedPacket,
  real: IpAddress,
  port: number,
): void {
  const delta = putAddress(buf, quoted.sourceOffset, real);
  const portAt = quoted.transportOffset + (quoted.kind === FlowKind.Icmp ? 4 : 2);
  const body = mendQuote(buf, quoted, delta, putWord(buf, portAt, port));
  mendError(buf, packet, putAddress(buf, packet.destinationOffset, real), body);
}

/** Mends the checksums inside a quote, as far as it reaches; returns by how much its sum changed. */
function mendQuote(
  buf: Uint8Array,
  quoted: QuotedPacket,
  delta: number,
  portDelta: number,
): number {
  let change = delta + portDelta;
  if (quoted.version === 4) {
    const at = quoted.start + 10;
    change += putWord(buf, at, changed(readU16(buf, at), delta));
  }
  const at = quoted.transportOffset + CHECKSUM_AT[quoted.kind]!;
  if (at + 2 > quoted.end) return change;
  const before = readU16(buf, at);
  mendTransportChecksum(
    buf,
    quoted.transportOffset,
    quoted.version,
    quoted.kind,
    delta,
    portDelta,
  );
  return change + (~before & 0xffff) + readU16(buf, at);
}

/** Mends the checksums of the error itself. */
function mendError(buf: Uint8Array, packet: PacketRef, delta: number, body: number): void {
  mendIpChecksum(buf, packet, delta);
  const at = packet.transportOffset + CHECKSUM_AT[FlowKind.Icmp];
  const change = packet.version === 6 ? body + delta : body;
  writeU16(buf, at, changed(readU16(buf, at), change));
}

/** Where a transport header has its checksum. */
const CHECKSUM_AT = {
  [FlowKind.Tcp]: 16,
  [FlowKind.Udp]: 6,
  [FlowKind.Icmp]: 2,
} as const;

function mendIpChecksum(buf: Uint8Array, packet: PacketRef, delta: number): void {
  if (packet.version === 6) return;
  const at = packet.start + 10;
  writeU16(buf, at, changed(readU16(buf, at), delta));
}

/** All but ICMP of IPv4 cover the addresses by their pseudo header. */
function mendTransportChecksum(
  buf: Uint8Array,
  transport: number,
  version: number,
  kind: FlowKind,
  delta: number,
  portDelta: number,
): void {
  const at = transport + CHECKSUM_AT[kind]!;
  const before = readU16(buf, at);
  if (kind === FlowKind.Udp && before === 0) return;
  const coversAddresses = kind !== FlowKind.Icmp || version === 6;
  const after = changed(before, coversAddresses ? delta + portDelta : portDelta);
  writeU16(buf, at, kind === FlowKind.Udp && after === 0 ? 0xffff : after);
}

/** The checksum after the sum under it changed (RFC 1624 §3, equation 3). */
function changed(checksum: number, delta: number): number {
  return finishChecksum((~checksum & 0xffff) + delta);
}

/** Writes a word and returns by how much a sum over it changes. */
function putWord(buf: Uint8Array, at: number, word: number): number {
  const before = readU16(buf, at);
  writeU16(buf, at, word);
  return (~before & 0xffff) + word;
}

function writeAddress(buf: Uint8Array, at: number, address: IpAddress): void {
  const bytes = address.bytes;
  for (let i = 0; i < bytes.length; i++) buf[at + i] = bytes[i]!;
}

/** Writes an address and returns by how much a sum over it changes. */
function putAddress(buf: Uint8Array, at: number, address: IpAddress): number {
  const bytes = address.bytes;
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += putWord(buf, at + i, readU16(bytes, i));
  return sum;
}
