/**
 * How often values fell between bounds: the state of a histogram.
 *
 *     bounds        b0        b1        b2
 *     buckets   [0]  |   [1]   |   [2]   |  [3]        a value on a bound belongs below it
 *
 * Cost: {@link Distribution.record} allocates nothing, so it may be called per packet.
 * @module
 */

/** What a distribution holds; plain data that can be sent to another thread. */
export interface DistributionValues {
  /** Values per bucket, one more than there are bounds. */
  readonly buckets: readonly number[];
  /** All values added up. */
  readonly sum: number;
  /** The smallest value; infinite if there was none. */
  readonly min: number;
  /** The largest value; negative infinity if there was none. */
  readonly max: number;
}

/** Counts values by bucket. */
export class Distribution {
  /** Upper ends of all buckets but the last, which has none; ascending. */
  readonly bounds: readonly number[];
  readonly #buckets: Float64Array;
  /** Sum, smallest, largest; in an array, where a new number makes no garbage. */
  readonly #span = new Float64Array([0, Infinity, -Infinity]);

  /** Nothing counted yet.
   * @param bounds ascending */
  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#buckets = new Float64Array(bounds.length + 1);
  }

  /** Counts a value. */
  record(value: number): void {
    const bounds = this.bounds;
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (value <= bounds[middle]!) high = middle;
      else low = middle + 1;
    }
    this.#buckets[low]!++;
    const span = this.#span;
    span[0]! += value;
    if (value < span[1]!) span[1] = value;
    if (value > span[2]!) span[2] = value;
  }

  /** Adds what another one counted within the same bounds. */
  merge(other: DistributionValues): void {
    for (let i = 0; i < this.#buckets.length; i++) this.#buckets[i]! += other.buckets[i] ?? 0;
    const span = this.#span;
    span[0]! += other.sum;
    span[1] = Math.min(span[1]!, other.min);
    span[2] = Math.max(span[2]!, other.max);
  }

  /** What was counted so far. */
  get values(): DistributionValues {
    const [sum, min, max] = this.#span;
    return { buckets: [...this.#buckets], sum: sum!, min: min!, max: max! };
  }

  /** What was counted since the last call. */
  take(): DistributionValues {
    const values = this.values;
    this.#buckets.fill(0);
    this.#span.set([0, Infinity, -Infinity]);
    return values;
  }
}

/** How many values a distribution has counted. */
export function countOf(values: DistributionValues): number {
  return values.buckets.reduce((sum, n) => sum + n, 0);
}
