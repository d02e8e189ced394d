/**
 * How much of something a stranger may have: so much at once, so much per second.
 * @module
 */

import type { Millis } from "@firezone/core/units";

/** A token bucket, full at first. */
export class RateLimit {
  readonly #capacity: number;
  readonly #perSecond: number;
  #left: number;
  #asOf: Millis;

  /** A full bucket.
   * @param capacity what may be taken at once
   * @param perSecond how fast it fills again */
  constructor(now: Millis, capacity: number, perSecond: number) {
    this.#capacity = capacity;
    this.#perSecond = perSecond;
    this.#left = capacity;
    this.#asOf = now;
  }

  /** Takes one; false when there is none left. */
  take(now: Millis): boolean {
    const left = this.#leftAt(now);
    this.#asOf = now;
    this.#left = left < 1 ? left : left - 1;
    return left >= 1;
  }

  /** Whether it is as good as new, so that it need not be remembered. */
  isFull(now: Millis): boolean {
    return this.#leftAt(now) >= this.#capacity;
  }

  #leftAt(now: Millis): number {
    const gained = (now - this.#asOf) / 1000 * this.#perSecond;
    return Math.min(this.#capacity, this.#left + gained);
  }
}

/** One {@link RateLimit} for each of many strangers. */
export class RateLimits {
  readonly #capacity: number;
  readonly #perSecond: number;
  readonly #limit: number;
  readonly #byName = new Map<string, RateLimit>();

  /** Nobody is known yet.
   * @param capacity what each may take at once
   * @param perSecond how fast each bucket fills again
   * @param limit how many strangers are remembered at most; the longest known is forgotten first */
  constructor(capacity: number, perSecond: number, limit = 10_000) {
    this.#capacity = capacity;
    this.#perSecond = perSecond;
    this.#limit = limit;
  }

  /** Takes one for `name`; false when there is none left. */
  take(now: Millis, name: string): boolean {
    let rateLimit = this.#byName.get(name);
    if (rateLimit === undefined) {
      if (this.#byName.size >= this.#limit) this.#forget(now);
      rateLimit = new RateLimit(now, this.#capacity, this.#perSecond);
      this.#byName.set(name, rateLimit);
    }
    return rateLimit.take(now);
  }

  #forget(now: Millis): void {
    for (const [name, rateLimit] of this.#byName) {
      if (rateLimit.isFull(now)) this.#byName.delete(name);
    }
    const [oldest] = this.#byName.keys();
    if (this.#byName.size >= this.#limit && oldest !== undefined) this.#byName.delete(oldest);
  }
}
