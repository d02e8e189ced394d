/**
 * Candidates: addresses at which one end of a connection may be reached.
 *
 * Spec: RFC 8445 §5.1.1 to §5.1.3. Deviation: STUN and TURN servers take no part in the foundation,
 * since nothing here freezes pairs by it.
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";
import { formatCandidate } from "./candidate_sdp.ts";

/**
 * How an address was learned: it is our own, a STUN server told it, a check of the peer showed it,
 * or a relay lends it.
 */
export type CandidateKind = "host" | "srflx" | "prflx" | "relay";

/** What a {@link Candidate} is made from. */
export interface CandidateFields {
  /** How the address was learned. */
  readonly kind: CandidateKind;
  /** Where the peer sends to. */
  readonly address: SocketAddress;
  /** Where datagrams leave from, as their sender's own machine (or relay) names it. */
  readonly base: SocketAddress;
  /** 1 to 2^32 - 1; more is better. */
  readonly priority: number;
  /** Equal for candidates that are likely to share their fate. */
  readonly foundation: string;
  /** The address beneath this one; informative. */
  readonly relatedAddress?: SocketAddress | undefined;
  /** The user fragment that a candidate string named. */
  readonly ufrag?: string | undefined;
}

/** RFC 8445 §5.1.2.2. */
const TYPE_PREFERENCE: Readonly<Record<CandidateKind, number>> = {
  host: 126,
  prflx: 110,
  srflx: 100,
  relay: 0,
};

/** Among addresses of one kind IPv6 goes first (RFC 8421 §4). */
const LOCAL_PREFERENCE = { 4: 65_534, 6: 65_535 } as const;

/** Taken off relayed candidates of another family than that in which the relay is reached. */
const FAMILY_CHANGE_PENALTY = 32_768;

/** An immutable candidate, ours or the peer's. */
export class Candidate implements CandidateFields {
  /** How the address was learned. */
  readonly kind: CandidateKind;
  /** Where the peer sends to. */
  readonly address: SocketAddress;
  /** Our own or the relayed address that it stands for; the address itself if it is the peer's. */
  readonly base: SocketAddress;
  /** 1 to 2^32 - 1; more is better. */
  readonly priority: number;
  /** Equal for candidates that are likely to share their fate. */
  readonly foundation: string;
  /** The address beneath this one; informative. */
  readonly relatedAddress: SocketAddress | undefined;
  /** The user fragment that a candidate string named; it belongs to that generation alone. */
  readonly ufrag: string | undefined;
  /** Kind and address; equal keys mean the same candidate, whatever its base and priority. */
  readonly key: string;

  /** A candidate with all its fields given; the factories below compute what RFC 8445 says. */
  constructor(fields: CandidateFields) {
    this.kind = fields.kind;
    this.address = fields.address;
    this.base = fields.base;
    this.priority = fields.priority;
    this.foundation = fields.foundation;
    this.relatedAddress = fields.relatedAddress;
    this.ufrag = fields.ufrag;
    this.key = `${fields.kind} ${fields.address.key}`;
  }

  /** One of our own addresses. */
  static host(address: SocketAddress): Candidate {
    return Candidate.#of("host", address, address, undefined);
  }

  /** The address that a STUN server saw when `base` sent to it. */
  static serverReflexive(address: SocketAddress, base: SocketAddress): Candidate {
    return Candidate.#of("srflx", address, base, base);
  }

  /** An address from which a check came. @param priority as the check's PRIORITY said */
  static peerReflexive(address: SocketAddress, priority: number): Candidate {
    const foundation = foundationOf("prflx", address);
    return new Candidate({ kind: "prflx", address, base: address, priority, foundation });
  }

  /**
   * An address that a relay lends.
   *
   * @param relatedAddress ours as the relay sees it; a relayed address of its family is preferred
   */
  static relayed(address: SocketAddress, relatedAddress?: SocketAddress): Candidate {
    return Candidate.#of("relay", address, address, relatedAddress);
  }

  static #of(
    kind: CandidateKind,
    address: SocketAddress,
    base: SocketAddress,
    relatedAddress: SocketAddress | undefined,
  ): Candidate {
    let preference: number = LOCAL_PREFERENCE[address.family];
    if (relatedAddress && relatedAddress.family !== address.family) {
      preference -= FAMILY_CHANGE_PENALTY;
    }
    return new Candidate({
      kind,
      address,
      base,
      priority: priorityOf(kind, preference),
      foundation: foundationOf(kind, base),
      relatedAddress,
    });
  }

  /**
   * The priority that the peer shall give to the address it learns from our checks (§7.1.1).
   *
   * Deviation: a relayed candidate keeps its own, or the peer would take the relay for a direct path
   * until it hears of the candidate.
   */
  get checkPriority(): number {
    if (this.kind === "relay") return this.priority;
    return TYPE_PREFERENCE.prflx * 0x1000000 + this.priority % 0x1000000;
  }

  /** The candidate as an SDP attribute value, see `candidate_sdp.ts`. */
  toSdp(ufrag?: string): string {
    return formatCandidate(this, ufrag);
  }
}

/** §5.1.2.1 for component 1. */
function priorityOf(kind: CandidateKind, localPreference: number): number {
  return TYPE_PREFERENCE[kind] * 0x1000000 + localPreference * 0x100 + 255;
}

/** FNV-1a over kind and base address, in decimal. */
function foundationOf(kind: CandidateKind, base: SocketAddress): string {
  let hash = 0x811c9dc5;
  for (const char of `${kind} ${base.ip.text}`) {
    hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193);
  }
  return String(hash >>> 0);
}
