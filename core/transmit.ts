/**
 * What a state machine wants sent: single datagrams of the control path, and the buffer into which
 * the packet path writes.
 * @module
 */

import type { SocketAddress } from "./ip/address.ts";

/** A datagram of the control path (STUN, TURN, WireGuard handshakes), ready to be sent. */
export interface Transmit {
  /** Local address to send from; undefined lets the kernel choose. Port is always ours. */
  readonly source: SocketAddress | undefined;
  /** Where it goes. */
  readonly destination: SocketAddress;
  /** The UDP payload; owned by the receiver of this object from here on. */
  readonly payload: Uint8Array;
}

/**
 * Where the packet path writes the datagrams it wants sent, without an object per packet.
 *
 * Datagrams of one destination leave in the order in which they were committed.
 */
export interface DatagramBatch {
  /** The memory that {@link reserve} hands out offsets into. */
  readonly buffer: Uint8Array;
  /**
   * Makes room for a datagram of `length` bytes and returns its offset in `buffer`, valid until the
   * next call. A reservation that is not committed is void.
   *
   * @param source local address to send from; undefined lets the kernel choose
   * @param ecn ECN field of the datagram, that of the packet inside; 0 if absent
   */
  reserve(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    length: number,
    ecn?: number,
  ): number;
  /** Takes the first `length` bytes of the reservation as a datagram. */
  commit(length: number): void;
}

/** Where the packet path puts the inner packets that came out of a tunnel. */
export interface InboundPackets {
  /** Takes the packet `buf[start, end)`; the bytes are borrowed for this call only. */
  push(buf: Uint8Array, start: number, end: number): void;
}
