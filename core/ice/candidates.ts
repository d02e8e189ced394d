/**
 * The candidates of either end, without redundant ones.
 *
 * Spec: RFC 8445 §5.1.3 and §7.3.1.3, RFC 8838 §10 and §11.
 * Holds: order is insertion order; no more than {@link MAX_CANDIDATES} on a side.
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";
import type { Candidate } from "./candidate.ts";

/** Candidates kept for either end. */
export const MAX_CANDIDATES = 64;

/** Addresses that the peer took back and that are not learned again from late checks. */
const MAX_REMOVED = 64;

/** Ours, which have bases. */
export class LocalCandidates {
  #candidates: Candidate[] = [];

  /** None. */
  constructor() {}

  /** All of them. */
  all(): readonly Candidate[] {
    return this.#candidates;
  }

  /** Adds one. @returns false when another has its address and base and at least its priority */
  add(candidate: Candidate): boolean {
    const same = this.#candidates.findIndex((other) =>
      other.address.equals(candidate.address) && other.base.equals(candidate.base)
    );
    if (same >= 0) {
      if (this.#candidates[same]!.priority >= candidate.priority) return false;
      this.#candidates = this.#candidates.toSpliced(same, 1, candidate);
      return true;
    }
    if (this.#candidates.length >= MAX_CANDIDATES) return false;
    this.#candidates = [...this.#candidates, candidate];
    return true;
  }

  /** Removes those with the kind and address of `candidate`, and returns them. */
  remove(candidate: Candidate): Candidate[] {
    const removed = this.#candidates.filter((other) => other.key === candidate.key);
    this.#candidates = this.#candidates.filter((other) => other.key !== candidate.key);
    return removed;
  }

  /** The best candidate with this base, which stands for the base in pairs (§6.1.2.4). */
  forBase(base: SocketAddress): Candidate | undefined {
    let best: Candidate | undefined;
    for (const candidate of this.#candidates) {
      if (!candidate.base.equals(base)) continue;
      if (!best || candidate.priority > best.priority) best = candidate;
    }
    return best;
  }

  /** The best candidate of every base. */
  perBase(): Candidate[] {
    return this.#candidates.filter((candidate) => this.forBase(candidate.base) === candidate);
  }
}

/** The peer's, of which only addresses matter. */
export class RemoteCandidates {
  readonly #byAddress = new Map<string, Candidate>();
  readonly #removed = new Set<string>();

  /** None. */
  constructor() {}

  /** All of them. */
  all(): readonly Candidate[] {
    return [...this.#byAddress.values()];
  }

  /** The one with this address. */
  find(address: SocketAddress): Candidate | undefined {
    return this.#byAddress.get(address.key);
  }

  /**
   * Adds one. Of two with one address the better stays, and a named one before a learned one.
   *
   * @returns the candidate that now has the address; `undefined` when there are too many
   */
  add(candidate: Candidate): Candidate | undefined {
    const key = candidate.address.key;
    this.#removed.delete(key);
    const known = this.#byAddress.get(key);
    if (known && !replaces(candidate, known)) return known;
    if (!known && this.#byAddress.size >= MAX_CANDIDATES) return undefined;
    this.#byAddress.set(key, candidate);
    return candidate;
  }

  /** Removes the one with this address on the peer's word. @returns false when there was none */
  remove(candidate: Candidate): boolean {
    const key = candidate.address.key;
    if (this.#removed.size >= MAX_REMOVED) this.#removed.clear();
    this.#removed.add(key);
    return this.#byAddress.delete(key);
  }

  /** Whether the peer took this address back and has not named it again since. */
  wasRemoved(address: SocketAddress): boolean {
    return this.#removed.has(address.key);
  }

  /** Drops one that was learned; it may be learned again. */
  forget(candidate: Candidate): void {
    this.#byAddress.delete(candidate.address.key);
  }
}

function replaces(candidate: Candidate, known: Candidate): boolean {
  if ((candidate.kind === "prflx") !== (known.kind === "prflx")) return known.kind === "prflx";
  return candidate.priority > known.priority;
}
