/**
 * The pairs of one agent and the checks that are under way on them.
 *
 * Spec: RFC 8445 §6.1.2. Pairs with the same local base and remote address are one, so
 * server-reflexive local candidates never make pairs beside those of their base (§6.1.2.4).
 * Holds: at most {@link MAX_PAIRS} pairs; every transaction belongs to a pair that is in the list.
 * Order is insertion order.
 * @module
 */

import { earlier, type Millis, NEVER } from "../units.ts";
import type { Candidate } from "./candidate.ts";
import type { Check, Checks } from "./checks.ts";
import { CandidatePair, pairKey, type PairState } from "./pair.ts";

/** Pairs that one agent checks; the least promising make room for better ones. */
export const MAX_PAIRS = 200;

/** Checks of one pair that may still be answered; enough for the most patient client timing. */
const MAX_IN_FLIGHT = 16;

/** What is worth least is dropped first. */
const WORTH: Readonly<Record<PairState, number>> = {
  "failed": 0,
  "lost": 1,
  "waiting": 2,
  "in-progress": 2,
  "succeeded": 3,
};

/** See the head of this file. */
export class Checklist {
  readonly #pairs = new Map<string, CandidatePair>();
  readonly #checks: Checks;

  /** No pairs.
   * @param checks where the checks under way are kept */
  constructor(checks: Checks) {
    this.#checks = checks;
  }

  /** Number of pairs. */
  get size(): number {
    return this.#pairs.size;
  }

  /** All pairs in the order in which they were formed. */
  pairs(): IterableIterator<CandidatePair> {
    return this.#pairs.values();
  }

  /** The pair of these candidates. */
  find(local: Candidate, remote: Candidate): CandidatePair | undefined {
    return this.#pairs.get(pairKey(local, remote));
  }

  /**
   * Forms a pair, or returns the one that is there.
   *
   * @param keep a pair that must not make room
   * @returns `undefined` when the list is full of more promising ones
   */
  form(
    now: Millis,
    local: Candidate,
    remote: Candidate,
    controlling: boolean,
    keep: CandidatePair | undefined,
  ): CandidatePair | undefined {
    const known = this.find(local, remote);
    if (known) return known;
    const pair = new CandidatePair(now, local, remote, controlling);
    if (this.#pairs.size >= MAX_PAIRS) {
      const worst = this.#worst(keep);
      if (!worst || !isWorthLess(worst, pair)) return undefined;
      this.remove(worst);
    }
    this.#pairs.set(pair.key, pair);
    return pair;
  }

  /** Removes a pair with its checks. */
  remove(pair: CandidatePair): void {
    this.#pairs.delete(pair.key);
    for (const id of pair.inFlight.splice(0)) this.#checks.delete(id);
  }

  /** Remembers a check that leaves now. */
  addCheck(id: string, check: Check): void {
    const { inFlight } = check.pair;
    if (inFlight.length >= MAX_IN_FLIGHT) this.#checks.delete(inFlight.shift()!);
    inFlight.push(id);
    this.#checks.add(id, check);
  }

  /** Forgets a check, since it was answered. */
  endCheck(id: string, check: Check): void {
    this.#checks.delete(id);
    const { inFlight } = check.pair;
    const at = inFlight.indexOf(id);
    if (at >= 0) inFlight.splice(at, 1);
  }

  /** Removes all pairs. */
  clear(): void {
    for (const pair of [...this.#pairs.values()]) this.remove(pair);
  }

  /** The earliest deadline of any pair. */
  next(timeoutMs: number): Millis {
    let at = NEVER;
    for (const pair of this.#pairs.values()) {
      at = earlier(at, earlier(pair.dueAt, pair.failsAt(timeoutMs)));
    }
    return at;
  }

  /** Pairs whose check is due: `first` before all others, then the best before the worse. */
  due(now: Millis, first: CandidatePair | undefined): CandidatePair[] {
    const due = [...this.#pairs.values()].filter((pair) => pair.dueAt <= now);
    return due.sort((a, b) => {
      if (a === first || b === first) return a === first ? -1 : 1;
      return byPriority(a, b);
    });
  }

  #worst(keep: CandidatePair | undefined): CandidatePair | undefined {
    let worst: CandidatePair | undefined;
    for (const pair of this.#pairs.values()) {
      if (pair !== keep && (!worst || isWorthLess(pair, worst))) worst = pair;
    }
    return worst;
  }
}

function isWorthLess(a: CandidatePair, b: CandidatePair): boolean {
  const difference = WORTH[a.state] - WORTH[b.state];
  return difference !== 0 ? difference < 0 : a.priority < b.priority;
}

function byPriority(a: CandidatePair, b: CandidatePair): number {
  return a.priority === b.priority ? 0 : a.priority > b.priority ? -1 : 1;
}
