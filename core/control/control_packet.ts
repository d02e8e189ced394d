/**
 * The packets that client and gateway exchange inside the tunnel, next to the traffic.
 *
 *     IPv6 header: next header 0xFF, hop limit 0, source and destination `::`
 *     40 ┌──────────┬───────────────────┐
 *        │ event: 1 │ reserved, zero: 7 │ then JSON, if the event has any
 *        └──────────┴───────────────────┘
 *
 * They never reach TUN. Events that are not known are ignored.
 * Owns: the frame. Does not own: what the JSON says, see `control_message.ts`.
 * @module
 */

import { readU16, writeU16 } from "../bytes/mod.ts";

/** IPv6 next header of a control packet. */
const NEXT_HEADER = 0xff;
const IPV6_HEADER_LENGTH = 40;
const EVENT_HEADER_LENGTH = 8;
const HEADERS_LENGTH = IPV6_HEADER_LENGTH + EVENT_HEADER_LENGTH;

/** Longest JSON of a control packet, in bytes: what the tunnel's MTU of 1280 leaves to it. */
export const MAX_CONTROL_BODY = 1280 - HEADERS_LENGTH;

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
  if (end - start < HEADERS_LENGTH) return false;
  if (buf[start]! >> 4 !== 6 || buf[start + 6] !== NEXT_HEADER) return false;
  for (let i = start + 8; i < start + IPV6_HEADER_LENGTH; i++) if (buf[i] !== 0) return false;
  return readU16(buf, start + 4) <= end - start - IPV6_HEADER_LENGTH;
}

/** The event type of a control packet. */
export function controlEvent(buf: Uint8Array, start: number): number {
  return buf[start + IPV6_HEADER_LENGTH]!;
}

/**
 * The JSON of the control packet `buf[start, end)`, as a view without the padding that WireGuard
 * puts behind a packet; undefined where the header's length leaves no room for an event.
 */
export function controlBody(buf: Uint8Array, start: number): Uint8Array | undefined {
  const bodyEnd = start + IPV6_HEADER_LENGTH + readU16(buf, start + 4);
  return bodyEnd < start + HEADERS_LENGTH
    ? undefined
    : buf.subarray(start + HEADERS_LENGTH, bodyEnd);
}

/** A whole control packet. */
export function controlPacket(event: number, body: Uint8Array): Uint8Array {
  const packet = new Uint8Array(HEADERS_LENGTH + body.length);
  packet[0] = 6 << 4;
  writeU16(packet, 4, EVENT_HEADER_LENGTH + body.length);
  packet[6] = NEXT_HEADER;
  packet[IPV6_HEADER_LENGTH] = event;
  packet.set(body, HEADERS_LENGTH);
  return packet;
}

/** The packet that ends a connection. */
export function goodbyePacket(): Uint8Array {
  return controlPacket(ControlEvent.Goodbye, new Uint8Array(0));
}
