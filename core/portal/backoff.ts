/**
 * How long to wait before the next attempt to reach the portal.
 *
 * Exponential from 0.5 s by 1.5 up to 60 s, each ±50 %, so that a fleet does not come back in step.
 * A budget, if there is one, bounds the time since the first failure after the last success.
 * @module
 */

import { randomBelow, type RandomBytes } from "../random.ts";
import { type Millis, NEVER } from "../units.ts";

const INITIAL_MS = 500;
const MULTIPLIER = 1.5;
const MAX_MS = 60_000;
const JITTER = 0.5;

/** Counts attempts and says how long to wait. */
export class Backoff {
  readonly #random: RandomBytes;
  readonly #budgetMs: number;
  #intervalMs = INITIAL_MS;
  #failingSince: Millis = NEVER;

  /** A backoff that has seen no failure.
   * @param random jitter
   * @param budgetMs how long failures may go on; unlimited if left out */
  constructor(random: RandomBytes, budgetMs = Infinity) {
    this.#random = random;
    this.#budgetMs = budgetMs;
  }

  /**
   * Notes a failure; how many milliseconds to wait, or `undefined` when the budget is used up.
   *
   * @param askedMs how long the other side asked us to wait, which then counts instead of ours
   */
  fail(now: Millis, askedMs?: number): number | undefined {
    if (this.#failingSince === NEVER) this.#failingSince = now;
    const leftMs = this.#failingSince + this.#budgetMs - now;
    if (leftMs <= 0) return undefined;
    const factor = 1 - JITTER + 2 * JITTER * randomBelow(this.#random, 1 << 16) / (1 << 16);
    const ownMs = Math.round(Math.min(this.#intervalMs, MAX_MS) * factor);
    this.#intervalMs = Math.min(this.#intervalMs * MULTIPLIER, MAX_MS);
    // The last attempt is made when the budget ends rather than never.
    return Math.min(askedMs ?? ownMs, leftMs);
  }

  /** Notes that the portal was reached: the budget is whole again, the interval stays. */
  succeed(): void {
    this.#failingSince = NEVER;
  }

  /** Starts over. */
  reset(): void {
    this.#failingSince = NEVER;
    this.#intervalMs = INITIAL_MS;
  }
}

/** The longest wait that we let a server ask for. */
const MAX_ASKED_MS = 3_600_000;

/**
 * How long a `Retry-After` header asks to wait, in milliseconds (RFC 9110 §10.2.3): seconds or a
 * date. `undefined` if it says nothing we understand.
 *
 * @param unixMs wall-clock time, for dates
 */
export function parseRetryAfter(value: string | undefined, unixMs: number): number | undefined {
  const text = value?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) return Math.min(Number(text) * 1000, MAX_ASKED_MS);
  // `Date.parse` is generous; a date of HTTP begins with the day's name.
  const at = /^[A-Za-z]{3,9},? /.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(at) ? undefined : Math.min(Math.max(0, at - unixMs), MAX_ASKED_MS);
}
