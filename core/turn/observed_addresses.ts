/**
 * Our own addresses as the answers of one relay show them: those that they arrive at (host), and
 * those that the relay saw us at (server-reflexive), one of each per family.
 * @module
 */

import { Candidate } from "../ice/candidate.ts";
import type { Family, SocketAddress } from "../ip/address.ts";

/** What an answer showed that was not known. */
export interface Observed {
  /** Another address of ours. */
  readonly host?: SocketAddress;
  /** Another address that the relay sees. */
  readonly reflexive?: Candidate;
  /** Whether the relay saw us at another address before. */
  readonly moved: boolean;
}

/** See the head of this file. */
export class ObservedAddresses {
  readonly #hosts = new Map<Family, SocketAddress>();
  readonly #reflexive = new Map<Family, Candidate>();

  /** Takes an answer into account. @param local where it arrived @param mapped what it says */
  note(local: SocketAddress, mapped: SocketAddress): Observed {
    const { family } = mapped;
    const isNewHost = !this.#hosts.get(family)?.equals(local) && !isUnspecified(local);
    if (isNewHost) this.#hosts.set(family, local);
    const host = isNewHost ? { host: local } : {};
    const known = this.#reflexive.get(family);
    if (known?.address.equals(mapped)) return { ...host, moved: false };
    const reflexive = Candidate.serverReflexive(mapped, local);
    this.#reflexive.set(family, reflexive);
    return { ...host, reflexive, moved: known !== undefined };
  }

  /** Forgets everything and returns the server-reflexive candidates that there were. */
  takeReflexive(): Candidate[] {
    const candidates = [...this.#reflexive.values()];
    this.#reflexive.clear();
    this.#hosts.clear();
    return candidates;
  }
}

function isUnspecified(address: SocketAddress): boolean {
  return address.ip.text === "0.0.0.0" || address.ip.text === "::";
}
