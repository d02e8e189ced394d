/**
 * Packets that wait until there is a way for them, the oldest first.
 *
 * Whoever waits for an answer repeats itself. All copies at once would only make the other end answer
 * as often, so an exact copy is not kept, and a repeated SYN takes the place of the one before it
 * (the repetition differs: its timestamp is newer).
 *
 * Holds: no more packets than the limit; the oldest give way.
 * @module
 */

import { PacketRef, Parse, parsePacket, PROTOCOL, TCP_FLAG } from "./packet.ts";

/** See the head of this file. */
export class WaitingPackets {
  readonly #limit: number;
  readonly #packets: Uint8Array[] = [];

  /** None waits.
   * @param limit how many are kept */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Keeps a copy of `buf[start, end)`. */
  add(buf: Uint8Array, start: number, end: number): void {
    const isSyn = looksLikeSyn(buf, start, end);
    const at = this.#packets.findIndex((kept) =>
      isSameRange(kept, 0, kept.length, buf, start, end) ||
      isSyn && isSynOfSameFlow(kept, buf, start, end)
    );
    if (at >= 0) {
      if (isSyn) this.#packets[at] = buf.slice(start, end);
      return;
    }
    if (this.#packets.length === this.#limit) this.#packets.shift();
    this.#packets.push(buf.slice(start, end));
  }

  /** Takes all that wait. */
  take(): Uint8Array[] {
    return this.#packets.splice(0);
  }
}

/** A connection's first packet; its answer, which has ACK as well, is none (RFC 9293 §3.5). */
function looksLikeSyn(buf: Uint8Array, start: number, end: number): boolean {
  if (parsePacket(buf, start, end, packet) !== Parse.Ok) return false;
  if (packet.protocol !== PROTOCOL.tcp || packet.isLaterFragment) return false;
  const flags = buf[packet.transportOffset + 13]!;
  return (flags & (TCP_FLAG.syn | TCP_FLAG.ack)) === TCP_FLAG.syn;
}

const packet = new PacketRef();
const other = new PacketRef();

function isSynOfSameFlow(kept: Uint8Array, buf: Uint8Array, start: number, end: number): boolean {
  if (!looksLikeSyn(kept, 0, kept.length)) return false;
  parsePacket(kept, 0, kept.length, other);
  parsePacket(buf, start, end, packet);
  return packet.version === other.version && packet.sourcePort === other.sourcePort &&
    packet.destinationPort === other.destinationPort &&
    isSameRange(
      kept,
      other.sourceOffset,
      other.sourceOffset + 2 * other.addressLength,
      buf,
      packet.sourceOffset,
      packet.sourceOffset + 2 * packet.addressLength,
    );
}

function isSameRange(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): boolean {
  if (aEnd - aStart !== bEnd - bStart) return false;
  for (let i = 0; i < aEnd - aStart; i++) if (a[aStart + i] !== b[bStart + i]) return false;
  return true;
}
