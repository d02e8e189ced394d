/**
 * ICMP errors of our own making, as many as may leave.
 *
 * Whoever sends what is refused decides how often we answer, so a flood of such packets would be one
 * of errors, each of them made, sealed and sent.
 *
 * Spec: RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f): a token bucket for both families. All errors that are
 * made here are "destination unreachable"; those of others, "packet too big" among them, pass
 * through the tunnel as packets and are not limited.
 * Cost: an error that is withheld allocates nothing (asserted in the test).
 * @module
 */

import { RateLimit } from "../rate_limit.ts";
import type { Millis } from "../units.ts";
import { icmpUnreachable, mayBeAnswered, type UnreachableReason } from "./icmp.ts";
import type { PacketRef } from "./packet.ts";

/** Errors of a machine per second, as Linux has had it for long (`icmp_msgs_per_sec`) ... */
export const ERRORS_PER_SECOND = 1000;
/** ... and at once after it was silent (`icmp_msgs_burst`). */
export const ERROR_BURST = 50;

/**
 * Errors to one peer of many per second, so that no peer alone can take those of all. Linux grants a
 * host one per second: too few for a browser that tries all addresses of a page.
 */
const PEER_ERRORS_PER_SECOND = 100;
const PEER_ERROR_BURST = 25;

/** What one peer of many may have. */
export function peerErrorLimit(): RateLimit {
  return new RateLimit(PEER_ERROR_BURST, PEER_ERRORS_PER_SECOND);
}

/** See the head of this file. */
export class IcmpErrors {
  readonly #limit = new RateLimit(ERROR_BURST, ERRORS_PER_SECOND);

  /**
   * The error that answers a packet; see {@link icmpUnreachable}.
   *
   * @param buf holds the packet that `packet` describes
   * @param peer the limit of whom it goes to, if there are several
   * @returns undefined where none may be sent, or too many were
   */
  unreachable(
    now: Millis,
    buf: Uint8Array,
    packet: PacketRef,
    reason: UnreachableReason,
    peer?: RateLimit,
  ): Uint8Array | undefined {
    if (!mayBeAnswered(buf, packet)) return undefined;
    if (peer !== undefined && !peer.take(now)) return undefined;
    return this.#limit.take(now) ? icmpUnreachable(buf, packet, reason) : undefined;
  }
}
