/**
 * The candidates that all connections share: our hosts' addresses, and what relays tell us.
 *
 * Host and server-reflexive candidates are for every connection; a relayed one is for those that use
 * its relay.
 * @module
 */

import { Candidate } from "../ice/mod.ts";
import type { SocketAddress } from "../ip/address.ts";
import { byPriority } from "./connection.ts";

/** A candidate, and the relay that it comes from. */
interface FromRelay {
  readonly relayId: string;
  readonly candidate: Candidate;
}

/** See the head of this file. */
export class LocalCandidates {
  readonly #hosts = new Map<string, Candidate>();
  readonly #serverReflexive = new Map<string, FromRelay>();
  readonly #relayed = new Map<string, FromRelay>();

  /** Adds the address of a socket; undefined when it is known already. */
  addHost(address: SocketAddress): Candidate | undefined {
    if (this.#hosts.has(address.key)) return undefined;
    const candidate = Candidate.host(address);
    this.#hosts.set(address.key, candidate);
    return candidate;
  }

  /** Adds what a relay said; of server-reflexive ones the latest of each relay and family stays. */
  addFromRelay(relayId: string, candidate: Candidate): void {
    if (candidate.kind === "relay") {
      this.#relayed.set(candidate.address.key, { relayId, candidate });
    } else {
      // Behind a symmetric NAT every binding would add another.
      this.#serverReflexive.set(`${relayId} ${candidate.address.family}`, { relayId, candidate });
    }
  }

  /** Takes back what a relay said. */
  removeFromRelay(relayId: string, candidate: Candidate): void {
    if (candidate.kind === "relay") this.#relayed.delete(candidate.address.key);
    else this.#serverReflexive.delete(`${relayId} ${candidate.address.family}`);
  }

  /** Forgets all that a relay said. */
  forgetRelay(id: string): void {
    for (const entries of [this.#serverReflexive, this.#relayed]) {
      for (const [key, { relayId }] of entries) if (relayId === id) entries.delete(key);
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#hosts.clear();
    this.#serverReflexive.clear();
    this.#relayed.clear();
  }

  /** What a connection that uses this relay may offer, the best first. */
  forRelay(id: string | undefined): readonly Candidate[] {
    const candidates = [...this.#hosts.values()];
    for (const { candidate } of this.#serverReflexive.values()) candidates.push(candidate);
    for (const { relayId, candidate } of this.#relayed.values()) {
      if (relayId === id) candidates.push(candidate);
    }
    return byPriority(candidates);
  }
}
