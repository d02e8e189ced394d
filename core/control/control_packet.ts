/**
 * The packets that client and gateway exchange inside the tunnel, next to the traffic.
 *
 *     IPv6 header: next header 0xFF, hop limit 0, source and destination `::`
 *     40 ┌──────────┬───────────────────┐
 *        │ event: 1 │ reserved, zero: 7 │ then JSON, if the event has any
 *        └──────────┴───────────────────┘
 *
 * They never reach TUN. Events that are not known are ignored.
 * @module
 */

import { readU16, writeU16 } from "../bytes/mod.ts";

/** IPv6 next header of a control packet. */
const NEXT_HEADER = 0xff;
const IPV6_HEADER_LENGTH = 40;
const EVENT_HEADER_LENGTH = 8;

/** Event types. */
export const ControlEvent = {
  /** Client to gateway: addresses that stand for a domain. */
  AssignedIps: 0,
  /** Gateway to client: whether that domain resolved. */
  DomainStatus: 1,
  /** Either way: the connection is over. */
  Goodbye: 2,
} as const;

/** Whether the inner packet `buf[start, end)` is a control packet. */
export function looksLikeControlPacket(buf: Uint8Array, start: number, end: number): boolean {
  if (end - start < IPV6_HEADER_LENGTH + EVENT_HEADER_LENGTH) return false;
  if (buf[start]! >> 4 !== 6 || buf[start + 6] !== NEXT_HEADER) return false;
  for (let i = start + 8; i < start + IPV6_HEADER_LENGTH; i++) if (buf[i] !== 0) return false;
  return readU16(buf, start + 4) <= end - start - IPV6_HEADER_LENGTH;
}

/** The event type of a control packet. */
export function controlEvent(buf: Uint8Array, start: number): number {
  return buf[start + IPV6_HEADER_LENGTH]!;
}

/** The packet that ends a connection. */
export function goodbyePacket(): Uint8Array {
  const packet = new Uint8Array(IPV6_HEADER_LENGTH + EVENT_HEADER_LENGTH);
  packet[0] = 6 << 4;
  writeU16(packet, 4, EVENT_HEADER_LENGTH);
  packet[6] = NEXT_HEADER;
  packet[IPV6_HEADER_LENGTH] = ControlEvent.Goodbye;
  return packet;
}
