/**
 * Where a packet goes on the data path. Made once and reused, so that forwarding allocates nothing.
 * @module
 */

import { ip, SocketAddress } from "@firezone/core/ip";
import { type ChannelNumber, FIRST_CHANNEL } from "@firezone/core/turn";

/** A verdict of {@link RelayServer}: the application data `buf[start, end)` goes to `destination`. */
export class Forwarding {
  /**
   * "peer": from the port of the allocation, as it is. "client": from the listen port, behind a
   * ChannelData header. "sibling": as "peer", but `destination` is a port of another worker of this
   * relay, whose `handlePeerInput` takes it.
   */
  direction: "peer" | "client" | "sibling" = "peer";
  /** Who gets it. */
  destination: SocketAddress = new SocketAddress(ip("0.0.0.0"), 0);
  /** To a peer or sibling: the port to send from, in the family of `destination`. */
  allocationPort = 0;
  /** To a client: the channel number in the header. */
  channel: ChannelNumber = FIRST_CHANNEL;
  /** Offset of the first byte of application data in the buffer that came in. */
  start = 0;
  /** Offset after its last byte. */
  end = 0;

  /** A verdict about nothing yet. */
  constructor() {}
}
