/**
 * Who got how much, and how long each was without anything: the books of the fairness bench.
 *
 * On a shared machine everything stands still now and then. Such a pause starves nobody in favour of
 * another, so beside the plain gaps there are those on a clock that stops while nobody gets anything.
 *
 * @module
 */

/** After so long without a packet for anyone, the {@link Arrivals} clock stops. */
const STANDSTILL_MS = 5;

/** What one client got. */
export interface Share {
  /** Packets. */
  readonly packets: number;
  /** The longest time without one, in milliseconds. */
  readonly gapMs: number;
  /** The same, without the time in which nobody got anything. */
  readonly starvedMs: number;
}

/** Counts arrivals per client, from the first call of {@link begin} on. */
export class Arrivals {
  readonly #packets: Float64Array;
  readonly #last: Float64Array;
  readonly #lastBusy: Float64Array;
  readonly #gap: Float64Array;
  readonly #starved: Float64Array;
  #now = 0;
  #busy = 0;

  /** Books for clients numbered from 0. */
  constructor(clients: number) {
    this.#packets = new Float64Array(clients);
    this.#last = new Float64Array(clients);
    this.#lastBusy = new Float64Array(clients);
    this.#gap = new Float64Array(clients);
    this.#starved = new Float64Array(clients);
  }

  /** Starts anew. */
  begin(nowMs: number): void {
    this.#packets.fill(0);
    this.beginGaps(nowMs);
  }

  /** Starts the gaps anew; packets go on counting. */
  beginGaps(nowMs: number): void {
    for (const column of [this.#gap, this.#starved]) column.fill(0);
    this.#last.fill(nowMs);
    this.#lastBusy.fill(0);
    this.#now = nowMs;
    this.#busy = 0;
  }

  /** Books packets of a client. @param nowMs never goes backwards */
  take(client: number, nowMs: number, packets = 1): void {
    if (!(client < this.#packets.length)) return;
    this.#busy += Math.min(nowMs - this.#now, STANDSTILL_MS);
    this.#now = nowMs;
    this.#packets[client]! += packets;
    this.#closeGap(client, nowMs);
  }

  /** The books, by client; gaps that are open end with the last packet that anyone got. */
  shares(): Share[] {
    return Array.from(this.#packets, (packets, client) => {
      this.#closeGap(client, this.#now);
      return { packets, gapMs: this.#gap[client]!, starvedMs: this.#starved[client]! };
    });
  }

  #closeGap(client: number, nowMs: number): void {
    this.#gap[client] = Math.max(this.#gap[client]!, nowMs - this.#last[client]!);
    this.#starved[client] = Math.max(
      this.#starved[client]!,
      this.#busy - this.#lastBusy[client]!,
    );
    this.#last[client] = nowMs;
    this.#lastBusy[client] = this.#busy;
  }
}
