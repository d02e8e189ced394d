/**
 * Guesses at addresses that a peer does not know it has.
 *
 * A peer with a forwarded port behind an otherwise unfriendly NAT can be reached at its public
 * address and the port it listens on, though no STUN server ever saw that combination. Two guesses
 * at most, IPv4 alone: IPv6 hosts are not behind such NATs.
 * @module
 */

import { Candidate } from "../ice/mod.ts";
import { SocketAddress } from "../ip/address.ts";

/** Guesses that one connection may add. */
export const MAX_GUESSES = 2;

/** Candidates that `added`, together with those known before, suggests. */
export function optimisticCandidates(added: Candidate, known: readonly Candidate[]): Candidate[] {
  const guesses: Candidate[] = [];
  for (const other of known) {
    const [reflexive, host] = added.kind === "srflx" ? [added, other] : [other, added];
    if (reflexive.kind !== "srflx" || host.kind !== "host") continue;
    if (reflexive.address.family !== 4 || host.address.family !== 4) continue;
    const address = new SocketAddress(reflexive.address.ip, host.address.port);
    if (!address.equals(reflexive.address)) {
      guesses.push(Candidate.serverReflexive(address, host.address));
    }
  }
  return guesses;
}
