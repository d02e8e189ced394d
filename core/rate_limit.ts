/**
 * How much of something may be had: so much at once, so much per second.
 *
 * Cost: taking one allocates nothing (asserted in the test).
 * @module
 */

import type { Millis } from "./units.ts";

/** A token bucket, full at first. */
export class RateLimit {
  readonly #capacity: number;
  readonly #perSecond: number;
  /** What was left, and when; fields that begin as whole numbers would make garbage of fractions. */
  readonly #state: Float64Array;

  /** A full bucket.
   * @param capacity what may be taken at once
   * @param perSecond how fast it fills again */
  constructor(capacity: number, perSecond: number) {
    this.#capacity = capacity;
    this.#perSecond = perSecond;
    this.#state = new Float64Array([capacity, 0]);
  }

  /** Takes one; false when there is none left. */
  take(now: Millis): boolean {
    const left = this.#leftAt(now);
    this.#state[0] = left < 1 ? left : left - 1;
    this.#state[1] = now;
    return left >= 1;
  }

  /** Whether it is as good as new, so that it need not be remembered. */
  isFull(now: Millis): boolean {
    return this.#leftAt(now) >= this.#capacity;
  }

  #leftAt(now: Millis): number {
    const gained = (now - this.#state[1]!) / 1000 * this.#perSecond;
    return Math.min(this.#capacity, this.#state[0]! + gained);
  }
}
