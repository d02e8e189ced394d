/**
 * Tells a peer that is gone from a network of ours that is away.
 *
 *     listening ── 15 s without a word ──► relays asked ── 1.5 s more ──► one has answered: gone
 *         ▲                                     │                  └───► none has: ICE decides
 *         └───────── a word of the peer ────────┘
 *
 * ICE alone takes longer to give a peer up than its timeout says: the time of each pair starts with
 * the first check that is not answered, pairs that answered later live longer, and two seconds of
 * grace follow, in case it was our own network that was away. Where a relay answers it is not.
 *
 * Owns: when to ask and when to judge. Does not own: the question, and the connection's end.
 * Cost: a word of the peer is one store, and no garbage (asserted in the test).
 * @module
 */

import { after, type Millis, NEVER } from "../units.ts";
import { PEER_SILENCE_MS, RELAY_ANSWER_MS } from "./timing.ts";

/** See the head of this file. */
export class PeerSilence {
  /** No whole number at first: V8 then keeps it in place, without garbage. */
  #heardAt: Millis = -Infinity as Millis;
  #askedAt: Millis = -Infinity as Millis;
  #judgedAt: Millis = -Infinity as Millis;

  /** Listens from now on. */
  constructor(now: Millis) {
    this.#heardAt = now;
  }

  /** When relays were asked last. */
  get askedAt(): Millis {
    return this.#askedAt;
  }

  /** Something authentic came from the peer, or there is a reason to give it all the time again. */
  noteHeard(now: Millis): void {
    this.#heardAt = now;
  }

  /** What is to be done now, once: ask the relays, or give the peer up if one has answered. */
  takeDue(now: Millis): "ask" | "judge" | undefined {
    if (now < this.pollTimeout()) return undefined;
    if (this.#askedAt <= this.#heardAt) {
      this.#askedAt = now;
      return "ask";
    }
    this.#judgedAt = now;
    return "judge";
  }

  /** When {@link takeDue} has something. */
  pollTimeout(): Millis {
    if (this.#askedAt <= this.#heardAt) {
      return after(this.#heardAt, PEER_SILENCE_MS - RELAY_ANSWER_MS);
    }
    return this.#judgedAt <= this.#heardAt ? after(this.#askedAt, RELAY_ANSWER_MS) : NEVER;
  }
}
