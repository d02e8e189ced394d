/**
 * Ticks at a fixed pace, for load that is offered at a rate.
 * @module
 */

/** Ticks that are made up for after a stall; what is late beyond that is left out. */
const MAX_LATE_TICKS = 3;

/** See the head of this file. */
export class Pace {
  readonly #tickMs: number;
  #next = 0;

  /** A pace that begins with {@link begin}. */
  constructor(tickMs: number) {
    this.#tickMs = tickMs;
  }

  /** The first tick is due now. */
  begin(nowMs: number): void {
    this.#next = nowMs;
  }

  /** Milliseconds until the next tick. */
  waitMs(nowMs: number): number {
    return Math.max(0, this.#next - nowMs);
  }

  /** Whether a tick is due; it counts as taken then. */
  take(nowMs: number): boolean {
    if (nowMs < this.#next) return false;
    this.#next = Math.max(this.#next, nowMs - MAX_LATE_TICKS * this.#tickMs) + this.#tickMs;
    return true;
  }
}
