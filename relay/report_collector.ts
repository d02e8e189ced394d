/**
 * Asks the workers of a relay for their reports, and waits for all of them, but not for ever.
 * @module
 */

/** The main thread's end of what `report.ts` describes. */
export class ReportCollector {
  readonly #ask: () => number;
  #missing = 0;
  #round: PromiseWithResolvers<void> | undefined;

  /** Asks nobody yet.
   * @param ask asks every worker for a report; answers how many were asked */
  constructor(ask: () => number) {
    this.#ask = ask;
  }

  /** Asks all workers; resolves when all have reported, or after `limitMs`. Never rejects. */
  async refresh(limitMs: number): Promise<void> {
    // Whoever asks while others wait for the same shares their answer.
    if (this.#round === undefined) {
      this.#missing = this.#ask();
      if (this.#missing === 0) return;
      this.#round = Promise.withResolvers();
    }
    const round = this.#round;
    const timer = setTimeout(() => this.#end(round), limitMs);
    await round.promise;
    clearTimeout(timer);
  }

  /** A worker has reported. */
  noteReport(): void {
    // A report that comes too late counts for the next round, which is then over a little early.
    if (this.#round !== undefined && --this.#missing <= 0) this.#end(this.#round);
  }

  #end(round: PromiseWithResolvers<void>): void {
    if (this.#round === round) this.#round = undefined;
    round.resolve();
  }
}
