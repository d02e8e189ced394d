/**
 * How much of something each of many strangers may have.
 * @module
 */

import { RateLimit } from "@firezone/core/rate_limit";
import type { Millis } from "@firezone/core/units";

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
      rateLimit = new RateLimit(this.#capacity, this.#perSecond);
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
