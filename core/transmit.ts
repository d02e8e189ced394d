/**
 * What a state machine wants sent.
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
