/**
 * ChannelData: relays application bytes behind four bytes instead of a whole STUN message.
 *
 *     0         2         4                  4 + length
 *     | channel | length  | application data |     big-endian; bytes after it are padding
 *
 * Spec: RFC 8656 §12.4 to §12.6. Deviation: we never emit padding, the relay speaks only UDP.
 * Owns: the framing. Does not own: whether a channel is bound, see `channel_bindings.ts`.
 * Cost: allocates nothing in either direction (asserted in the test).
 * @module
 */

import { readU16, writeU16 } from "../bytes/mod.ts";
import type { Brand } from "../units.ts";

/** TURN channel, 0x4000 to 0x4FFF (RFC 8656 §12), or to 0x7FFF for clients of RFC 5766. */
export type ChannelNumber = Brand<number, "ChannelNumber">;

/** The smallest channel number. */
export const FIRST_CHANNEL: ChannelNumber = 0x4000 as ChannelNumber;

/** The largest channel number. */
export const LAST_CHANNEL: ChannelNumber = 0x4fff as ChannelNumber;

/** The largest channel number of RFC 5766 §11, from before datagrams were told apart by RFC 7983. */
export const LAST_LEGACY_CHANNEL: ChannelNumber = 0x7fff as ChannelNumber;

/** Bytes in front of the application data. */
export const CHANNEL_DATA_HEADER_LENGTH = 4;

/** The only door from bytes to a channel number. */
export function toChannelNumber(n: number, last = LAST_CHANNEL): ChannelNumber | undefined {
  return n >= FIRST_CHANNEL && n <= last ? n as ChannelNumber : undefined;
}

/** What {@link parseChannelData} found. */
export const Parse = { Ok: 0, TooShort: 1, NotChannelNumber: 2, LengthPastEnd: 3 } as const;

/** One of the codes in the table of the same name. */
export type Parse = typeof Parse[keyof typeof Parse];

/** Where the parts of a ChannelData message are; made once and reused. */
export class ChannelDataRef {
  /** The channel it came through. */
  channel: ChannelNumber = FIRST_CHANNEL;
  /** Offset of the first byte of application data. */
  start = 0;
  /** Offset after the last byte of application data. */
  end = 0;

  /** A reference that refers to nothing yet. */
  constructor() {}
}

/** Whether the first byte is one that only ChannelData begins with (RFC 7983 §7). */
export function looksLikeChannelData(
  buf: Uint8Array,
  start: number,
  end: number,
  last = LAST_CHANNEL,
): boolean {
  return end > start && buf[start]! >= 0x40 && buf[start]! <= last >> 8;
}

/**
 * Parses the datagram `buf[start, end)` (§12.6), whatever its bytes; never throws.
 *
 * @param buf borrowed for this call only
 * @param last largest channel number
 * @param out on `Parse.Ok` the application data is `buf[out.start, out.end)`, else `out` is untouched
 */
export function parseChannelData(
  buf: Uint8Array,
  start: number,
  end: number,
  out: ChannelDataRef,
  last = LAST_CHANNEL,
): Parse {
  if (end - start < CHANNEL_DATA_HEADER_LENGTH) return Parse.TooShort;
  const channel = toChannelNumber(readU16(buf, start), last);
  if (channel === undefined) return Parse.NotChannelNumber;
  const dataStart = start + CHANNEL_DATA_HEADER_LENGTH;
  const dataEnd = dataStart + readU16(buf, start + 2);
  if (dataEnd > end) return Parse.LengthPastEnd;
  out.channel = channel;
  out.start = dataStart;
  out.end = dataEnd;
  return Parse.Ok;
}

/** The header as a big-endian u32. @param length of the application data in bytes, at most 65,535 */
export function channelDataHeader(channel: ChannelNumber, length: number): number {
  return channel << 16 | length;
}

/**
 * Writes the header at `buf[offset]`, in front of application data that already is there.
 *
 * @param length of the application data in bytes, at most 65,535
 * @returns offset of the application data
 */
export function writeChannelDataHeader(
  buf: Uint8Array,
  offset: number,
  channel: ChannelNumber,
  length: number,
): number {
  writeU16(buf, offset, channel);
  writeU16(buf, offset + 2, length);
  return offset + CHANNEL_DATA_HEADER_LENGTH;
}
