/**
 * A simulated link: how long a datagram takes and whether it arrives.
 * @module
 */

import type { RandomBytes } from "../random.ts";
import { randomBelow } from "../random.ts";

/** How good a link is; the same in both directions. */
export interface LinkOptions {
  /** One-way delay in milliseconds; default 5. */
  readonly delayMs?: number;
  /** Up to so many milliseconds more, drawn per datagram, which reorders them; default 0. */
  readonly jitterMs?: number;
  /** Chance that a datagram is lost, 0 to 1; default 0. */
  readonly loss?: number;
  /** Chance that a datagram arrives twice, 0 to 1; default 0. */
  readonly duplication?: number;
  /** Largest IP packet that passes, headers included; default 1500. Larger ones vanish. */
  readonly mtu?: number;
}

/** A link with all its options set; they may be changed while it is in use. */
export class Link {
  /** One-way delay in milliseconds. */
  delayMs: number;
  /** Up to so many milliseconds more, drawn per datagram. */
  jitterMs: number;
  /** Chance that a datagram is lost, 0 to 1. */
  loss: number;
  /** Chance that a datagram arrives twice, 0 to 1. */
  duplication: number;
  /** Largest IP packet that passes. */
  mtu: number;

  /** A link of the given quality. */
  constructor(options: LinkOptions = {}) {
    this.delayMs = options.delayMs ?? 5;
    this.jitterMs = options.jitterMs ?? 0;
    this.loss = options.loss ?? 0;
    this.duplication = options.duplication ?? 0;
    this.mtu = options.mtu ?? 1500;
  }

  /** The delays after which copies of one datagram arrive; none where it is lost. */
  delays(random: RandomBytes): number[] {
    if (happens(random, this.loss)) return [];
    const copies = happens(random, this.duplication) ? 2 : 1;
    return Array.from({ length: copies }, () => this.delayMs + jitter(random, this.jitterMs));
  }
}

/** Draws only where the outcome is open, so that a quiet link does not move the others' luck. */
function happens(random: RandomBytes, chance: number): boolean {
  if (chance <= 0) return false;
  if (chance >= 1) return true;
  return randomBelow(random, 1_000_000) < chance * 1_000_000;
}

function jitter(random: RandomBytes, jitterMs: number): number {
  return jitterMs <= 0 ? 0 : randomBelow(random, 1001) / 1000 * jitterMs;
}
